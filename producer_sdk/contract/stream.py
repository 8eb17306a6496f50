"""What a job's stream holds: its answer as it comes, one event an entry (docs/wire.md)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import pydantic_core
from pydantic import Field, ValidationError

from producer_sdk.contract.job import Frozen, ToolCall
from producer_sdk.contract.result import JobStatus

EVENT_FIELD = b"event"  # an entry's one field
StreamKind: TypeAlias = Literal["begin", "text", "tool_calls", "end"]


class StreamEvent(Frozen):
    """One step of a job's answer.

    begin: an answer begins, and every `text` and `tool_calls` before it is void: after a fallback, a re-ask, or a
    worker that was lost. text: more of it; `at` is how many characters of it came before. tool_calls: what the answer
    asks for. end: the job has ended with `status`, its result is there, and `length` is that of the result's text.

    `attempt` is the number of the provider call that says it, 0 where none was made (a kept answer). `id` is the
    event's place in the stream, from where a reader goes on; it is the entry's own and not in its JSON.
    """

    kind: StreamKind
    attempt: Annotated[int, Field(ge=0)] = 0
    at: Annotated[int, Field(ge=0)] = 0
    text: str = ""
    tool_calls: list[ToolCall] = []
    status: JobStatus | None = None
    length: Annotated[int, Field(ge=0)] = 0
    id: Annotated[str, Field(exclude=True)] = ""

    def written(self) -> bytes:
        """As it stands in an entry."""
        return self.model_dump_json(exclude_defaults=True).encode()


def read_event(entry_id: str, written: bytes) -> StreamEvent | None:
    """The event of an entry; None for a kind that this version does not know, or what is no event.

    Fields that a newer worker has added are left out.
    """
    try:
        fields = pydantic_core.from_json(written)
        return StreamEvent.model_validate({**fields, "id": entry_id}, extra="ignore")
    except (ValueError, TypeError, ValidationError):
        return None
