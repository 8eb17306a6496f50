"""What an attempt's end means for the books, and a job's end for its producer. Pure, but for the job's own notes."""

from __future__ import annotations

from dataclasses import replace

from pydantic import JsonValue

from producer_sdk.contract import (
    AttemptSummary,
    ErrorCode,
    JobError,
    JobResult,
    Usage,
    to_pico,
    to_usd,
)
from worker.errors import ProviderError
from worker.job_run import Answer, Attempt, WrongAnswer
from worker.ledger.records import Settlement

# These forbid another attempt; they do not say that the earlier ones have failed.
FORBIDS_ANOTHER = frozenset(
    {
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.EXPIRED,
        ErrorCode.COST_LIMIT,
        ErrorCode.BUDGET_EXCEEDED,
        ErrorCode.RETRY_CAP,
        ErrorCode.RUN_CAP,
        ErrorCode.LOOP_DETECTED,
    }
)


def end_of(error: JobError, *, unresolved_attempts: int) -> JobError:
    """How the job ends: `uncertain` when another attempt is forbidden and an earlier one may have been answered."""
    if not unresolved_attempts or error.code not in FORBIDS_ANOTHER:
        return error
    return JobError.of(
        ErrorCode.UNCERTAIN,
        f"{unresolved_attempts} attempt{'s' if unresolved_attempts > 1 else ''} of this job may have been answered and "
        f"billed before a worker was lost, and there can be no other ({error.code}: {error.message}): check the "
        "effect, then submit it anew if it is needed",
        reason=str(error.code),
    )


def answer_of(result: JobResult) -> Answer:
    """The answer that stands for a final row."""
    return Answer(
        text=result.text,
        usage=result.usage,
        model=result.model or "",
        provider=result.provider or "",
        deployment=result.deployment or "",
        cost_pico=to_pico(result.cost_usd),
        latency_ms=result.latency_ms,
        tool_calls=tuple(result.tool_calls),
        citations=tuple(result.citations),
        data=result.data,
        vectors=result.vectors,
        cache=result.cache,
        saved_pico=to_pico(result.saved_usd),
        standing=result,
    )


def of_answer(attempt: Attempt, answer: Answer) -> Settlement:
    """An answer whose tokens or price nobody knows is `uncertain`: it costs the worst case, a bound and no guess."""
    worst = attempt.call.highest_pico
    why = "usage_unknown" if answer.usage == Usage() else answer.price_flag
    cost = worst if why else answer.cost_pico
    return Settlement(
        state="uncertain" if why else "settled",
        cost_pico=cost,
        usage=answer.usage,
        model=answer.model,
        latency_ms=answer.latency_ms,
        error_code=why,
        saved_pico=answer.saved_pico,
        over_reserved=cost > worst,
        rate_card_id=answer.rate_card_id,
        list_pico=None if why else answer.list_pico,
    )


def of_failure(attempt: Attempt, error: ProviderError, *, latency_ms: int) -> Settlement:
    """A failed attempt costs what the provider bills for it; where nobody knows, the worst case.

    A wrong answer costs what a right one would.
    """
    if isinstance(error, WrongAnswer):
        answered = of_answer(attempt, error.answer)
        is_known = answered.state == "settled"
        return replace(answered, state="failed" if is_known else answered.state, error_code=error.code)
    if not attempt.sent:
        return Settlement("void", 0, latency_ms=latency_ms, error_code=str(error.kind))
    worst, usage = attempt.call.highest_pico, error.usage
    is_priced = error.billed == "no" or (error.billed == "yes" and usage is not None)
    cost = 0 if error.billed == "no" else attempt.call.card.cost(usage) if usage and is_priced else worst
    list_pico = None
    if attempt.call.own_key:
        cost, list_pico = 0, cost if is_priced else None
    return Settlement(
        state="failed" if is_priced else "uncertain",
        cost_pico=cost,
        usage=usage or Usage(),
        latency_ms=latency_ms,
        error_code=str(error.kind),
        over_reserved=cost > worst,
        list_pico=list_pico,
    )


def of_interruption(attempt: Attempt, why: BaseException, *, latency_ms: int) -> Settlement:
    """A call that was cut off may have been billed; one that was never sent costs nothing."""
    code = "cancelled" if isinstance(why, Exception) is False else type(why).__name__
    if not attempt.sent:
        return Settlement("void", 0, latency_ms=latency_ms, error_code=code)
    return Settlement("uncertain", attempt.call.highest_pico, latency_ms=latency_ms, error_code=code)


def begun(attempt: Attempt) -> dict[str, JsonValue]:
    """What the job's story says of an attempt that is journalled, and about to be called."""
    return {
        "attempt": attempt.number,
        "id": str(attempt.id),
        "deployment": attempt.call.deployment.name,
        "worst_usd": f"{to_usd(attempt.call.highest_pico):f}",
        "timeout_ms": int(attempt.timeout_s * 1000),
        "re_ask": bool(attempt.call.follow_up) or None,
    }


def told(attempt: Attempt, settlement: Settlement) -> dict[str, JsonValue]:
    """What the job's story says of an attempt that has ended. `called_ms`: after it was made, before its call.

    `silent_ms`: for how long it said nothing when another's first token closed it.
    """
    usage = settlement.usage
    return {
        "attempt": attempt.number,
        "id": str(attempt.id),
        "deployment": attempt.call.deployment.name,
        "error": settlement.error_code,
        "cost_usd": f"{to_usd(settlement.cost_pico):f}",
        "called_ms": attempt.called_ms,
        "first_byte_ms": attempt.first_byte_ms,
        "latency_ms": settlement.latency_ms,
        "silent_ms": attempt.silent_ms,
        "input_tokens": usage.input_tokens or None,
        "output_tokens": usage.output_tokens or None,
        "over_reserved": settlement.over_reserved or None,
    }


def result_of(result: JobResult) -> dict[str, JsonValue]:
    """What the job's story says of its end. Its sentence stays in the result, with the content."""
    error = result.error
    return {
        "code": str(error.code) if error else None,
        "reason": error.reason if error else None,
        "cost_usd": f"{result.cost_usd:f}",
        "saved_usd": f"{result.saved_usd:f}" if result.saved_usd else None,
        "cache": result.cache if result.cache != "none" else None,
        "deployment": result.deployment,
        "attempts": len(result.attempts),
        "latency_ms": result.latency_ms,
    }


def note(attempt: Attempt, settlement: Settlement) -> None:
    """Put the attempt on its job's list and bill, and into its story."""
    attempt.job_run.story.note("attempt", settlement.state, **told(attempt, settlement))
    deployment, job_run = attempt.call.deployment, attempt.job_run
    job_run.spent_pico += settlement.cost_pico
    job_run.attempts.append(
        AttemptSummary(
            attempt_id=attempt.id,
            number=attempt.number,
            provider=deployment.provider.name,
            deployment=deployment.name,
            model=settlement.model or deployment.model,
            status=settlement.state,
            error=settlement.error_code,
            latency_ms=settlement.latency_ms or 0,
            cost_usd=to_usd(settlement.cost_pico),
            usage=settlement.usage,
        )
    )
