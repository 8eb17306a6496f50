"""What is untrusted in a job, and what a tier makes of the rules that it meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from producer_sdk.contract import ErrorCode, Finding, Job, JobError
from worker.routing_file import Action, Tier
from worker.safety.rules import Channel, Verdict

MOST_FINDINGS = 500  # a result has room for them beside its vectors


@dataclass(frozen=True)
class Untrusted:
    """One text that a third party may have written, and where it stands in the job."""

    where: str
    channel: Channel
    text: str
    is_followed: bool = True  # a model reads it; what only becomes a vector is never followed


@dataclass(frozen=True)
class Screened:
    """Every finding, and the end of the job if one of them blocks it."""

    findings: tuple[Finding, ...]
    error: JobError | None


def untrusted_texts(job: Job) -> tuple[Untrusted, ...]:
    """Tool results, documents and inputs, in the job's order; empty texts are left out."""
    tools = (
        Untrusted(f"messages[{number}]", "tool_result", message.text)
        for number, message in enumerate(job.messages)
        if message.role == "tool"
    )
    documents = (
        Untrusted(f"documents[{number}]", "document", "\n".join(filter(None, (doc.title, doc.url, doc.text))))
        for number, doc in enumerate(job.documents)
    )
    inputs = (
        Untrusted(f"inputs[{number}]", "document", text, is_followed=False)
        for number, text in enumerate(job.inputs)
    )
    return tuple(found for found in (*tools, *documents, *inputs) if found.text)


def screen(texts: Sequence[Untrusted], verdicts: Sequence[Verdict], tier: Tier) -> Screened:
    """Strong rules are acted on as the tier says, weak ones are flagged, as are all in what no model follows."""
    actions: dict[Channel, Action] = {
        "tool_result": tier.unsafe_tool_result,
        "document": tier.unsafe_document,
    }
    findings: list[Finding] = []
    blocking: Untrusted | None = None
    for text, verdict in zip(texts, verdicts, strict=True):
        blocks = bool(verdict.strong) and text.is_followed and actions[text.channel] == "block"
        blocking = blocking or (text if blocks else None)
        findings += (
            Finding(rule=rule, where=text.where, action="blocked" if blocks else "flagged")
            for rule in verdict.strong
        )
        findings += (Finding(rule=rule, where=text.where, action="flagged") for rule in verdict.weak)
    if len(findings) > MOST_FINDINGS:
        more = f"{len(findings) - MOST_FINDINGS} more findings"
        rest = Finding(rule="more", where="job", action="flagged", detail=more)
        findings = [*sorted(findings, key=lambda one: one.action != "blocked")[:MOST_FINDINGS], rest]
    return Screened(tuple(findings), _blocked(blocking, findings) if blocking else None)


def _blocked(text: Untrusted, findings: Sequence[Finding]) -> JobError:
    rules = ", ".join(f.rule for f in findings if f.where == text.where and f.action == "blocked")
    is_tool = text.channel == "tool_result"
    what = "the result of a tool" if is_tool else "a document"
    code = ErrorCode.UNSAFE_TOOL_RESULT if is_tool else ErrorCode.UNSAFE_INPUT
    setting = "unsafe_tool_result" if is_tool else "unsafe_document"
    message = (
        f"{text.where}: {what} speaks to the model as if it were the user ({rules}): "
        f"leave it out, or set `{setting}: flag` for this tier"
    )
    return JobError.of(code, message, reason=rules)
