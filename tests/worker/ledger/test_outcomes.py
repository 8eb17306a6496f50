"""What an attempt's end means for the books, and a job's end for its producer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from producer_sdk.contract import ErrorCode, JobError, Usage
from tests.worker.job_runs import answer_of
from tests.worker.ledger.writing import WORST, attempt_with, final_of, run_with
from worker.errors import FailureKind, LeaseLost, ProviderError
from worker.job_run import Answer, WrongAnswer
from worker.ledger import outcomes

USAGE = Usage(input_tokens=10, output_tokens=2)


def failure(**fields) -> ProviderError:
    return ProviderError(FailureKind.STREAM_BROKEN, "the stream broke", **fields)


def sent(**fields):
    attempt = attempt_with(**fields)
    attempt.sent = True
    return attempt


def test_an_answer_costs_what_it_says():
    settlement = outcomes.of_answer(sent(), answer_of(cost_pico=120))
    assert (settlement.state, settlement.cost_pico, settlement.over_reserved) == ("settled", 120, False)


def test_an_answer_that_costs_more_than_was_reserved_is_booked_as_it_is_and_flagged():
    settlement = outcomes.of_answer(sent(), answer_of(cost_pico=WORST + 1))
    assert (settlement.cost_pico, settlement.over_reserved) == (WORST + 1, True)


def test_an_answer_that_nobody_can_price_is_uncertain_at_the_worst_case():
    settlement = outcomes.of_answer(sent(), replace(answer_of(cost_pico=WORST), price_flag="model_unknown"))
    assert (settlement.state, settlement.cost_pico, settlement.error_code) == (
        "uncertain",
        WORST,
        "model_unknown",
    )
    assert settlement.usage == answer_of().usage


def wrong(answer: Answer) -> WrongAnswer:
    return WrongAnswer(answer, code=ErrorCode.CITATIONS_MISSING, wrong="it cites nothing", follow_up=())


def test_a_wrong_answer_is_a_failed_attempt_at_what_a_right_one_costs():
    answer = replace(answer_of(cost_pico=WORST + 1), saved_pico=7, rate_card_id="card")
    settlement = outcomes.of_failure(sent(), wrong(answer), latency_ms=99)
    assert settlement == replace(
        outcomes.of_answer(sent(), answer), state="failed", error_code="citations_missing"
    )
    assert (settlement.cost_pico, settlement.over_reserved, settlement.usage) == (
        WORST + 1,
        True,
        answer.usage,
    )


def test_a_wrong_answer_that_nobody_can_price_is_uncertain_at_the_worst_case():
    for answer in (replace(answer_of(), usage=Usage()), replace(answer_of(), price_flag="model_unknown")):
        settlement = outcomes.of_failure(sent(), wrong(answer), latency_ms=99)
        assert (settlement.state, settlement.cost_pico) == ("uncertain", WORST)
        assert settlement.error_code == "citations_missing"


def test_an_answer_without_usage_is_uncertain_at_the_worst_case():
    settlement = outcomes.of_answer(sent(), replace(answer_of(), usage=Usage()))
    assert (settlement.state, settlement.cost_pico) == ("uncertain", WORST)


@pytest.mark.parametrize(
    ("billed", "usage", "expected"),
    [
        ("no", None, ("failed", 0)),
        ("yes", USAGE, ("failed", 120)),
        ("yes", None, ("uncertain", WORST)),
        ("unknown", USAGE, ("uncertain", WORST)),
        ("unknown", None, ("uncertain", WORST)),
    ],
)
def test_a_failure_costs_what_is_known_of_its_bill(billed, usage, expected):
    settlement = outcomes.of_failure(sent(), failure(billed=billed, usage=usage), latency_ms=5)
    assert (settlement.state, settlement.cost_pico) == expected
    assert (settlement.error_code, settlement.latency_ms) == ("stream_broken", 5)


def test_a_failure_before_the_first_byte_is_void():
    settlement = outcomes.of_failure(attempt_with(), failure(billed="unknown"), latency_ms=5)
    assert (settlement.state, settlement.cost_pico) == ("void", 0)


def test_an_interruption_is_uncertain_only_once_bytes_may_have_been_sent():
    cancelled = asyncio.CancelledError()
    assert outcomes.of_interruption(attempt_with(), cancelled, latency_ms=1).state == "void"
    after = outcomes.of_interruption(sent(), cancelled, latency_ms=1)
    assert (after.state, after.cost_pico, after.error_code) == ("uncertain", WORST, "cancelled")
    lost = outcomes.of_interruption(sent(), LeaseLost("gone"), latency_ms=1)
    assert lost.error_code == "LeaseLost"


def test_a_noted_attempt_is_on_its_jobs_list_and_bill():
    attempt = sent(number=3)
    outcomes.note(attempt, outcomes.of_answer(attempt, answer_of(cost_pico=120)))
    (summary,) = attempt.job_run.attempts
    assert (summary.number, summary.status, summary.model, summary.deployment) == (
        3,
        "settled",
        "s",
        "local/s",
    )
    assert attempt.job_run.spent_pico == 120


@pytest.mark.parametrize("code", sorted(outcomes.FORBIDS_ANOTHER))
def test_what_forbids_another_attempt_ends_uncertain_when_one_is_unresolved(code):
    error = JobError.of(code, "no more")
    assert outcomes.end_of(error, unresolved_attempts=0) is error
    ended = outcomes.end_of(error, unresolved_attempts=1)
    assert (ended.code, ended.status, ended.reason) == (ErrorCode.UNCERTAIN, 504, str(code))
    assert "1 attempt of this job" in ended.message


@pytest.mark.parametrize("code", [ErrorCode.CANCELLED, ErrorCode.INTERNAL, ErrorCode.UNSAFE_INPUT])
def test_other_ends_stay_what_they_are(code):
    error = JobError.of(code, "no")
    assert outcomes.end_of(error, unresolved_attempts=2) is error


def test_the_answer_of_a_final_row_is_its_content():
    run = run_with()
    run.spent_pico = 120
    final = final_of(run, "yes")
    answer = outcomes.answer_of(final)
    assert (answer.text, answer.cost_pico, answer.model, answer.standing) == ("yes", 120, "s", final)
    ended = outcomes.answer_of(run.ended(JobError.of(ErrorCode.INTERNAL, "no")))
    assert (ended.text, ended.model, ended.standing.status) == ("", "", "failed")


def test_the_story_of_a_call_that_was_outrun_says_for_how_long_it_was_silent():
    attempt = sent()
    attempt.silent_ms = 900
    settlement = outcomes.of_interruption(attempt, asyncio.CancelledError(), latency_ms=910)
    assert outcomes.told(attempt, settlement)["silent_ms"] == 900
