"""Health: what an end says of its deployment, and which calls of a plan may be made now."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.job_runs import CLOUD, card, deployment
from worker.errors import FailureKind as Kind
from worker.errors import ProviderError
from worker.health import rules
from worker.health.rules import CoolDown, Outcome, Pause, Standing, View
from worker.job_run import PlannedCall

A, B = (PlannedCall(deployment(name), "small", card(), 10) for name in "ab")
C = PlannedCall(deployment("c", provider=CLOUD), "small", card(), 10)


def of_error(kind: Kind, *, timeout_s: float = 30.0, resubmitted: bool = False, **fields) -> Outcome:
    return rules.of_error(ProviderError(kind, "no", **fields), timeout_s=timeout_s, resubmitted=resubmitted)


@pytest.mark.parametrize(
    ("kind", "verdict", "too_much"),  # of a 429 without a Retry-After
    [
        (Kind.OVERLOADED, "bad", True),
        (Kind.SERVER_ERROR, "bad", False),
        (Kind.CONNECT_ERROR, "bad", False),
        (Kind.STREAM_BROKEN, "bad", False),
        (Kind.TIMEOUT, "bad", False),
        (Kind.RATE_LIMITED, "bad", True),
        (Kind.QUOTA_EXHAUSTED, "", False),
        (Kind.AUTH, "", False),
        (Kind.INVALID_REQUEST, "", False),
        (Kind.CANCELLED, "", False),
        (Kind.CONTEXT_TOO_LONG, "ok", False),
        (Kind.CONTENT_BLOCKED, "ok", False),
    ],
)
def test_only_what_is_the_providers_fault_counts_towards_its_breaker(kind, verdict, too_much):
    found = of_error(kind)
    assert (found.verdict, found.too_much) == (verdict, too_much)


@pytest.mark.parametrize("kind", list(Kind))
def test_content_that_has_failed_before_does_not_break_a_deployment_by_failing_again(kind):
    may_be_content = kind in (Kind.SERVER_ERROR, Kind.TIMEOUT, Kind.STREAM_BROKEN)
    assert of_error(kind, resubmitted=True) == (Outcome() if may_be_content else of_error(kind))


def test_a_job_that_has_no_time_says_nothing_of_a_provider():
    assert of_error(Kind.TIMEOUT, timeout_s=0.9) == Outcome()
    assert of_error(Kind.STREAM_BROKEN, code="answer_too_large") == Outcome()


@pytest.mark.parametrize(
    ("outcome", "cool", "whole"),
    [
        (of_error(Kind.RATE_LIMITED, retry_after_s=12.0, status=429), ("rate_limited", 12.0, "429"), False),
        (of_error(Kind.RATE_LIMITED, status=429), ("rate_limited", 1.0, "429"), False),
        (of_error(Kind.RATE_LIMITED, retry_after_s=1e9), ("rate_limited", 86_400.0, "rate_limited"), False),
        (of_error(Kind.QUOTA_EXHAUSTED, status=402), ("quota_exhausted", 600.0, "its quota is spent"), True),
        (of_error(Kind.QUOTA_EXHAUSTED, retry_after_s=3600.0), ("quota_exhausted", 3600.0, None), True),
        (of_error(Kind.AUTH, status=401), ("auth", 300.0, "its key was refused (401)"), True),
        (of_error(Kind.AUTH, status=403), ("auth", 300.0, "its key was refused (403)"), False),
        (rules.of_answer(7.0), ("rate_limited", 7.0, "its headers say that nothing is left"), False),
    ],
)
def test_what_cools_down_for_how_long_and_whether_its_whole_provider_does(outcome, cool, whole):
    assert outcome.cool
    assert (outcome.cool.kind, outcome.cool.left_s) == cool[:2]
    assert cool[2] in (None, outcome.cool.why)
    assert outcome.whole_provider is whole


def test_a_model_that_its_provider_does_not_know_cools_that_deployment_alone():
    outcome = of_error(Kind.INVALID_REQUEST, model_unknown=True, status=404)
    assert outcome.cool == CoolDown(300.0, "unknown_model", "its provider does not know the model (404)")
    assert (outcome.verdict, outcome.whole_provider) == ("", False)
    retired = View({"local/a": Standing(cool=outcome.cool)})
    assert sift(retired).calls == (B, C)
    assert sift(retired, A).calls == (A,), "the last one tells the job why"


def test_a_plain_answer_and_a_retry_after_of_nothing_cool_nothing_down():
    assert rules.of_answer(None) == Outcome("ok")
    assert of_error(Kind.RATE_LIMITED, retry_after_s=0.0) == Outcome(too_much=True)


LIMITED = Standing(cool=CoolDown(12.0, "rate_limited", "429"))
LATER = Standing(cool=CoolDown(40.0, "rate_limited", "429"))
OPEN = Standing(open_s=8.0, open_why="5 of 6 calls failed")
HALF_OPEN, PROBED = Standing(open_s=0.0), Standing(open_s=0.0, is_probed=True)
SPENT = {"local": CoolDown(600.0, "quota_exhausted", "its quota is spent")}
PAUSED = Pause("all", None, 100.0, "provider incident 17")


@pytest.mark.parametrize(
    ("view", "age_s", "reason"),
    [
        (View(), 0.0, None),
        (View({"local/a": LIMITED}), 0.0, "cooling down for 12 s: 429"),
        (View({"local/a": LIMITED}), 0.6, "cooling down for 11 s: 429"),
        (View({"local/a": LIMITED}), 12.0, None),
        (View({"local/a": OPEN}), 0.0, "breaker open for 8 s: 5 of 6 calls failed"),
        (View({"local/a": OPEN}), 8.0, None),
        (View({"local/a": HALF_OPEN}), 0.0, None),
        (View({"local/a": PROBED}), 0.0, "breaker half-open: another call is trying it"),
        (View({}, SPENT), 0.0, "cooling down for 600 s: its quota is spent"),
        (View({"local/b": OPEN}, {"cloud": SPENT["local"]}), 0.0, None),
        (View(pauses=(PAUSED,)), 0.0, "paused (provider incident 17)"),
        (View(pauses=(Pause("provider:local", 5.0, 0.0, ""),)), 0.0, "paused"),
        (View(pauses=(Pause("provider:local", 5.0, 0.0, ""),)), 5.0, None),
        (View(pauses=(Pause("provider:cloud", None, 0.0, ""),)), 0.0, None),
    ],
)
def test_what_stands_in_a_deployments_way_is_said_in_words(view, age_s, reason):
    found = rules.obstacle(A.deployment, view, age_s=age_s)
    assert (found.reason if found else None) == reason


def sift(view: View, *calls: PlannedCall, **changes) -> rules.Sifted:
    situation = {"age_s": 0.0, "left_s": 3600.0, "waited_ms": 0, "jitter": 0.0}
    return rules.sift(calls or (A, B, C), view, **{**situation, **changes})


def test_what_takes_no_call_is_left_out_and_the_rest_keeps_its_order():
    found = sift(View({"local/a": LIMITED}))
    assert found.calls == (B, C)
    assert found.left_out == (("local/a", "cooling down for 12 s: 429"),)
    assert (found.hand_back_s, found.error, found.despite) == (None, None, frozenset())
    assert (found.standby, found.wait_s) == (None, 12.0), "if the others' budgets say no"


def test_an_open_breaker_stands_by_for_those_that_a_budget_refuses():
    found = sift(View({"local/a": OPEN, "local/b": LATER}))
    assert (found.calls, found.standby, found.despite, found.wait_s) == ((C,), A, {"local/a"}, None)
    assert [name for name, _reason in found.left_out] == ["local/a", "local/b"]


def test_the_last_one_is_tried_though_its_breaker_is_open():
    found = sift(View({"local/a": Standing(open_s=90.0), "local/b": OPEN}), A, B)
    assert (found.calls, found.despite, found.hand_back_s) == ((B,), {"local/b"}, None)
    assert [name for name, _reason in found.left_out] == ["local/a"]


@pytest.mark.parametrize(
    ("standings", "changes", "waits_s"),
    [
        ({"local/a": LATER, "local/b": LIMITED}, {}, 12.0),
        ({"local/a": LATER, "local/b": LIMITED}, {"jitter": 1.0}, 13.0),
        ({"local/a": LATER, "local/b": LIMITED}, {"left_s": 11.0}, None),
        ({"local/a": LATER, "local/b": LIMITED}, {"waited_ms": 86_400_000}, None),
        ({"local/a": LIMITED, "local/b": Standing(open_s=20.0)}, {}, 12.0),
    ],
)
def test_a_job_waits_in_its_lane_for_the_first_rate_limit_that_is_over_in_time(standings, changes, waits_s):
    found = sift(View(standings), A, B, **changes)
    assert (found.calls, found.hand_back_s) == ((), waits_s)
    assert (found.error is None) == (waits_s is not None)


def test_a_job_whose_deadline_is_before_every_rate_limit_ends_and_says_when():
    found = sift(View({"local/a": LATER, "local/b": LIMITED}), A, B, left_s=5.0)
    assert found.error
    assert (found.error.code, found.error.retry_after_s, found.error.retryable) == (
        "provider_unavailable",
        12.0,
        True,
    )
    assert "local/b: cooling down for 12 s: 429" in found.error.message


def test_an_open_breaker_that_ends_before_a_rate_limit_is_tried():
    assert sift(View({"local/a": LIMITED, "local/b": OPEN}), A, B).calls == (B,)


def test_a_spent_quota_is_asked_again_only_where_nothing_else_could_be_waited_for():
    found = sift(View({}, SPENT), A)
    assert (found.calls, found.despite) == ((A,), {"local/a"})
    paused = View({}, SPENT, (Pause("provider:cloud", None, 20.0, ""),))
    assert sift(paused, A, C).hand_back_s == 5.0


@pytest.mark.parametrize(
    ("pause", "waits_s"),
    [
        (Pause("all", None, 0.0, ""), 1.0),
        (Pause("all", None, 20.0, ""), 5.0),
        (Pause("all", None, 9_999.0, ""), 15.0),
        (Pause("all", 0.4, 100.0, ""), 0.4),
    ],
)
def test_a_paused_job_is_handed_back_and_looked_at_more_rarely_the_longer_it_lasts(pause, waits_s):
    found = sift(View({"local/a": OPEN}, SPENT, (pause,)), left_s=0.1)
    assert (found.calls, found.hand_back_s, found.error) == ((), waits_s, None)


def test_an_empty_plan_stays_empty():
    assert sift(View(), A).calls == (A,)
    assert rules.sift((), View(pauses=(PAUSED,)), age_s=0, left_s=1, waited_ms=0, jitter=0).calls == ()


standings = st.builds(
    Standing,
    cool=st.none()
    | st.builds(CoolDown, st.floats(0, 1e5), st.sampled_from(["rate_limited", "auth"]), st.just("w")),
    open_s=st.none() | st.floats(0, 120),
    is_probed=st.booleans(),
)


@given(
    view=st.builds(
        View,
        st.fixed_dictionaries({"local/a": standings, "local/b": standings, "cloud/c": standings}),
        st.just({}) | st.just(SPENT),
        st.just(()) | st.just((PAUSED,)),
    ),
    left_s=st.floats(-1, 1e6),
    waited_ms=st.integers(0, 10**8),
    jitter=st.floats(0, 1),
)
def test_a_job_is_called_waits_or_ends_and_every_deployment_is_accounted_for(view, left_s, waited_ms, jitter):
    found = sift(view, left_s=left_s, waited_ms=waited_ms, jitter=jitter)
    assert bool(found.calls) + (found.hand_back_s is not None) + (found.error is not None) == 1
    names = [call.deployment.name for call in found.calls] + [name for name, _reason in found.left_out]
    assert sorted(names) == ["cloud/c", "local/a", "local/b"]
    assert found.despite <= set(view.deployments)
