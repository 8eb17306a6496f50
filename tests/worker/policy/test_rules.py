"""Policy as tables: who may use what, how long, and how stopped jobs end."""

from __future__ import annotations

import pytest

from producer_sdk.contract import ErrorCode, GenerationParams
from tests.worker.job_runs import job_of, routing_of
from worker.policy import rules
from worker.routing_file import TaskRule, Tenant, Tier


def permission(tier: Tier, *, task: TaskRule | None = None, **fields):
    task = task or TaskRule("ask", "small", ("large",))
    routing = routing_of(tenants={"acme": Tenant("acme", tier)}, tasks={"ask": task})
    return rules.permit(job_of(**fields), routing)


@pytest.mark.parametrize(
    ("tier", "allowed", "denied"),
    [
        (Tier("t"), ("small", "large"), ()),
        (Tier("t", deny=frozenset({"large"})), ("small",), ("large",)),
        (Tier("t", allow=frozenset({"large"})), ("large",), ("small",)),
        (Tier("t", replace={"large": "small"}), ("small",), ()),
        (Tier("t", replace={"small": "large"}, deny=frozenset({"small"})), ("large",), ()),
        (Tier("t", replace={"large": "middle"}, allow=frozenset({"middle"})), ("middle",), ("small",)),
    ],
)
def test_a_tier_replaces_first_and_allows_or_denies_what_is_left(tier, allowed, denied):
    found = permission(tier)
    assert (found.aliases, found.denied) == (allowed, denied)


def test_a_job_whose_every_alias_is_denied_is_told_which_and_by_whom():
    error = permission(Tier("free", deny=frozenset({"small", "large"})))
    assert (error.code, error.status, error.retryable) == (ErrorCode.POLICY_DENIED, 403, False)
    assert "tier 'free' denies every model of task 'ask' (small, large)" in error.message


@pytest.mark.parametrize(
    ("tenant", "task", "code", "hint"),
    [
        ("acne", "ask", ErrorCode.UNKNOWN_TENANT, "there is no tenant 'acne' (did you mean 'acme'?)"),
        ("zzz", "ask", ErrorCode.UNKNOWN_TENANT, "there is no tenant 'zzz': declare it"),
        ("acme", "asks", ErrorCode.UNKNOWN_TASK, "there is no task 'asks' (did you mean 'ask'?)"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(tenant, task, code, hint):
    error = rules.permit(job_of(tenant=tenant, task=task), routing_of())
    assert (error.code, error.status) == (code, 404)
    assert hint in error.message


def test_an_undeclared_tenant_is_served_under_the_default_tier():
    found = rules.permit(job_of(tenant="walk-in"), routing_of(default_tier="free"))
    assert (found.tenant.name, found.tenant.tier.name) == ("walk-in", "free")


@pytest.mark.parametrize(
    ("asked", "task", "tier", "expected"),
    [
        (None, None, 100, 100),
        (50, None, 100, 50),
        (500, None, 100, 100),
        (50, 40, 100, 40),
        (None, 40, 30, 30),
    ],
)
def test_the_longest_answer_is_the_smallest_of_what_job_task_and_tier_say(asked, task, tier, expected):
    found = permission(
        Tier("t", max_output_tokens=tier),
        task=TaskRule("ask", "small", max_output_tokens=task),
        params=GenerationParams(max_output_tokens=asked),
    )
    assert found.max_output_tokens == expected


@pytest.mark.parametrize(
    ("latency_ms", "in_s", "expected"),
    [
        (None, None, float("inf")),
        (1000, None, 11.0),
        (None, 5.0, 17.0),
        (1000, 5.0, 11.0),
        (60_000, 5.0, 17.0),
    ],
)
def test_one_deadline_spans_the_chain_the_earlier_of_the_two(latency_ms, in_s, expected):
    assert rules.deadline(started=10.0, now=12.0, max_latency_ms=latency_ms, deadline_in_s=in_s) == expected


@pytest.mark.parametrize(
    ("stop", "unresolved", "code"),
    [
        ("cancelled", 0, ErrorCode.CANCELLED),
        ("cancelled", 1, ErrorCode.CANCELLED),
        ("expired", 0, ErrorCode.EXPIRED),
        ("expired", 1, ErrorCode.UNCERTAIN),
        ("dead", 0, ErrorCode.INTERNAL),
        ("dead", 2, ErrorCode.UNCERTAIN),
    ],
)
def test_a_job_that_its_lane_stopped_ends_as_what_is_known_of_it(stop, unresolved, code):
    error = rules.end_of_stopped(stop, deliveries=6, unresolved_attempts=unresolved)
    assert error.code == code
    assert error.retryable is False


def test_a_job_of_the_other_kind_is_told_what_to_send_and_where():
    vectors = TaskRule("embed", "vectors", kind="embedding")
    routing = routing_of(tasks={"ask": TaskRule("ask", "small"), "embed": vectors})
    inputs = {"inputs": ["text"], "messages": []}
    wrong = [rules.permit(job_of(task="embed"), routing), rules.permit(job_of(**inputs), routing)]
    assert [(error.code, error.reason) for error in wrong] == [(ErrorCode.INVALID_JOB, "kind")] * 2
    assert "send inputs (`fleet.embed`), or name a task of its kind (ask)" in wrong[0].message
    assert "send messages, or name a task of its kind (embed)" in wrong[1].message
    right = rules.permit(job_of(task="embed", **inputs), routing)
    assert (right.aliases, right.max_output_tokens) == (("vectors",), 0)
