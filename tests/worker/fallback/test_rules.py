"""What follows a failure, as the table of docs/routing.md; and how a chain ends."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer_sdk.contract import ErrorCode, JobError
from tests.worker.job_runs import CLOUD, LOCAL, answer_of, card, deployment
from worker.errors import FailureKind as Kind
from worker.errors import ProviderError
from worker.fallback import rules
from worker.job_run import PlannedCall, WrongAnswer


def call(name: str = "s", *, provider=LOCAL, context_tokens: int = 8_000) -> PlannedCall:
    return PlannedCall(
        deployment(name, provider=provider, context_tokens=context_tokens), "small", card(), 1_000
    )


def failed(kind: Kind, at: PlannedCall | None = None, **fields) -> rules.Failed:
    return rules.Failed(at or call(), ProviderError(kind, "no", **fields))


def decided(failure: rules.Failed, *rest: PlannedCall, **changes) -> rules.Decision:
    situation = {"tries_here": 1, "failed_here": 1, "remaining_s": 60.0, "left_s": 60.0, "waited_ms": 0}
    return rules.after(failure, rest=rest, **{**situation, "billed": False, "jitter": 0.5, **changes})


SAME, OTHER, LONGER = call("l"), call("c", provider=CLOUD), call("xl", context_tokens=100_000)


@pytest.mark.parametrize(
    ("kind", "fields", "move", "rest"),
    [
        (Kind.RATE_LIMITED, {"retry_after_s": 3.0}, "next", (SAME, OTHER, LONGER)),
        (Kind.QUOTA_EXHAUSTED, {}, "next", (OTHER,)),
        (Kind.AUTH, {}, "next", (OTHER,)),
        (Kind.OVERLOADED, {}, "next", (SAME, OTHER, LONGER)),
        (Kind.SERVER_ERROR, {}, "next", (SAME, OTHER, LONGER)),
        (Kind.CONNECT_ERROR, {}, "next", (SAME, OTHER, LONGER)),
        (Kind.TIMEOUT, {}, "next", (SAME, OTHER, LONGER)),
        (Kind.STREAM_BROKEN, {}, "next", (SAME, OTHER, LONGER)),
        (Kind.STREAM_BROKEN, {"code": "answer_too_large"}, "stop", ()),
        (Kind.CONTEXT_TOO_LONG, {}, "next", (LONGER,)),
        (Kind.CONTENT_BLOCKED, {}, "stop", ()),
        (Kind.INVALID_REQUEST, {"status": 400}, "stop", ()),
        (Kind.INVALID_REQUEST, {"model_unknown": True}, "next", (SAME, OTHER, LONGER)),
    ],
)
def test_where_others_are_left_the_chain_goes_on_to_those_it_makes_sense_for(kind, fields, move, rest):
    decision = decided(failed(kind, **fields), SAME, OTHER, LONGER)
    assert (decision.move, decision.rest, decision.delay_s) == (move, rest, 0.0)


@pytest.mark.parametrize(
    ("kind", "fields", "changes", "move", "delay_s"),
    [
        (Kind.OVERLOADED, {}, {}, "here", 0.5),
        (Kind.OVERLOADED, {}, {"failed_here": 2}, "stop", 0.0),
        (Kind.OVERLOADED, {}, {"tries_here": 3}, "here", 0.5),
        (Kind.OVERLOADED, {}, {"remaining_s": 0.9}, "stop", 0.0),
        (Kind.SERVER_ERROR, {}, {"jitter": 0.1}, "here", 0.1),
        (Kind.OVERLOADED, {"retry_after_s": 7.0}, {"jitter": 0.1}, "hand_back", 7.0),
        (Kind.OVERLOADED, {"retry_after_s": 7.0}, {"remaining_s": 4.0}, "hand_back", 7.0),
        (Kind.OVERLOADED, {"retry_after_s": 7.0}, {"left_s": 6.0}, "stop", 0.0),
        (Kind.OVERLOADED, {"retry_after_s": 7.0}, {"waited_ms": 600_000}, "stop", 0.0),
        (Kind.OVERLOADED, {"retry_after_s": 7.0}, {"billed": True}, "here", 7.0),
        (Kind.OVERLOADED, {"retry_after_s": 61.0}, {"billed": True, "remaining_s": 900.0}, "stop", 0.0),
        (Kind.OVERLOADED, {"retry_after_s": 7.0}, {"failed_here": 2}, "stop", 0.0),
        (Kind.OVERLOADED, {"retry_after_s": 0.1}, {"jitter": 0.6}, "here", 0.6),
        (Kind.SERVER_ERROR, {"retry_after_s": 31.0}, {}, "hand_back", 31.0),
        (Kind.CONNECT_ERROR, {}, {}, "here", 0.5),
        (Kind.STREAM_BROKEN, {}, {}, "here", 0.5),
        (Kind.RATE_LIMITED, {}, {}, "here", 0.5),
        (Kind.TIMEOUT, {}, {}, "stop", 0.0),
        (Kind.AUTH, {}, {}, "stop", 0.0),
        (Kind.QUOTA_EXHAUSTED, {}, {}, "stop", 0.0),
        (Kind.CONTEXT_TOO_LONG, {}, {}, "stop", 0.0),
        (Kind.CANCELLED, {}, {}, "stop", 0.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 0.8}, {}, "here", 0.8),
        (Kind.RATE_LIMITED, {"retry_after_s": 0.8}, {"tries_here": 4}, "hand_back", 1.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 5.0}, {}, "hand_back", 5.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 5.0}, {"remaining_s": 4.0}, "hand_back", 5.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 5.0}, {"left_s": 4.0}, "stop", 0.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 5.0}, {"waited_ms": 86_400_000}, "stop", 0.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 5.0}, {"billed": True}, "here", 5.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 5.0}, {"billed": True, "remaining_s": 4.0}, "stop", 0.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 61.0}, {"billed": True, "remaining_s": 900.0}, "stop", 0.0),
        (Kind.RATE_LIMITED, {"retry_after_s": 5.0}, {"remaining_s": float("inf")}, "hand_back", 5.0),
    ],
)
def test_where_none_is_left_it_waits_or_tries_once_more_or_ends(kind, fields, changes, move, delay_s):
    decision = decided(failed(kind, **fields), **changes)
    assert (decision.move, decision.delay_s) == (move, delay_s)


@pytest.mark.parametrize(
    ("failure", "rest", "pays"),
    [
        (failed(Kind.OVERLOADED), (SAME,), False),
        (failed(Kind.TIMEOUT, billed="unknown"), (SAME,), True),
        (failed(Kind.STREAM_BROKEN, billed="yes"), (SAME,), True),
        (failed(Kind.OVERLOADED), (), True),
        (failed(Kind.OVERLOADED, retry_after_s=5.0), (), True),
        (failed(Kind.RATE_LIMITED, retry_after_s=0.5), (), False),
        (failed(Kind.RATE_LIMITED, retry_after_s=5.0), (), False),
    ],
)
def test_a_retry_and_a_fallback_after_a_billed_failure_pay_and_waiting_does_not(failure, rest, pays):
    assert decided(failure, *rest).pays is pays


def wrong(code: ErrorCode = ErrorCode.INVALID_OUTPUT) -> rules.Failed:
    return rules.Failed(call(), WrongAnswer(answer_of(), code=code, wrong="it is not JSON", follow_up=()))


def test_a_wrong_answer_is_followed_by_a_re_ask_if_there_may_be_one_and_else_by_the_next():
    again = call("s again")
    asked = decided(wrong(), SAME, OTHER, again=again)
    assert (asked.move, asked.rest, asked.pays) == ("next", (again, SAME, OTHER), True)
    alone = decided(wrong(), again=again)
    assert (alone.move, alone.rest, alone.pays) == ("next", (again,), True)
    passed_on = decided(wrong(), SAME)
    assert (passed_on.move, passed_on.rest, passed_on.pays) == ("next", (SAME,), True)
    assert decided(wrong()).move == "stop"


def test_only_the_first_wrong_answer_of_a_chain_is_corrected():
    first, second, other = wrong(), wrong(), failed(Kind.OVERLOADED)
    assert rules.to_correct([first]) is first.error
    assert rules.to_correct([other, first]) is first.error
    for failures in ([first, second], [first, other], [first, other, second], [other]):
        assert rules.to_correct(failures) is None


def test_a_chain_with_a_wrong_answer_ends_with_it_whatever_failed_beside_it():
    def code_of(*failures: rules.Failed) -> ErrorCode:
        return rules.ending(failures, refused=None, too_dear=(), spent_pico=0).code

    missing = wrong(ErrorCode.CITATIONS_MISSING)
    assert code_of(wrong(), missing) == ErrorCode.CITATIONS_MISSING
    assert code_of(missing, failed(Kind.CONTEXT_TOO_LONG)) == ErrorCode.CITATIONS_MISSING
    assert code_of(missing, failed(Kind.CONTENT_BLOCKED)) == ErrorCode.CONTENT_BLOCKED
    assert rules.later_s([wrong()], lane="batch", retries=0, left_s=1e9, jitter=0.5) is None


@given(
    kind=st.sampled_from(list(Kind)),
    retry_after_s=st.none() | st.floats(0, 1e6),
    remaining_s=st.floats(0.001, 1e6),
    left_s=st.floats(0.001, 1e6),
    tries=st.integers(1, 10),
    failures=st.integers(1, 10),
    others=st.integers(0, 3),
    jitter=st.floats(0, 1),
    billed=st.booleans(),
)
@example(
    kind=Kind.OVERLOADED,
    retry_after_s=2.0,
    remaining_s=5.0,
    left_s=1.0,
    tries=1,
    failures=1,
    others=0,
    jitter=0.0,
    billed=False,
)
def test_no_decision_waits_past_the_deadline_or_without_having_paid_holds_a_slot_for_more_than_a_second(
    kind, retry_after_s, remaining_s, left_s, tries, failures, others, jitter, billed
):
    failure = failed(kind, retry_after_s=retry_after_s)
    times = {"remaining_s": remaining_s, "left_s": left_s, "jitter": jitter, "billed": billed}
    decision = decided(failure, *[OTHER] * others, tries_here=tries, failed_here=failures, **times)
    if decision.move == "here":
        assert decision.delay_s < remaining_s
        assert decision.delay_s <= (rules.PAID_WAIT_S if billed else rules.WAIT_IN_SLOT_S)
        waited = kind == Kind.RATE_LIMITED and retry_after_s is not None
        assert tries <= rules.MOST_WAITS_HERE if waited else failures < 2
    if decision.move == "next":
        assert decision.rest
    if decision.move == "hand_back":
        assert rules.WAIT_IN_SLOT_S <= decision.delay_s < left_s


@pytest.mark.parametrize(
    ("remaining_s", "others", "timeout_s"),
    [(10.0, 0, 10.0), (10.0, 1, 6.0), (10.0, 5, 6.0), (float("inf"), 1, 240.0), (1000.0, 0, 240.0)],
)
def test_an_attempt_gets_a_share_of_what_is_left_while_others_wait(remaining_s, others, timeout_s):
    assert rules.attempt_timeout_s(remaining_s, others=others) == timeout_s


def test_the_cost_limit_is_of_the_whole_chain():
    assert rules.fits_cost(call(), limit_pico=1_000, spent_pico=0)
    assert not rules.fits_cost(call(), limit_pico=1_000, spent_pico=1)
    assert rules.fits_cost(call(), limit_pico=None, spent_pico=10**9)


REFUSED = JobError.of(ErrorCode.BUDGET_EXCEEDED, "no money", reason="window_spent")


@pytest.mark.parametrize(
    ("failures", "code", "retryable"),
    [
        ([], ErrorCode.BUDGET_EXCEEDED, False),
        ([failed(Kind.OVERLOADED)], ErrorCode.PROVIDER_UNAVAILABLE, True),
        ([failed(Kind.AUTH)], ErrorCode.PROVIDER_UNAVAILABLE, False),
        ([failed(Kind.QUOTA_EXHAUSTED), failed(Kind.OVERLOADED)], ErrorCode.PROVIDER_UNAVAILABLE, True),
        ([failed(Kind.CONTEXT_TOO_LONG)] * 2, ErrorCode.CONTEXT_TOO_LONG, False),
        ([failed(Kind.OVERLOADED), failed(Kind.CONTEXT_TOO_LONG)], ErrorCode.PROVIDER_UNAVAILABLE, True),
        ([failed(Kind.OVERLOADED), failed(Kind.CONTENT_BLOCKED)], ErrorCode.CONTENT_BLOCKED, False),
        ([failed(Kind.INVALID_REQUEST, status=400)], ErrorCode.INVALID_JOB, False),
        ([failed(Kind.INVALID_REQUEST, model_unknown=True)], ErrorCode.PROVIDER_UNAVAILABLE, False),
        ([failed(Kind.SERVER_ERROR, once_only=True)], ErrorCode.PROVIDER_UNAVAILABLE, False),
        ([failed(Kind.STREAM_BROKEN, code="answer_too_large")], ErrorCode.ANSWER_TOO_LARGE, False),
    ],
)
def test_a_chain_ends_with_the_most_telling_of_what_it_met(failures, code, retryable):
    error = rules.ending(failures, refused=REFUSED, too_dear=[], spent_pico=0)
    assert (error.code, error.retryable) == (code, retryable)


def test_the_end_names_each_deployment_and_the_shortest_wait():
    failures = [
        failed(Kind.RATE_LIMITED, OTHER, retry_after_s=30.0, status=429),
        failed(Kind.RATE_LIMITED, retry_after_s=9.0, code="rate_limit_exceeded", status=429),
    ]
    error = rules.ending(failures, refused=None, too_dear=[], spent_pico=0)
    assert "cloud/c: rate_limited (429); local/s: rate_limited (rate_limit_exceeded)" in error.message
    assert (error.reason, error.retry_after_s) == ("rate_limited", 9.0)


def test_the_end_says_that_a_budget_refused_another_attempt():
    error = rules.ending([failed(Kind.OVERLOADED)], refused=REFUSED, too_dear=[], spent_pico=0)
    assert error.code == ErrorCode.PROVIDER_UNAVAILABLE
    assert "no other attempt: budget_exceeded (window_spent)" in error.message


def test_a_chain_whose_calls_were_all_too_dear_says_what_was_spent():
    error = rules.ending([], refused=None, too_dear=[call()], spent_pico=2_000_000)
    assert (error.code, error.status) == (ErrorCode.COST_LIMIT, 402)
    assert "0.000002 USD spent; left: local/s" in error.message


def test_an_end_by_time_is_uncertain_where_an_earlier_attempt_is():
    assert rules.out_of_time(unresolved_attempts=0, attempts=2).code == ErrorCode.DEADLINE_EXCEEDED
    assert rules.out_of_time(unresolved_attempts=1, attempts=0).code == ErrorCode.UNCERTAIN


@pytest.mark.parametrize(
    ("failures", "changes", "expected"),
    [
        ([failed(Kind.OVERLOADED)], {}, 5.0),
        ([failed(Kind.OVERLOADED)], {"retries": 2}, 80.0),
        ([failed(Kind.OVERLOADED)], {"retries": 3}, None),
        ([failed(Kind.OVERLOADED)], {"lane": "interactive"}, None),
        ([failed(Kind.OVERLOADED)], {"left_s": 4.0}, None),
        ([failed(Kind.AUTH)], {}, None),
        ([failed(Kind.OVERLOADED), failed(Kind.SERVER_ERROR, once_only=True)], {}, None),
        ([failed(Kind.OVERLOADED), failed(Kind.TIMEOUT, billed="unknown")], {}, None),
        ([], {}, None),
    ],
)
def test_a_batch_job_is_tried_later_when_everything_failed_for_now_and_nothing_was_billed(
    failures, changes, expected
):
    situation = {"lane": "batch", "retries": 0, "left_s": float("inf"), "jitter": 1.0}
    assert rules.later_s(failures, **{**situation, **changes}) == expected


@pytest.mark.parametrize(
    ("waits_s", "failures", "changes", "comes_back_in_s"),
    [
        ([], (), {}, None),
        ([0.25], (), {}, 1.0),
        ([30.0, 4.0], (), {}, 4.0),
        ([4.0], (), {"jitter": 1.0}, 5.0),
        ([], (), {"cools_s": 3.0}, 3.0),
        ([4.0], (), {"cools_s": 90.0, "refused": True}, 4.0),
        ([], (), {"cools_s": 59.0, "refused": True}, 59.0),
        ([], (), {"cools_s": 61.0, "refused": True}, None),
        ([], (), {"cools_s": 61.0}, 61.0),
        ([4.0], (), {"left_s": 3.0}, None),
        ([4.0], (), {"waited_ms": 86_400_000}, None),
        ([4.0], (failed(Kind.CONNECT_ERROR), failed(Kind.QUOTA_EXHAUSTED)), {}, 4.0),
        ([4.0], (failed(Kind.TIMEOUT, billed="unknown"),), {}, None),
        ([4.0], (failed(Kind.INVALID_REQUEST),), {}, None),
    ],
)
def test_a_job_whose_deployments_take_no_call_comes_back_unless_it_was_billed_or_must_fail(
    waits_s, failures, changes, comes_back_in_s
):
    situation = {"left_s": 600.0, "waited_ms": 0, "jitter": 0.0, "cools_s": None, "refused": False}
    assert rules.put_off_s(waits_s, failures, **{**situation, **changes}) == comes_back_in_s


@pytest.mark.parametrize(
    ("wait_s", "waits", "may_leave", "found"),
    [
        (0.25, 1, True, 0.25),
        (0.25, rules.MOST_WAITS_HERE + 1, True, None),
        (1.0, 1, True, None),
        (0.25, 1, False, rules.WAIT_IN_SLOT_S),
        (1.0, rules.MOST_WAITS_HERE + 1, False, rules.WAIT_IN_SLOT_S),
        (5.0, 1, False, 5.0),
        (1.0, rules.MOST_PAID_WAITS + 1, False, None),
        (rules.PAID_WAIT_S + 1, 1, False, None),
    ],
)
def test_what_has_paid_for_an_answer_waits_longer_in_its_slot_for_it_cannot_wait_elsewhere(
    wait_s, waits, may_leave, found
):
    assert rules.wait_here_s(wait_s, waits=waits, may_leave=may_leave) == found
