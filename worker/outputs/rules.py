"""What an answer must be for its job, how the model is told, and what it is told when it was wrong. Pure.

What was wrong is said in words that repeat nothing of the answer: it goes into errors, and into the next prompt,
where a document's words would speak as the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from producer_sdk.contract import Citation, ErrorCode, Job, JobError, Message
from worker.outputs import citations, schemas
from worker.routing_file import TaskRule

MOST_TOLD = 5


@dataclass(frozen=True)
class Verdict:
    """What an answer holds beside its text; with `code`, why it is not the job's, in `wrong`.

    `noted`: the same without a word of the job's schema, for its story, which is kept for longer than its content.
    """

    data: JsonValue = None
    citations: tuple[Citation, ...] = ()
    code: ErrorCode | None = None
    wrong: str = ""
    noted: str = ""


def checks(job: Job, task: TaskRule) -> tuple[str, ...]:
    """What an answer to this job must pass, by name."""
    asked = (
        ("citations", task.requires_citations),
        ("response_schema", job.params.response_schema is not None),
    )
    return tuple(name for name, is_asked in asked if is_asked)


def impossible(job: Job, task: TaskRule) -> JobError | None:
    """Why no answer could ever be right for this job."""
    if task.requires_citations and not job.documents:
        message = (
            f"task '{task.name}' requires citations and the job has no documents: give it the documents to "
            "cite, or use a task without requires_citations"
        )
        return JobError.of(ErrorCode.INVALID_JOB, message, reason="documents")
    schema = job.params.response_schema
    why = None if schema is None else schemas.refusal(schema)
    if why is None:
        return None
    message = f"params.response_schema cannot be used: {why}: mend the schema"
    return JobError.of(ErrorCode.INVALID_JOB, message, reason="response_schema")


def with_form(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with the form of a citation before the last user message.

    It is the same text for every job, and static where that message is, so that no static prefix ends before it.
    """
    users = [number for number, message in enumerate(messages) if message.role == "user"]
    place = users[-1] if users else len(messages)
    key = messages[place].cache_key if users else None
    ttl = messages[place].cache_ttl if users else "5m"
    form = Message(role="user", content=citations.FORM, cache_key=key, cache_ttl=ttl)
    return (*messages[:place], form, *messages[place:])


def verdict(job: Job, task: TaskRule, text: str) -> Verdict:
    """Whether the text is an answer to the job, and the data and citations in it."""
    data: JsonValue = None
    read = [text]
    if job.params.response_schema is not None:
        data, faults = schemas.read(text, job.params.response_schema)
        if faults:
            places = "; ".join(fault.partition(": ")[0] for fault in faults)
            return Verdict(code=ErrorCode.INVALID_OUTPUT, wrong="; ".join(faults), noted=places)
        read = list(schemas.texts(data))
    if not task.requires_citations:
        return Verdict(data)
    checked = citations.check("\n".join(read), job.documents)
    if checked.wrong:
        wrong = "; ".join(checked.wrong[:MOST_TOLD])
        return Verdict(code=ErrorCode.CITATIONS_MISSING, wrong=wrong, noted=wrong)
    return Verdict(data, checked.citations)


def asked_again(text: str, found: Verdict) -> tuple[Message, ...]:
    """What a re-ask adds to the messages: the answer, if it said anything, and what is wrong with it."""
    form = (
        citations.FORM
        if found.code == ErrorCode.CITATIONS_MISSING
        else "Answer with JSON that fits the schema, alone."
    )
    said = (Message(role="assistant", content=text),) if text.strip() else ()
    told = f"This answer cannot be used: {found.wrong}.\nGive the whole answer again, without a word about this. {form}"
    return (*said, Message(role="user", content=told))
