"""RunTree: a job draws on its run and on those above it, and the ledger is asked once in a while."""

from __future__ import annotations

from producer_sdk.contract import Job, Message
from worker.budget.run_tree import RunTree


def job(**fields: str) -> Job:
    return Job(tenant="acme", task="ask", messages=[Message(role="user", content="hello")], **fields)


async def test_the_ledger_is_asked_once_for_many_jobs_of_a_run() -> None:
    asked: list[tuple[str, str, str | None]] = []

    async def read(tenant: str, run_id: str, parent_run_id: str | None) -> tuple[str, ...]:
        asked.append((tenant, run_id, parent_run_id))
        return ("parent", "root")

    tree = RunTree(read)
    for _ in range(3):
        assert await tree.runs(job(run_id="child", parent_run_id="parent")) == ("child", "parent", "root")
    assert await tree.runs(job()) == ()
    assert await tree.runs(job(parent_run_id="parent")) == ("parent",)
    assert asked == [("acme", "child", "parent")]
