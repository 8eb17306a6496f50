"""Which run is above which: as the first job said, to a bounded height, and never round in a circle."""

from __future__ import annotations

from worker.ledger.runs import MOST_ANCESTORS


async def test_the_runs_above_a_run_are_known_from_the_jobs_that_named_them(ledger):
    assert await ledger.ancestors("acme", "child", "parent") == ("parent",)
    assert await ledger.ancestors("acme", "parent", "root") == ("root",)
    assert await ledger.ancestors("acme", "child", None) == ("parent", "root")
    assert await ledger.ancestors("acme", "child", "another") == ("parent", "root")
    assert await ledger.ancestors("globex", "child", None) == ()


async def test_a_circle_of_runs_ends_where_it_began(ledger):
    for run, parent in (("a", "b"), ("b", "c"), ("c", "a")):
        await ledger.ancestors("acme", run, parent)
    assert await ledger.ancestors("acme", "a", None) == ("b", "c")
    assert await ledger.ancestors("acme", "own", "own") == ()


async def test_a_tree_is_climbed_to_a_bounded_height(ledger):
    for number in range(MOST_ANCESTORS + 5):
        await ledger.ancestors("acme", str(number), str(number + 1))
    assert len(await ledger.ancestors("acme", "0", None)) == MOST_ANCESTORS
