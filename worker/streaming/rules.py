"""What of an answer may be streamed and when, and how it is cut into events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from producer_sdk.contract import JobResult, StreamEvent, ToolCall
from worker.job_run import JobRun

When = Literal["live", "after_check", "never"]
PIECE_CHARACTERS = (
    4_096  # an event at most: what a fast model says in some seconds, so only kept answers are cut
)
LONGEST_WHOLE_CHARACTERS = 500_000  # what is longer is read from the result: a stream cannot keep it


def when(job_run: JobRun) -> When:
    """An answer that a check may still refuse is not shown before the check has passed it."""
    if not job_run.job.stream:
        return "never"
    return "after_check" if job_run.answer_checks else "live"


def texts(pieces: Iterable[str], *, attempt: int, at: int) -> Iterator[StreamEvent]:
    """As few events as may carry the text, which begins after `at` characters."""
    text = "".join(pieces)
    for start in range(0, len(text), PIECE_CHARACTERS):
        piece = text[start : start + PIECE_CHARACTERS]
        yield StreamEvent(kind="text", attempt=attempt, at=at + start, text=piece)


def told_by(result: JobResult) -> int:
    """The number of the attempt that gave the answer; 0 where a cache did."""
    is_called = result.cache in ("none", "provider") and bool(result.attempts)
    return result.attempts[-1].number if is_called else 0


def calls(tool_calls: Iterable[ToolCall], *, attempt: int) -> StreamEvent | None:
    """What the answer asks for; None where that is nothing, or too long for a stream."""
    event = StreamEvent(kind="tool_calls", attempt=attempt, tool_calls=list(tool_calls))
    return event if event.tool_calls and len(event.written()) <= LONGEST_WHOLE_CHARACTERS else None


def ending(result: JobResult) -> StreamEvent:
    """The last event of a job's stream."""
    return StreamEvent(kind="end", attempt=told_by(result), status=result.status, length=len(result.text))
