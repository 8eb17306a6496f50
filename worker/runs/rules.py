"""What makes two requests of a run the same, which cap a job has met, and what is said of it. Pure.

A loop seldom asks the very same twice: its prompt counts the attempts, or says what time it is. So white space, letter
case, dated or labelled readings of a clock and numbered attempts are left out of the comparison. Other numbers, dates,
round times and ids stay in it, for they are what legitimate work differs by (page 7, ticket 1017, the hour from
10:00:00); documents and the inputs of an embedding are compared to the letter.

A conversation that grows is never the same request twice. Of one with more messages than these, its last two turns are
compared as well, and count only when it has grown since they were last seen: in a map over inputs that end in the same
question, nothing grows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic_core import to_json

from producer_sdk.contract import ErrorCode, Job, JobError, Message
from worker.routing_file import Tier

Cap = Literal["calls", "wall_time", "repeats", "stopped"]
TURNS = 2
_PARAMS = {"params"}
# To the second, not on the full minute, and with a date or a label: a clock's reading, not a time that is asked about.
_CLOCK = re.compile(
    r"\b(?:\d{4}-\d\d-\d\d[t ]|(time|now)\W{1,4}(?:\d{4}-\d\d-\d\d[t ])?)"
    r"\d\d:\d\d:(?!00(?:[.,]0+)?(?![.,]?\d))\d\d(?:[.,]\d+)?(?:z|[+-]\d\d:?\d\d)?\b"
)
_STAMP = re.compile(r"\b(timestamp|epoch|now|time)(\W{1,4})\d{10,19}\b")
_COUNTER = re.compile(r"\b(attempt|retry|try|tries|retries|iteration|loop)([\s_#:=.(-]{0,4})\d+\b")
_ORDINAL = re.compile(r"\b\d+(?:st|nd|rd|th)[\s_-](attempt|retry|try|iteration)\b")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Sameness:
    """What a request is compared by. `turns`: its last ones, None where the request is hardly more than these."""

    request: str
    turns: str | None
    messages: int


@dataclass(frozen=True)
class Met:
    """The cap that a job has met, in its run or one above; `was_put_before`: before its run was stopped."""

    cap: Cap
    run_id: str
    why: str = ""
    was_put_before: bool = False


def normalised(text: str) -> str:
    """The text without what a loop changes from one time to the next."""
    plain = _SPACE.sub(" ", text.casefold()).strip()
    plain = _STAMP.sub(r"\1\2", _CLOCK.sub(r"\1", plain))
    return _ORDINAL.sub(r"\1", _COUNTER.sub(r"\1\2", plain))


def sameness(job: Job) -> Sameness:
    """What this request is compared by; takes time in proportion to its length."""
    frame = to_json(
        [
            job.task,
            job.prompt_version,
            job.model_dump(include=_PARAMS, exclude_defaults=True),
            [[document.id, document.text] for document in job.documents],
            *([job.inputs] if job.inputs else []),
        ]
    )
    turns = [_turn(message) for message in job.messages]
    grows = len(turns) > TURNS
    last = _digest(frame, turns[-TURNS:]) if grows else None
    return Sameness(_digest(frame, turns), last, len(turns))


def _turn(message: Message) -> bytes:
    """Who says what. Ids of tool calls are drawn anew each time, so they are left out."""
    parts = [] if isinstance(message.content, str) else message.content
    images = [part.url for part in parts if part.type == "image"]
    calls = [[call.name, normalised(to_json(call.arguments).decode())] for call in message.tool_calls]
    return to_json([message.role, message.name, normalised(message.text), images, calls])


def _digest(frame: bytes, turns: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in (frame, *turns):
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()[:32]


def recounted(requests: Iterable[Sameness]) -> dict[str, tuple[int, int]]:
    """How often each digest has come, and with how many messages last, as begin.lua counts them one after the other."""
    seen: dict[str, tuple[int, int]] = {}
    for one in requests:
        for digest in (one.request, f"turns:{one.turns}" if one.turns else None):
            times, last = seen.get(digest, (0, 0)) if digest else (0, 0)
            if digest and (digest == one.request or one.messages > last):
                seen[digest] = (times + 1, one.messages)
    return seen


def depth(job: Job, runs: Sequence[str]) -> int:
    """How many runs a job is below the first: as it says itself, and as the tree is known, whichever is deeper."""
    above = len(runs) - 1 if job.run_id is not None else len(runs)
    return max(job.depth, above)


def too_deep(job: Job, runs: Sequence[str], tier: Tier) -> JobError | None:
    """The end of a job that is deeper than its tier allows."""
    found = depth(job, runs)
    if tier.run_max_depth is None or found <= tier.run_max_depth:
        return None
    return JobError.of(
        ErrorCode.RUN_CAP,
        f"the job is {found} runs deep and tier '{tier.name}' allows {tier.run_max_depth} (run_max_depth): "
        "let a run above do this work",
        reason="depth",
    )


def end_of(met: Met, tier: Tier) -> JobError:
    """The end of a job that has met a cap."""
    run = f"run '{met.run_id}'"
    if met.cap == "stopped":
        why = f" ({met.why})" if met.why else ""
        if met.was_put_before:
            return JobError.of(ErrorCode.CANCELLED, f"{run} was stopped{why} before the job ran")
        return JobError.of(
            ErrorCode.RUN_CAP, f"{run} was stopped{why}: begin a new run", reason="stopped", retryable=False
        )
    if met.cap == "repeats":
        return JobError.of(
            ErrorCode.LOOP_DETECTED,
            f"{run} has asked the same {tier.run_max_repeats} times, and tier '{tier.name}' allows no more "
            "(run_max_repeats): end the loop, or ask something else",
            reason="repeats",
        )
    if met.cap == "calls":
        return JobError.of(
            ErrorCode.RUN_CAP,
            f"{run} has had its {tier.run_max_calls} jobs, with those of the runs below it (run_max_calls of tier "
            f"'{tier.name}'): begin a new run, or ask for a higher cap",
            reason="calls",
        )
    return JobError.of(
        ErrorCode.RUN_CAP,
        f"{run} began more than {tier.run_max_seconds} s ago (run_max_seconds of tier '{tier.name}'): begin a new run",
        reason="wall_time",
    )
