"""`fairlane runs stop` and `show` against a whole worker: what ran, what waited, what comes, and what is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from producer_sdk.contract import Job
from tests.chaos.books import violations
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import SLOW, Stage
from worker.cli.main import cli


async def fairlane(scene: Scene, *words: str) -> Result:
    """The command line, in a thread: it has a loop of its own."""
    settings = scene.settings
    environment = {
        "FAIRLANE_BROKER_URL": settings.fleet.broker_url,
        "FAIRLANE_NAMESPACE": settings.fleet.namespace,
        "FAIRLANE_LEDGER_URL": settings.ledger_url,
        "FAIRLANE_HOME": str(settings.home),
    }
    return await asyncio.to_thread(CliRunner().invoke, cli, list(words), env=environment)


def step_of(run: str, text: str, **fields: object) -> Job:
    """A job of one of acme's runs."""
    return Job.model_validate(
        {"tenant": "acme", "task": "ask_first", "run_id": run, "messages": text, **fields}
    )


@pytest.fixture
def routing(tmp_path: Path) -> Path:
    """acme runs two jobs at a time."""
    whole = yaml.safe_load(ROUTING.read_text())
    whole["tenants"] = {"acme": {"tier": "pro", "concurrency": 2}}
    path = tmp_path / "routing.yaml"
    path.write_text(yaml.safe_dump(whole))
    return path


async def test_a_stopped_run_ends_what_runs_and_waits_and_refuses_what_comes(
    stage: Stage, routing: Path
) -> None:
    async with stage.scene(routing_path=routing) as scene:
        running = [step_of("child", f"{SLOW} {n}", parent_run_id="root", depth=1) for n in range(2)]
        waiting = [step_of("child", f"Waits {n}", parent_run_id="root") for n in range(3)]
        elsewhere = step_of("another", "Goes on")
        await scene.put(*running)
        stage.worker(scene)
        await until(lambda: scene_calls(scene, 2), what="two open calls")
        await scene.put(*waiting)
        await scene.put(elsewhere)
        stopped = await fairlane(
            scene, "runs", "stop", "root", "--tenant", "acme", "--reason", "too dear", "--json"
        )
        assert stopped.exit_code == 0, stopped.output
        told = json.loads(stopped.stdout)
        assert (told["run_id"], told["running"], told["waiting"]) == ("root", 2, 0)
        for job in running:
            ended = await scene.ended(job.job_id, within_s=1.0)  # long before their answers would come
            assert (ended["status"], ended["attempts"][0]["status"]) == ("cancelled", "uncertain")
        for job in waiting:
            ended = await scene.ended(job.job_id)
            assert (ended["status"], ended["attempts"]) == ("cancelled", [])
            assert ended["error"]["message"] == "run 'root' was stopped (too dear) before the job ran"
        assert (await scene.ended(elsewhere.job_id))["status"] == "succeeded"
        for late in (step_of("child", "Late"), step_of("grandchild", "Later", parent_run_id="child")):
            await scene.put(late)
            error = (await scene.ended(late.job_id))["error"]
            assert (error["code"], error["reason"], error["status"]) == ("run_cap", "stopped", 429)
        assert len(await scene.calls()) == 3
        await until(scene.is_at_rest, what="rest")
        scene.broken_by_tests += 2
        assert violations(await scene.evidence()) == []
        await shown_as_it_ended(scene)


async def scene_calls(scene: Scene, number: int) -> bool:
    return len(await scene.calls()) >= number


async def shown_as_it_ended(scene: Scene) -> None:
    """The whole tree, with statuses and codes and the cost of the calls that were cut off."""
    shown = await fairlane(scene, "runs", "show", "root", "--tenant", "acme", "--json")
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    nodes = {node["run_id"]: node for node in told["runs"]}
    assert [(name, node["depth"]) for name, node in nodes.items()] == [
        ("root", 0),
        ("child", 1),
        ("grandchild", 2),
    ]
    assert nodes["child"]["statuses"] == {"cancelled": 5, "rejected": 1}
    assert (nodes["child"]["calls"], nodes["grandchild"]["statuses"]) == (2, {"rejected": 1})
    assert float(told["cost_usd"]) == float(nodes["child"]["cost_usd"]) > 0
    codes = {job["code"] for node in told["runs"] for job in node["jobs"]}
    assert codes == {"cancelled", "run_cap"}
    words = (await fairlane(scene, "runs", "show", "root", "--tenant", "acme")).stdout
    assert "    grandchild" in words
    assert "rejected (run_cap)" in words
    assert "3 runs, 7 jobs, 0.0000" in words


async def test_a_job_that_waits_for_another_try_is_cancelled_by_a_stop(stage: Stage, routing: Path) -> None:
    async with stage.scene(routing_path=routing) as scene:
        await scene.behave({"status": 429, "retry_after": 20})
        job = step_of("r", "Patient")
        await scene.put(job)
        stage.worker(scene)

        async def is_delayed() -> bool:
            return (await scene.lanes.counts()).delayed == 1

        await until(is_delayed, what="the wait")
        told = json.loads((await fairlane(scene, "runs", "stop", "r", "--tenant", "acme", "--json")).stdout)
        assert (told["running"], told["waiting"]) == (0, 1)
        assert (await scene.ended(job.job_id))["status"] == "cancelled"


async def test_a_run_that_nobody_knows_is_told_so_and_may_be_stopped_all_the_same(
    stage: Stage, routing: Path
) -> None:
    async with stage.scene(routing_path=routing) as scene:
        shown = await fairlane(scene, "runs", "show", "nobody's", "--tenant", "acme")
        assert (shown.exit_code, shown.stdout) == (1, "The ledger knows no job of this run.\n")
        stopped = await fairlane(scene, "runs", "stop", "nobody's", "--tenant", "acme")
        assert stopped.exit_code == 0
        assert "0 jobs that ran and 0 that waited" in stopped.stdout
