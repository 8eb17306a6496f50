"""What the ledger tells of a run: the tree below it, its jobs, and what they cost."""

from __future__ import annotations

import pytest

from producer_sdk.contract import ErrorCode, JobError
from tests.worker.job_runs import answer_of, job_of
from tests.worker.ledger.writing import PAID, WORST, final_of, journalled, run_with
from worker.ledger import run_trees
from worker.ledger.ledger import Ledger
from worker.ledger.run_trees import MOST_RUNS


async def answered(ledger: Ledger, **fields: object) -> None:
    """A job that cost 120 pico-dollars."""
    run = run_with(job_of(**fields))
    await ledger.settle(await journalled(ledger, run), PAID, final=final_of(run))


async def refused(ledger: Ledger, **fields: object) -> None:
    """A job that was never called."""
    run = run_with(job_of(**fields))
    error = JobError.of(ErrorCode.LOOP_DETECTED, "again and again", reason="repeats")
    await ledger.finish(run, run.ended(error))


async def test_a_tree_has_each_run_after_its_parent_with_its_jobs_and_their_cost(ledger: Ledger):
    for child, parent in (("b", "a"), ("c", "a"), ("d", "b")):
        await ledger.ancestors("acme", child, parent)
    await answered(ledger, run_id="a")
    await answered(ledger, run_id="d")
    await answered(ledger, run_id="d")
    await refused(ledger, run_id="d")
    await journalled(ledger, run_with(job_of(run_id="c")))
    hit = run_with(job_of(run_id="c"))
    answer = answer_of(cost_pico=0, cache="exact", saved_pico=5)
    await ledger.finish(hit, hit.result_of(answer), answer=answer)
    await answered(ledger, run_id="other")
    await answered(ledger, run_id="a", tenant="globex")
    report = await ledger.run_tree("acme", "a")
    assert report.is_whole
    assert [(node.run_id, node.parent_run_id, node.depth) for node in report.nodes] == [
        ("a", None, 0),
        ("b", "a", 1),
        ("d", "b", 2),
        ("c", "a", 1),
    ]
    told = {node.run_id: (node.statuses, node.calls, node.cost_pico, node.held_pico) for node in report.nodes}
    assert told == {
        "a": ({"succeeded": 1}, 1, 120, 0),
        "b": ({}, 0, 0, 0),
        "c": ({"open": 1, "succeeded": 1}, 1, 0, WORST),
        "d": ({"succeeded": 2, "rejected": 1}, 2, 240, 0),
    }
    jobs = {(job.status, job.code) for node in report.nodes for job in node.jobs}
    assert jobs == {("succeeded", None), ("open", None), ("rejected", "loop_detected")}


async def test_a_tree_may_be_read_from_its_middle_and_a_circle_ends(ledger: Ledger):
    for child, parent in (("b", "a"), ("c", "b"), ("a", "c")):
        await ledger.ancestors("acme", child, parent)
    assert [node.run_id for node in (await ledger.run_tree("acme", "b")).nodes] == ["b", "c", "a"]


async def test_a_job_without_a_run_is_of_the_run_above_it(ledger: Ledger):
    await answered(ledger, parent_run_id="a")
    [node] = (await ledger.run_tree("acme", "a")).nodes
    assert (node.calls, node.cost_pico) == (1, 120)


async def test_a_run_that_nobody_knows_is_empty(ledger: Ledger):
    [node] = (await ledger.run_tree("acme", "nobody's")).nodes
    assert (node.jobs, node.statuses, node.calls) == ((), {}, 0)


async def test_what_is_read_is_bounded_and_said_to_be(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(vars(run_trees), "MOST_JOBS", 2)
    for _ in range(3):
        await answered(ledger, run_id="a")
    report = await ledger.run_tree("acme", "a")
    [node] = report.nodes
    assert (len(node.jobs), node.statuses, node.cost_pico) == (2, {"succeeded": 3}, 360)
    assert not report.is_whole
    assert MOST_RUNS == 1000
