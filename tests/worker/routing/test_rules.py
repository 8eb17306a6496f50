"""The plan: a pure function, an order drawn by weight, a bound on tokens, and a reason for all that is left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest

from producer_sdk.contract import ErrorCode, Message, uuid7
from tests.worker.job_runs import CLOUD, card, deployment, job_of, routing_of, run_of
from worker.routing import rules
from worker.routing.tokens import InputBound
from worker.routing_file import Strategy, TaskRule
from worker.speed import ENOUGH_ANSWERS, STALE_S, Speed

CARDS = {"local/s": card(10), "local/l": card(1000), "cloud/c": card(50)}
POOL = (deployment("s", weight=6), deployment("l", weight=3), deployment("c", provider=CLOUD, weight=1))


def planned(job_run, *, input_bound=100, input_at_least=0, **changes):
    bounds = {name: InputBound(input_bound, input_at_least) for name in CARDS}
    return rules.plan(job_run, **{"cards": CARDS, "missing": {}, "bounds": bounds, **changes})


def names(found: rules.Planned) -> list[str]:
    return [call.deployment.name for call in found.plan.calls]


def test_aliases_come_in_order_each_call_with_its_highest_cost():
    found = planned(run_of(), input_bound=200)
    assert names(found) == ["local/s", "local/l"]
    assert [call.alias for call in found.plan.calls] == ["small", "large"]
    assert [call.highest_pico for call in found.plan.calls] == [300 * 10, 300 * 1000]
    assert (found.plan.left_out, found.error) == ((), None)


def test_a_deployment_of_two_aliases_is_tried_once():
    routing = routing_of(aliases={"small": (deployment("s"),), "large": (deployment("s"), deployment("l"))})
    assert sorted(names(planned(run_of(routing=routing)))) == ["local/l", "local/s"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"missing": {"local/s": "no CLOUD_API_KEY"}}, "no CLOUD_API_KEY"),
        ({"cards": {"local/l": card()}}, "no price"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_its_reason(changes, reason):
    found = planned(run_of(), **changes)
    assert names(found) == ["local/l"]
    assert found.plan.left_out == (("local/s", reason),)


def test_a_deployment_over_the_tasks_cost_limit_is_left_out_and_a_cheaper_one_stays():
    routing = routing_of(
        tasks={"ask": TaskRule("ask", "large", ("small",), max_cost_usd=Decimal("0.000000005"))}
    )
    found = planned(run_of(routing=routing), input_bound=200)
    assert names(found) == ["local/s"]
    assert found.plan.left_out == (
        ("local/l", "too dear: up to 0.0000003 USD, the task's limit leaves 0.000000005"),
    )


def test_what_the_chain_has_spent_is_no_longer_there():
    routing = routing_of(tasks={"ask": TaskRule("ask", "small", max_cost_usd=Decimal("0.000000005"))})
    assert names(planned(run_of(routing=routing, spent_pico=2000), input_bound=200)) == ["local/s"]
    assert (
        planned(run_of(routing=routing, spent_pico=2001), input_bound=200).error.code == ErrorCode.COST_LIMIT
    )


def test_only_what_is_surely_too_long_is_left_out_for_its_length():
    fits, too_long = 8_000 - 100, 8_000 - 100 + 1
    assert names(planned(run_of(), input_bound=10**6, input_at_least=fits)) == ["local/s", "local/l"]
    left_out = planned(run_of(), input_bound=10**6, input_at_least=too_long)
    assert left_out.error.code == ErrorCode.CONTEXT_TOO_LONG
    assert left_out.plan.left_out[0] == (
        "local/s",
        "context too long: at least 7901 + 100 tokens, it takes 8000",
    )


def test_each_deployment_is_reserved_for_by_its_own_bound():
    bounds = {"local/s": InputBound(200, 0), "local/l": InputBound(900, 0)}
    found = planned(run_of(), bounds=bounds)
    assert [call.highest_pico for call in found.plan.calls] == [300 * 10, 1000 * 1000]
    found = planned(run_of(), bounds={"local/s": InputBound(200, 0), "local/l": InputBound(9_000, 8_500)})
    assert names(found) == ["local/s"]


def test_only_what_can_be_called_has_its_input_bounded():
    usable = rules.usable(run_of(), cards={"local/s": card()}, missing={})
    assert [d.name for d in usable] == ["local/s"]
    assert rules.usable(run_of(), cards=CARDS, missing={"local/s": "no key", "local/l": "no key"}) == ()


@pytest.mark.parametrize(
    ("changes", "limit", "code", "status"),
    [
        ({"missing": {"local/s": "no key", "local/l": "no key"}}, None, ErrorCode.PROVIDER_UNAVAILABLE, 503),
        ({"cards": {}}, None, ErrorCode.PROVIDER_UNAVAILABLE, 503),
        ({"input_at_least": 10**6}, None, ErrorCode.CONTEXT_TOO_LONG, 413),
        ({"input_at_least": 10**6, "missing": {"local/s": "no key"}}, None, ErrorCode.CONTEXT_TOO_LONG, 413),
        ({}, "0.000000000001", ErrorCode.COST_LIMIT, 402),
        ({"missing": {"local/s": "no key"}}, "0.000000000001", ErrorCode.COST_LIMIT, 402),
    ],
)
def test_a_plan_with_nothing_in_it_ends_the_job_with_what_can_be_changed(changes, limit, code, status):
    task = TaskRule("ask", "small", ("large",), max_cost_usd=Decimal(limit) if limit else None)
    found = planned(run_of(routing=routing_of(tasks={"ask": task})), **changes)
    assert (found.plan.calls, found.error.code, found.error.status) == ((), code, status)
    assert "local/s: " in found.error.message


def test_the_answer_is_as_long_as_the_first_deployment_can_write_and_shorter_ones_are_left_out():
    wide, short = (
        replace(deployment("s"), max_output_tokens=80),
        replace(deployment("l"), max_output_tokens=79),
    )
    found = planned(
        run_of(routing=routing_of(aliases={"small": (wide,), "large": (short,)})), input_bound=200
    )
    assert found.max_output_tokens == 80
    assert [call.highest_pico for call in found.plan.calls] == [280 * 10]
    assert found.plan.left_out == (("local/l", "it writes at most 79 tokens, the answer may have 80"),)


def test_the_same_job_gets_the_same_order_and_many_jobs_share_by_weight():
    routing = routing_of(aliases={"small": POOL, "large": ()})
    firsts = Counter()
    for number in range(3000):
        job = job_of(job_id=UUID(int=number))
        one, other = (names(planned(run_of(job, routing=routing))) for _ in range(2))
        assert one == other
        assert sorted(one) == sorted(d.name for d in POOL)
        firsts[one[0]] += 1
    assert [round(firsts[d.name] / 300) for d in POOL] == [6, 3, 1]


def test_jobs_with_one_static_prefix_stay_on_one_deployment():
    routing = routing_of(aliases={"small": POOL, "large": ()})

    def first(tenant_key: str) -> set[str]:
        system = Message(role="system", content="You are …", cache_key=tenant_key)
        jobs = [job_of(messages=[system, Message(role="user", content=str(n))]) for n in range(20)]
        return {names(planned(run_of(job, routing=routing)))[0] for job in jobs}

    assert all(len(first(key)) == 1 for key in ("a", "b", "c"))
    assert len(set.union(*(first(str(number)) for number in range(20)))) == 3


def test_the_plan_depends_on_nothing_but_its_arguments():
    job = job_of(job_id=uuid7())
    routing = routing_of(aliases={"small": POOL, "large": ()})
    found = [planned(run_of(job, routing=routing)) for _ in range(3)]
    assert found[0] == found[1] == found[2]


def speed(first_ms: float, *, answers: int = 9, age_s: float = 1.0, output_tokens: float = 50) -> Speed:
    return Speed(answers, first_ms, token_ms=10.0, output_tokens=output_tokens, age_s=age_s)


def test_an_alias_is_ordered_by_its_strategy():
    def first(strategy: Strategy, **changes) -> set[str]:
        routing = routing_of(aliases={"small": POOL, "large": ()}, strategies={"small": strategy})
        jobs = (job_of(job_id=UUID(int=number)) for number in range(30))
        return {names(planned(run_of(job, routing=routing), **changes))[0] for job in jobs}

    assert first("ordered") == {"local/s"}
    assert first("weighted") == {"local/s", "local/l", "cloud/c"}
    assert first("cheapest") == {"local/s"}
    assert first("cheapest", cards={**CARDS, "cloud/c": card(1)}) == {"cloud/c"}
    speeds = {"local/s": speed(900), "local/l": speed(200), "cloud/c": speed(400)}
    assert first("fastest", speeds=speeds) == {"local/l"}


def test_costs_are_compared_for_one_count_of_the_input_however_each_is_bounded():
    routing = routing_of(aliases={"small": POOL[:2], "large": ()}, strategies={"small": "cheapest"})
    bounds = {"local/s": InputBound(900, 0), "local/l": InputBound(200, 0)}
    prices = {"local/s": card(10), "local/l": card(11)}
    assert names(planned(run_of(routing=routing), bounds=bounds, cards=prices)) == ["local/s", "local/l"]


def test_a_call_is_foretold_by_what_was_measured_for_one_length_of_the_answer():
    speeds = {"local/s": speed(200, output_tokens=10), "local/l": speed(300, output_tokens=50)}
    found = planned(run_of(), speeds=speeds)
    assert [call.predicted_ms for call in found.plan.calls] == [500, 600]
    found = planned(run_of(max_output_tokens=5), speeds=speeds)
    assert [call.predicted_ms for call in found.plan.calls] == [250, 350]


def test_nothing_is_foretold_by_few_or_old_answers():
    speeds = {"local/s": speed(200, answers=ENOUGH_ANSWERS - 1), "local/l": speed(200, age_s=STALE_S + 1)}
    assert [call.predicted_ms for call in planned(run_of(), speeds=speeds).plan.calls] == [None, None]


def test_what_is_foretold_to_take_longer_than_is_left_is_left_out_but_never_the_last():
    speeds = {"local/s": speed(2_000), "local/l": speed(900)}
    found = planned(run_of(), speeds=speeds, left_ms=1_450.7)
    assert names(found) == ["local/l"]
    assert found.plan.left_out == (
        ("local/s", "too slow: about 2500 ms by its last answers, 1450 ms are left"),
    )
    found = planned(run_of(), speeds=speeds, left_ms=1_000)
    assert (names(found), found.error) == (["local/l"], None), "the quicker one is tried all the same"
    assert names(planned(run_of(), speeds={"local/s": speed(2_000)}, left_ms=500)) == ["local/l"]


PICTURE = {"type": "image", "url": "https://example.org/cat.png"}


def test_a_deployment_that_refuses_what_the_job_needs_is_left_out_with_that_reason():
    blind = replace(deployment("s"), capabilities={"images": False})
    routing = routing_of(aliases={"small": (blind,), "large": (deployment("l"),)})
    asked = job_of(messages=[Message(role="user", content=[PICTURE])])
    found = planned(run_of(asked, routing=routing))
    assert names(found) == ["local/l"]
    assert found.plan.left_out == (("local/s", "it takes no images"),)
    assert names(planned(run_of(routing=routing))) == ["local/s", "local/l"]


def test_a_job_that_no_model_takes_is_invalid_and_told_why():
    blind = replace(deployment("s"), capabilities={"image_urls": False})
    routing = routing_of(aliases={"small": (blind,), "large": (deployment("l"),)})
    asked = job_of(messages=[Message(role="user", content=[PICTURE])])
    error = planned(run_of(asked, routing=routing), missing={"local/l": "no KEY"}).error
    assert error.code == ErrorCode.INVALID_JOB
    assert error.message == (
        "no model takes all that the job has (local/s: it takes no images by URL, only as data; local/l: no KEY): "
        "leave it out, or use an alias with a model that takes it"
    )


def test_an_image_that_nobody_can_take_ends_the_job_before_any_plan():
    svg = {"type": "image", "url": "data:image/svg+xml;utf8,<svg/>"}
    found = planned(run_of(job_of(messages=[Message(role="user", content=[svg])])))
    assert (found.error.code, found.plan.calls) == (ErrorCode.INVALID_JOB, ())
