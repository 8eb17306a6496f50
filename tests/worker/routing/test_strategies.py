"""The four strategies: each a permutation, the same for the same job, and sorted by what it is named after."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.job_runs import deployment
from worker.routing import strategies
from worker.routing.strategies import EXPLORED_SHARE, SAME_SPEED, STAYS_WITHIN, Asked
from worker.routing_file import Deployment

FIGURES = st.none() | st.integers(1, 10**6)
POOL = (deployment("a", weight=6), deployment("b", weight=3), deployment("c"))


@st.composite
def pools(draw: st.DrawFn) -> tuple[tuple[Deployment, ...], Asked]:
    """Deployments, some of whose figures are known, and a job."""
    drawn = draw(st.lists(st.tuples(st.integers(0, 9), FIGURES, FIGURES), min_size=1, max_size=8))
    pool = tuple(deployment(f"m{number}", weight=weight) for number, (weight, _, _) in enumerate(drawn))
    rows = list(zip(pool, drawn, strict=True))
    asked = Asked(
        draw(st.text(max_size=9)),
        has_prefix=draw(st.booleans()),
        draw=draw(st.floats(0, 1)),
        cost_pico={d.name: cost for d, (_, cost, _) in rows if cost is not None},
        latency_ms={d.name: ms for d, (_, _, ms) in rows if ms is not None},
    )
    return pool, asked


@pytest.mark.parametrize("name", strategies.STRATEGIES)
@given(case=pools())
def test_an_order_is_a_permutation_the_same_for_the_same_job_with_the_last_resorts_last(name, case):
    pool, asked = case
    found = strategies.STRATEGIES[name](pool, asked)
    assert sorted(found, key=lambda d: d.name) == sorted(pool, key=lambda d: d.name)
    assert found == strategies.STRATEGIES[name](pool, asked)
    if name == "ordered":
        assert found == list(pool)
    else:
        resorts = [d for d in pool if not d.weight]
        assert found[len(pool) - len(resorts) :] == resorts


@given(case=pools())
def test_the_cheapest_is_sorted_by_cost_but_for_the_home_of_a_prefix_near_the_best(case):
    pool, asked = case
    found = strategies.cheapest(pool, asked)
    costs = [asked.cost_pico[d.name] for d in found if d.weight and d.name in asked.cost_pico]
    if costs != sorted(costs):
        assert asked.has_prefix
        assert costs[0] <= STAYS_WITHIN * min(costs)
        assert costs[1:] == sorted(costs[1:])
        assert found[0] == strategies.weighted(pool, asked)[0], "the home is drawn by weight"


@given(case=pools())
def test_the_fastest_is_sorted_by_latency_and_what_is_not_known_comes_after(case):
    pool, asked = case
    found = [d for d in strategies.fastest(pool, asked) if d.weight]
    known = [asked.latency_ms[d.name] for d in found if d.name in asked.latency_ms]
    explored = found and found[0].name not in asked.latency_ms
    if explored and known:
        assert asked.draw < EXPLORED_SHARE
    rest = found[1:] if explored else found
    assert [d.name in asked.latency_ms for d in rest] == sorted(
        (d.name in asked.latency_ms for d in rest), reverse=True
    )
    ranked = known[1:] if asked.has_prefix and known and known[0] <= STAYS_WITHIN * min(known) else known
    assert all(one <= SAME_SPEED * later * 1.01 + 1 for one, later in pairwise(ranked))


@pytest.mark.parametrize("name", ["weighted", "cheapest", "fastest"])
def test_what_is_equal_shares_first_tries_by_weight(name):
    firsts: Counter[str] = Counter()
    for number in range(3000):
        same = {d.name: 70 for d in POOL}
        asked = Asked(str(number), draw=strategies.draw(number), cost_pico=same, latency_ms=same)
        firsts[strategies.STRATEGIES[name](POOL, asked)[0].model] += 1
    assert [round(firsts[d.model] / 300) for d in POOL] == [6, 3, 1]


def test_an_unknown_deployment_is_tried_first_by_its_share_of_the_jobs_and_no_more():
    def firsts(latency_ms: dict[str, int]) -> Counter[str]:
        asked = (Asked(str(n), draw=strategies.draw(n), latency_ms=latency_ms) for n in range(4000))
        return Counter(strategies.fastest(POOL, one)[0].model for one in asked)

    found = firsts({"local/a": 50, "local/b": 500})
    assert found["c"] / 4000 == pytest.approx(EXPLORED_SHARE, abs=0.02)
    assert found["b"] == 0
    assert firsts({"local/a": 50, "local/b": 500, "local/c": 90}) == {"a": 4000}, "all are known"
    drawn = firsts({})
    assert [round(drawn[d.model] / 400) for d in POOL] == [6, 3, 1], "none is known: by weight"


@pytest.mark.parametrize("name", ["cheapest", "fastest"])
def test_a_prefix_stays_at_its_home_until_that_is_much_worse_than_the_best(name):
    asked = Asked("acme\0prompt", has_prefix=True)
    home, *others = strategies.weighted(POOL, asked)

    def first(home_figure: int) -> Deployment:
        figures = {home.name: home_figure, **{d.name: 100 for d in others}}
        asked = Asked("acme\0prompt", has_prefix=True, cost_pico=figures, latency_ms=figures)
        return strategies.STRATEGIES[name](POOL, asked)[0]

    assert first(150) == home
    assert first(151) == others[0]
