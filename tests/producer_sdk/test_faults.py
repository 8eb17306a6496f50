"""When the broker is dead, paused, full, restarted or keeps no log: a sentence within seconds, and no lost job."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis

from producer_sdk import AsyncFleet, BrokerUnavailable, Fleet, FleetSettings, Job, Message, SubmitInterrupted
from tests.producer_sdk.fake_worker import working
from tests.servers import Valkey

ASK: dict[str, Any] = {"task": "classify", "tenant": "acme", "messages": "Where is my card?"}
TIMEOUT_S = 1.0


@pytest.fixture
def settings(own_valkey: Valkey, namespace: str) -> FleetSettings:
    return FleetSettings(own_valkey.broker_url, namespace, result_ttl_s=60, broker_timeout_s=TIMEOUT_S)


def jobs(count: int) -> list[Job]:
    return [
        Job(tenant="acme", task="t", messages=[Message(role="user", content=str(n))]) for n in range(count)
    ]


def test_without_a_broker_every_question_says_what_to_start(
    own_valkey: Valkey, settings: FleetSettings
) -> None:
    with Fleet(settings) as fleet:
        job = fleet.submit(**ASK)
        own_valkey.kill()
        questions = (
            lambda: fleet.submit(**ASK),
            lambda: fleet.get(job.job_id),
            job.status,
            job.cancel,
            job.result,
        )
        for ask in questions:
            began = time.monotonic()
            with pytest.raises(
                BrokerUnavailable, match=r"no broker answers at /.*: start it with `fairlane up`"
            ):
                ask()
            assert time.monotonic() - began < 5 * TIMEOUT_S


def test_a_broker_that_does_not_answer_is_given_up_in_time(
    own_valkey: Valkey, settings: FleetSettings
) -> None:
    with Fleet(settings) as fleet:
        job = fleet.submit(**ASK)
        own_valkey.pause()
        try:
            for ask in (lambda: fleet.submit(**ASK), lambda: job.result(60)):
                began = time.monotonic()
                with pytest.raises(BrokerUnavailable, match=r"did not answer in time|no broker answers"):
                    ask()
                assert time.monotonic() - began < 5 * TIMEOUT_S
        finally:
            own_valkey.resume()
        assert fleet.submit(**ASK).outcome == "accepted"


def test_a_name_that_is_no_broker_shows_no_password(namespace: str) -> None:
    url = "redis://:a-secret-word@localhost:1/0"
    with Fleet(FleetSettings(url, namespace, broker_timeout_s=0.3)) as fleet:
        with pytest.raises(BrokerUnavailable, match="localhost:1: start it, or name another") as caught:
            fleet.submit(**ASK)
        assert "a-secret-word" not in str(caught.value)


async def test_a_restart_is_waited_out(own_valkey: Valkey, settings: FleetSettings) -> None:
    patient = FleetSettings(settings.broker_url, settings.namespace, broker_timeout_s=20.0)
    async with AsyncFleet(patient) as fleet:
        before = await fleet.submit_many(jobs(20))
        waiting = asyncio.gather(*(job.result(60) for job in before))
        await asyncio.sleep(0)
        own_valkey.kill()
        submitting = asyncio.create_task(fleet.submit_many(jobs(20)))
        await asyncio.sleep(0)
        await asyncio.to_thread(own_valkey.start)
        after = await submitting
        with working(own_valkey, settings.namespace):
            assert {result.status for result in await waiting} == {"succeeded"}
            assert {(await job.result(60)).status for job in after} == {"succeeded"}
    assert {job.outcome for job in after} == {"accepted"}


def test_many_that_were_interrupted_can_be_submitted_again(
    own_valkey: Valkey, settings: FleetSettings
) -> None:
    wanted = jobs(1000)

    def and_then_the_broker_dies() -> Any:
        for number, job in enumerate(wanted):
            if number == 500:
                own_valkey.kill()
            yield job

    with Fleet(settings) as fleet:
        with pytest.raises(SubmitInterrupted) as caught:
            fleet.submit_many(and_then_the_broker_dies())
        answered = [handle.job_id for handle in caught.value.handles]
        assert answered == [job.job_id for job in wanted[: len(answered)]]
        assert 200 <= len(answered) <= 500
        own_valkey.start()
        again = fleet.submit_many(wanted)
        assert {handle.outcome for handle in again[: len(answered)]} == {"duplicate"}
        with working(own_valkey, settings.namespace) as worker:
            assert {handle.result(60).status for handle in again} == {"succeeded"}
        assert sorted(worker.done) == sorted(str(job.job_id) for job in wanted)


def test_a_broker_without_memory_says_so(own_valkey: Valkey, settings: FleetSettings) -> None:
    admin = redis.Redis(unix_socket_path=str(own_valkey.socket))
    admin.config_set("maxmemory", "1mb")
    with Fleet(settings) as fleet, pytest.raises(BrokerUnavailable, match="out of memory and takes no jobs"):
        fleet.submit_many([ASK | {"messages": "x" * 100_000}] * 40)
    admin.close()


def test_fsync_is_confirmed_by_the_servers_log(own_valkey: Valkey, settings: FleetSettings) -> None:
    admin = redis.Redis(unix_socket_path=str(own_valkey.socket))
    admin.config_set("appendfsync", "everysec")
    admin.close()
    with Fleet(FleetSettings(settings.broker_url, settings.namespace, broker_timeout_s=10.0)) as fleet:
        handles = fleet.submit_many([ASK | {"durability": "fsync"}] * 100)
        assert {handle.outcome for handle in handles} == {"accepted"}
        own_valkey.kill()
        own_valkey.start()
        assert {handle.status() for handle in handles} == {"pending"}


def test_fsync_without_a_log_is_refused_before_anything_is_put(
    own_valkey: Valkey, settings: FleetSettings
) -> None:
    admin = redis.Redis(unix_socket_path=str(own_valkey.socket))
    admin.config_set("appendonly", "no")
    with Fleet(settings) as fleet:
        with pytest.raises(BrokerUnavailable, match="keeps no append-only file"):
            fleet.submit(**ASK, durability="fsync")
        assert admin.dbsize() == 0
        assert fleet.submit(**ASK).outcome == "accepted"
    admin.close()
