"""AsyncFleet: the same methods, awaited, and what waiting costs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, get_type_hints

import pytest
import redis.asyncio

from producer_sdk import (
    AsyncFleet,
    AsyncJobHandle,
    Fleet,
    FleetError,
    FleetSettings,
    Job,
    JobHandle,
    JobRejected,
    JobResult,
)
from producer_sdk.batch import JobFields
from producer_sdk.contract import Straight
from producer_sdk.waiting import POLL_S
from tests.producer_sdk.fake_worker import FakeWorker, success_meta

T = TypeVar("T")
ASK: dict[str, Any] = {"task": "classify", "tenant": "acme", "messages": "Where is my card?"}


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(part)
        for name, part in vars(kind).items()
        if name[0] != "_" and callable(part)
    }


@pytest.mark.parametrize(("one", "other"), [(Fleet, AsyncFleet), (JobHandle, AsyncJobHandle)])
def test_both_faces_have_the_same_methods_and_parameters(one: type, other: type) -> None:
    blocking, awaited = public(one), public(other)
    assert set(blocking) == set(awaited)
    for name, signature in blocking.items():
        assert list(signature.parameters) == list(awaited[name].parameters), name
        for parameter, there in zip(
            signature.parameters.values(), awaited[name].parameters.values(), strict=True
        ):
            assert (parameter.kind, parameter.default) == (there.kind, there.default), name


def test_editors_are_told_every_field_of_a_job() -> None:
    assert {"task", "tenant", "messages", "inputs", *get_type_hints(JobFields)} == set(Job.model_fields)


async def test_many_jobs_are_awaited_at_once_over_one_subscription(
    async_fleet: AsyncFleet, worker: FakeWorker, client: redis.asyncio.Redis
) -> None:
    results = await asyncio.gather(
        *(async_fleet.run(**ASK | {"messages": str(n)}, timeout=20) for n in range(200))
    )
    assert [result.text for result in results] == [f"echo: {n}" for n in range(200)]
    async with asyncio.timeout(10):  # those of earlier tests are closing
        while len(await client.client_list(_type="pubsub")) != 1:
            await asyncio.sleep(0.02)


async def test_handles_come_back_as_their_jobs_complete(async_fleet: AsyncFleet, worker: FakeWorker) -> None:
    handles = await async_fleet.submit_many(ASK | {"messages": str(n)} for n in range(250))
    texts = {(await handle.result()).text async for handle in async_fleet.as_completed(handles, timeout=20)}
    assert texts == {f"echo: {n}" for n in range(250)}


async def test_a_refusal_is_raised_by_submit_and_carried_by_submit_many(async_fleet: AsyncFleet) -> None:
    with pytest.raises(JobRejected, match=r"job\.tenant"):
        await async_fleet.submit(**ASK | {"tenant": "no/slashes"})
    [handle] = await async_fleet.submit_many([ASK | {"tenant": "no/slashes"}])
    assert (handle.outcome, await handle.status()) == ("refused", "rejected")
    with pytest.raises(JobRejected, match=r"job\.tenant"):
        await handle.result()


async def test_a_job_of_another_process_is_announced_on_its_own_channel(
    fleet_settings: FleetSettings, async_fleet: AsyncFleet, client: redis.asyncio.Redis
) -> None:
    async with AsyncFleet(fleet_settings) as other:
        job_id = (await other.submit(**ASK)).job_id
    channel = f"celery-task-meta-{job_id}"
    waiting = asyncio.create_task((await async_fleet.get(job_id)).wait(20))
    async with asyncio.timeout(10):
        while dict(await client.pubsub_numsub(channel))[channel.encode()] == 0:
            await asyncio.sleep(0.02)
    waiting.cancel()
    async with asyncio.timeout(10):
        while dict(await client.pubsub_numsub(channel))[channel.encode()]:
            await asyncio.sleep(0.02)


async def test_a_result_that_nobody_announced_is_found_by_the_poll(
    async_fleet: AsyncFleet, client: redis.asyncio.Redis
) -> None:
    job = await async_fleet.submit(**ASK)
    waiting = asyncio.create_task(job.wait(20))
    await asyncio.sleep(0)
    result = JobResult(job_id=job.job_id, status="succeeded", text="found")
    meta = success_meta(result)
    await client.set(f"celery-task-meta-{job.job_id}", meta, ex=60)
    async with asyncio.timeout(POLL_S + 5):
        assert (await waiting).text == "found"


async def test_waiting_goes_on_when_every_subscription_is_cut(
    async_fleet: AsyncFleet, client: redis.asyncio.Redis, worker: FakeWorker
) -> None:
    async def cut() -> None:
        while True:
            await client.client_kill_filter(_type="pubsub")
            await asyncio.sleep(0.05)

    cutting = asyncio.create_task(cut())
    try:
        for _ in range(3):
            assert (await async_fleet.run(**ASK, timeout=20)).status == "succeeded"
    finally:
        cutting.cancel()


async def test_a_caller_that_gives_up_leaves_nothing_behind(async_fleet: AsyncFleet) -> None:
    job = await async_fleet.submit(**ASK)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await job.wait(20)
    assert await job.cancel() == "pending"


async def test_closing_tells_those_who_wait(fleet_settings: FleetSettings) -> None:
    fleet = AsyncFleet(fleet_settings)
    job = await fleet.submit(**ASK)
    waiting = asyncio.create_task(job.wait(20))
    await asyncio.sleep(0)
    await fleet.close()
    with pytest.raises(FleetError, match="closed"):
        await waiting


class Twice(Straight):
    """Every reply of the broker is lost once, and the client repeats."""

    async def cross(self, _name: str, do: Callable[[], Awaitable[T]]) -> T:
        await do()
        return await do()


async def test_a_job_whose_reply_was_lost_is_accepted_once(
    fleet_settings: FleetSettings, worker: FakeWorker
) -> None:
    async with AsyncFleet(fleet_settings, crossing=Twice()) as fleet:
        handles = await fleet.submit_many([ASK] * 100)
        assert {handle.outcome for handle in handles} == {"accepted"}
        assert {(await handle.result(20)).status for handle in handles} == {"succeeded"}
    assert len(worker.done) == 100


@pytest.mark.usefixtures("worker")
async def test_inputs_become_vectors_in_their_order(fleet_settings: FleetSettings) -> None:
    async with AsyncFleet(fleet_settings) as fleet:
        job = await fleet.embed(task="embed", tenant="acme", inputs=["one", "three"], dimensions=2)
        assert (await job.result(timeout=10)).embeddings == [[3, 1], [5, 1]]
