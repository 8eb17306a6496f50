"""Whatever is wrong ends in its code, with a sentence that says what to do, on that job alone; the fleet goes on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from producer_sdk import AsyncFleet
from producer_sdk.contract import Job, Message, uuid7
from producer_sdk.contract.envelope import LaneEntry, pack
from producer_sdk.errors import BrokerUnavailable, JobRejected
from producer_sdk.settings import FleetSettings
from tests.chaos.books import violations
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage

GOOD = {"tenant": "ants", "task": "ask", "messages": "Where is my card?"}
EIGHT_MB = 8 * 1024 * 1024

# What a producer hands to the SDK: (what is changed in a good job, code, words of the sentence).
SUBMITTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown tenant": ({"tenant": "antz"}, "unknown_tenant", "ants"),
    "an unknown task": ({"task": "aks"}, "unknown_task", "ask"),
    "a tenant that is no name": ({"tenant": "../ants"}, "invalid_job", "job.tenant"),
    "a number for a tenant": ({"tenant": 7}, "invalid_job", "job.tenant"),
    "messages of a wrong type": ({"messages": 7}, "invalid_job", "job.messages"),
    "no messages": ({"messages": []}, "invalid_job", "job.messages"),
    "a message that says nothing": ({"messages": ""}, "invalid_job", "needs content"),
    "an unknown role": ({"messages": [{"role": "boss", "content": "x"}]}, "invalid_job", "role"),
    "a misspelt field": ({"prioritty": 5}, "invalid_job", "priority"),
    "a priority out of range": ({"priority": -1}, "invalid_job", "job.priority"),
    "a lane that is none": ({"lane": "fast"}, "invalid_job", "job.lane"),
    "not a number": ({"params": {"temperature": float("nan")}}, "invalid_job", "temperature"),
    "an endless number": ({"params": {"temperature": float("inf")}}, "invalid_job", "temperature"),
    "a negative limit": ({"params": {"max_output_tokens": -5}}, "invalid_job", "max_output_tokens"),
    "a deadline without a zone": ({"deadline": "2026-11-23T10:00:00"}, "invalid_job", "job.deadline"),
    "a deadline that has passed": ({"deadline": "2020-01-01T00:00:00Z"}, "expired", "deadline"),
    "nine megabytes": ({"messages": "x" * 9 * 1024 * 1024}, "invalid_job", str(EIGHT_MB)),
    "half a character": ({"messages": "\ud800"}, "invalid_job", "surrogates"),
    "a task whose provider has no key": (
        {"task": "ask_keyless"},
        "provider_unavailable",
        "FAIRLANE_NO_SUCH_KEY",
    ),
    "a dead provider": ({"task": "ask_dead"}, "provider_unavailable", "dead/twin-small"),
}


def good_job(**fields: Any) -> Job:
    return Job(
        tenant="ants", task="ask", messages=[Message(role="user", content=f"Where? {uuid7()}")], **fields
    )


def header_of(job_id: str, **fields: Any) -> bytes:
    usual = {"v": 1, "job_id": job_id, "tenant": "ants", "task": "ask", "lane": "interactive"}
    return json.dumps(usual | fields).encode() + b"\n"


def body_with(**fields: Any) -> bytes:
    job = {"tenant": "ants", "task": "ask", "messages": [{"role": "user", "content": "x"}]} | fields
    return json.dumps([[], {"job": job}, {}]).encode()


# What somebody puts on the wire by hand: (the message for a job id, words of the sentence).
BOMB = zstd.compress(b" " * (EIGHT_MB + 1))
ON_THE_WIRE: dict[str, tuple[Callable[[str], bytes], str]] = {
    "nothing": (lambda _id: b"", "not JSON"),
    "not JSON": (lambda _id: b"\x80\x04 pickle?\n{}", "not JSON"),
    "no header": (lambda _id: body_with(), "header"),
    "no version": (lambda job_id: header_of(job_id, v=None) + body_with(), "version"),
    "a version that never was": (lambda job_id: header_of(job_id, v=0) + body_with(), "version"),
    "an unknown header field": (lambda job_id: header_of(job_id, prioritty=5) + body_with(), "priority"),
    "a body that is not JSON": (lambda job_id: header_of(job_id) + b"{", "JSON"),
    "a body of another shape": (lambda job_id: header_of(job_id) + b'{"job": 1}', "docs/wire.md"),
    "a job that is none": (lambda job_id: header_of(job_id) + b'[[], {"job": 1}, {}]', "job"),
    "no job": (lambda job_id: header_of(job_id) + b"[[], {}, {}]", "job"),
    "an embed that is no object": (
        lambda job_id: header_of(job_id) + b'[[], {"job": 1}, [1]]',
        "docs/wire.md",
    ),
    "time limits that are none": (
        lambda job_id: header_of(job_id, celery={"timelimit": "abcdef"}) + body_with(),
        "header.celery",
    ),
    "NaN in the body": (lambda job_id: header_of(job_id) + b'[[], {"job": NaN}, {}]', "JSON"),
    "another tenant in the body": (
        lambda job_id: header_of(job_id) + body_with(tenant="bees"),
        "another tenant",
    ),
    "a wrong type in the body": (lambda job_id: header_of(job_id) + body_with(depth="deep"), "job.depth"),
    "a damaged body": (lambda job_id: header_of(job_id, sha256="0" * 64) + body_with(), "sha256"),
    "an unknown encoding": (lambda job_id: header_of(job_id, encoding="br") + body_with(), "zstd"),
    "a body that is not zstd": (lambda job_id: header_of(job_id, encoding="zstd") + b"nope", "zstd"),
    "a bomb": (lambda job_id: header_of(job_id, encoding="zstd") + BOMB, str(EIGHT_MB)),
    "brackets without end": (lambda job_id: header_of(job_id) + b"[" * 100_000, "JSON"),
}


async def code_of(fleet: AsyncFleet, fields: dict[str, Any]) -> tuple[str, str]:
    """The code and the sentence in which this job ends, at once or later."""
    try:
        handle = await fleet.submit(**(GOOD | fields))
        result = await handle.wait(timeout=20)
        assert result.error, f"it ended as {result.status}"
        error = result.error
    except JobRejected as rejected:
        error = rejected.result.error
    return error.code, error.message


async def assert_good_jobs_run(scene: Scene) -> None:
    job = good_job()
    await scene.put(job)
    assert (await scene.ended(job.job_id))["status"] == "succeeded", scene.logs


async def test_a_wrong_job_ends_in_its_code_with_a_sentence_and_the_worker_goes_on(stage: Stage) -> None:
    async with stage.scene() as scene:
        stage.worker(scene)
        async with AsyncFleet(scene.settings.fleet) as fleet:
            found = await asyncio.gather(
                *(code_of(fleet, fields) for fields, _code, _words in SUBMITTED.values())
            )
        for (name, (_fields, code, words)), (ended_in, sentence) in zip(
            SUBMITTED.items(), found, strict=True
        ):
            assert ended_in == code, f"{name} ended in {ended_in}: {sentence}"
            assert words in sentence, f"{name}: {sentence}"
            assert "Traceback" not in sentence
        await assert_good_jobs_run(scene)
        assert "Traceback" not in scene.said


async def test_whatever_lies_on_the_wire_ends_as_an_invalid_job_on_that_job_alone(stage: Stage) -> None:
    async with stage.scene() as scene:
        stage.worker(scene)
        entries = {name: entry(message) for name, (message, _words) in ON_THE_WIRE.items()}
        beside = [good_job() for _ in entries]
        for bad, job in zip(entries.values(), beside, strict=True):
            await scene.lanes.put([bad, pack(job)], ttl_s=600)
            scene.accepted.add(str(job.job_id))
        for name, (_message, words) in ON_THE_WIRE.items():
            ended = await scene.ended(entries[name].job_id)
            assert (ended["status"], ended["error"]["code"]) == ("rejected", "invalid_job"), name
            assert words in ended["error"]["message"], f"{name}: {ended['error']['message']}"
        for job in beside:
            assert (await scene.ended(job.job_id))["status"] == "succeeded"
        await until(scene.is_at_rest, what="rest")
        assert [fault for fault in violations(await scene.evidence()) if "never accepted" not in fault] == []
        assert "Traceback" not in scene.said


def entry(message: Callable[[str], bytes]) -> LaneEntry:
    job_id = str(uuid7())
    content = message(job_id)
    return LaneEntry(job_id, "ants", "interactive", content, digest=job_id, cost=1)


async def test_a_newer_message_waits_for_a_newer_worker_and_holds_up_nobody(stage: Stage) -> None:
    async with stage.scene() as scene:
        stage.worker(scene)
        newer = entry(lambda job_id: header_of(job_id, v=2, something="new") + b"whatever")
        await scene.lanes.put([newer], ttl_s=600)

        async def is_given_back() -> bool:
            [state] = await scene.lanes.states([newer.job_id])
            return state.state == "delayed"

        await until(is_given_back, what="the newer message in its lane again")
        await assert_good_jobs_run(scene)
        assert await scene.result(newer.job_id) is None


@pytest.mark.parametrize(
    ("line", "wrong", "sentence"),
    [
        ("tasks:", "taskz:", "tasks"),
        ("default: first,", "default: frist,", "first"),
        ("daily_budget_usd: 25", "daily_budget_usd: lots", "daily_budget_usd"),
        ("providers:", "providers: [", "routing.yaml"),
    ],
)
async def test_a_worker_does_not_start_on_a_wrong_routing_file(
    stage: Stage, tmp_path: Path, line: str, wrong: str, sentence: str
) -> None:
    """It says the line, what was found and what would be right, and exits; nobody's job is taken."""
    path = tmp_path / "routing.yaml"
    path.write_text(ROUTING.read_text().replace(line, wrong, 1))
    async with stage.scene() as scene:
        worker = stage.worker(scene, routing_path=path)
        await until(lambda: worker.exit_code is not None, what="the worker's end")
        assert worker.exit_code not in (0, None)
        assert sentence in worker.log
        assert "Traceback" not in worker.log


async def test_a_dead_broker_is_told_to_the_producer_within_seconds(tmp_path: Path) -> None:
    settings = FleetSettings(broker_url=f"redis+socket://{tmp_path / 'nobody.sock'}", broker_timeout_s=1)
    began = time.monotonic()
    async with AsyncFleet(settings) as fleet:
        with pytest.raises(BrokerUnavailable, match="FAIRLANE_BROKER_URL"):
            await fleet.submit(task="ask", tenant="ants", messages="Where is my card?")
    assert time.monotonic() - began < 5
