"""P4: no limit is passed, with several worker processes, and what is allowed is used."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.scene import ROUTING, until
from tests.chaos.stage import Stage

PER_MIN, BURST, CONCURRENCY, JOBS = 300, 5, 3, 24


def limited_routing(folder: Path) -> Path:
    """Ants get five requests at once and then five a second, three at a time."""
    limits = f"{{tier: pro, requests_per_min: {PER_MIN}, burst_s: 1, concurrency: {CONCURRENCY}}}"
    path = folder / "routing.yaml"
    path.write_text(ROUTING.read_text().replace("  ants: pro", f"  ants: {limits}"))
    return path


async def test_requests_a_minute_and_jobs_at_once_hold_over_three_workers(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.scene(routing_path=limited_routing(tmp_path)) as scene:
        await scene.behave({"latency_ms": 100})
        for name in ("w1", "w2", "w3"):
            stage.worker(scene, worker_name=name)
        await until(lambda: scene.redis.hexists(scene.lanes.keys.root + "state", "limits"), what="the limits")
        asked = [Message(role="user", content=f"Where is parcel {number}?") for number in range(JOBS)]
        await scene.put(*(Job(tenant="ants", task="ask", messages=[one], job_id=uuid7()) for one in asked))
        held: list[int] = []

        async def is_at_rest() -> bool:
            held.append((await scene.lanes.counts()).running)
            return await scene.is_at_rest()

        await until(is_at_rest, within_s=40, what="rest")
        began = sorted(UUID(attempt).int >> 80 for attempt in scene.rows.attempts())
    assert len(began) == JOBS
    assert max(held) <= CONCURRENCY
    for at, first in enumerate(began):
        for number, later in enumerate(began[at:], start=1):
            # a call begins some milliseconds after its job was handed out, some more or less than others
            assert number <= BURST + (later - first + 250) * PER_MIN / 60_000 + 1
    lasted_s = (began[-1] - began[0]) / 1000
    assert lasted_s < 1.5 * (JOBS - BURST) * 60 / PER_MIN, "what is allowed is used"
