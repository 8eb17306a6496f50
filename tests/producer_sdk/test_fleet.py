"""What a product does with Fleet, over real lanes, with a small worker on the other side."""

from __future__ import annotations

import asyncio
import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from producer_sdk import (
    Fleet,
    FleetError,
    FleetSettings,
    Job,
    JobCancelled,
    JobFailed,
    JobRejected,
    Message,
    ResultTimeout,
    UnknownJob,
)
from producer_sdk.lanes import Limits, TenantLimits
from tests.producer_sdk.fake_worker import FakeWorker, give_up_everything, set_limits, working
from tests.servers import Valkey, wait_until

ASK: dict[str, Any] = {"task": "classify", "tenant": "acme", "messages": "Where is my card?"}


def test_a_job_is_submitted_and_its_answer_comes_back(fleet: Fleet, worker: FakeWorker) -> None:
    job = fleet.submit(**ASK)
    assert (job.outcome, job.error) == ("accepted", None)
    assert job.result(timeout=10).text == "echo: Where is my card?"
    assert job.result().text == "echo: Where is my card?"
    assert job.status() == "succeeded"


def test_run_is_submit_and_result(fleet: Fleet, worker: FakeWorker) -> None:
    messages = [Message(role="system", content="Be short."), Message(role="user", content="Hi")]
    assert fleet.run(task="classify", tenant="acme", messages=messages, timeout=10).text == "echo: Hi"


def test_inputs_become_vectors_in_their_order(fleet: Fleet, worker: FakeWorker) -> None:
    job = fleet.embed(task="embed", tenant="acme", inputs=["one", "three"], lane="batch")
    assert job.result(timeout=10).embeddings == [[3, 1, 1], [5, 1, 1]]
    short = fleet.embed(task="embed", tenant="acme", inputs="one", dimensions=2, params={"dimensions": 9})
    assert short.result(timeout=10).embeddings == [[3, 1]]
    jobs = [{"task": "embed", "tenant": "acme", "inputs": ["x" * number]} for number in range(1, 5)]
    vectors = [handle.result(timeout=10).embeddings for handle in fleet.submit_many(jobs)]
    assert vectors == [[[number, 1, 1]] for number in range(1, 5)]


def test_an_embedding_that_cannot_be_is_refused_before_anything_is_sent(fleet: Fleet) -> None:
    with pytest.raises(JobRejected, match="at least 1 character"):
        fleet.embed(task="embed", tenant="acme", inputs=["fine", ""])
    with pytest.raises(JobRejected, match="leave out temperature"):
        fleet.embed(task="embed", tenant="acme", inputs="x", dimensions=2, params={"temperature": 1})


@pytest.mark.parametrize(("ask", "error", "code"), [
    ("reject", JobRejected, "policy_denied"),
    ("fail", JobFailed, "provider_unavailable"),
])  # fmt: skip
def test_a_job_that_ends_without_an_answer_raises_its_error(
    fleet: Fleet, worker: FakeWorker, ask: str, error: type[JobFailed], code: str
) -> None:
    job = fleet.submit(**ASK | {"messages": ask})
    with pytest.raises(error) as caught:
        job.result(timeout=10)
    assert caught.value.error is not None
    assert caught.value.error.code == code
    assert job.wait().error == caught.value.error


def test_an_invalid_job_is_rejected_before_anything_is_sent(fleet: Fleet) -> None:
    with pytest.raises(
        JobRejected, match=r"job\.prioritty: unknown field, did you mean 'priority'\?"
    ) as caught:
        fleet.submit(**ASK, prioritty=3)
    assert caught.value.error is not None
    assert caught.value.error.code == "invalid_job"


def test_one_bad_job_among_many_is_refused_alone(fleet: Fleet, worker: FakeWorker) -> None:
    given_id = uuid.uuid4()
    jobs: list[Any] = [ASK | {"messages": f"{n}"} for n in range(5)]
    jobs[2] = ASK | {"lane": "express", "job_id": given_id}
    handles = fleet.submit_many(jobs)
    assert [handle.outcome for handle in handles] == [
        "accepted",
        "accepted",
        "refused",
        "accepted",
        "accepted",
    ]
    assert handles[2].job_id == given_id
    assert handles[2].error is not None
    assert "job.lane" in handles[2].error.message
    with pytest.raises(JobRejected, match=r"job\.lane"):
        handles[2].result()
    assert handles[2].status() == "rejected"
    assert [handle.result(10).text for handle in handles if not handle.error] == [
        f"echo: {n}" for n in (0, 1, 3, 4)
    ]


def test_the_same_idempotency_key_is_the_same_job(fleet: Fleet, worker: FakeWorker) -> None:
    first = fleet.submit(**ASK, idempotency_key="order-17")
    second = fleet.submit(**ASK, idempotency_key="order-17")
    assert (first.outcome, second.outcome) == ("accepted", "duplicate")
    assert first.job_id == second.job_id
    assert first.result(10) == second.result(10)
    assert worker.done.count(str(first.job_id)) == 1


def test_the_same_idempotency_key_with_another_body_is_invalid(fleet: Fleet) -> None:
    fleet.submit(**ASK, idempotency_key="order-18")
    with pytest.raises(JobRejected, match="was used for another job") as caught:
        fleet.submit(**ASK | {"messages": "Another question"}, idempotency_key="order-18")
    assert caught.value.error is not None
    assert caught.value.error.code == "invalid_job"


def test_a_full_queue_refuses_at_once_or_waits_for_room(valkey: Valkey, namespace: str, fleet: Fleet) -> None:
    shallow = Limits(TenantLimits(concurrency=10_000, max_pending=2), {})
    asyncio.run(set_limits(valkey, namespace, shallow))
    handles = fleet.submit_many([ASK] * 3)
    assert [handle.outcome for handle in handles] == ["accepted", "accepted", "refused"]
    with pytest.raises(JobRejected, match="2 jobs waiting and its cap is 2") as caught:
        fleet.submit(**ASK)
    assert caught.value.error is not None
    assert caught.value.error.code == "queue_full"
    with working(valkey, namespace, limits=shallow):
        assert [handle.outcome for handle in fleet.submit_many([ASK] * 20, wait_s=20)] == ["accepted"] * 20


def test_handles_come_back_as_their_jobs_complete(fleet: Fleet, worker: FakeWorker) -> None:
    jobs: list[Any] = [
        Job(tenant="acme", task="t", messages=[Message(role="user", content=str(n))]) for n in range(300)
    ]
    handles = fleet.submit_many([*jobs, ASK | {"messages": "fail"}, ASK | {"priority": 99}, jobs[0]])
    done = list(fleet.as_completed(handles, timeout=20))
    assert done[0] is handles[301]
    assert sorted(map(id, done)) == sorted(map(id, handles))
    assert {handle.wait(0).status for handle in done} == {"succeeded", "failed", "rejected"}


def test_waiting_ends_at_its_timeout_and_the_job_goes_on(
    fleet: Fleet, valkey: Valkey, namespace: str
) -> None:
    job = fleet.submit(**ASK)
    with pytest.raises(ResultTimeout, match=r"within 0\.2 s: the work goes on"):
        job.result(timeout=0.2)
    with pytest.raises(ResultTimeout):
        list(fleet.as_completed([job], timeout=0.2))
    assert job.status() == "pending"
    with working(valkey, namespace):
        assert job.result(timeout=10).status == "succeeded"


def test_a_job_that_waits_can_be_cancelled(fleet: Fleet, valkey: Valkey, namespace: str) -> None:
    job = fleet.submit(**ASK)
    assert job.cancel() == "pending"
    with working(valkey, namespace):
        with pytest.raises(JobCancelled):
            job.result(timeout=10)
        assert fleet.cancel(job.job_id) == "finished"


def test_a_job_that_is_not_due_waits(fleet: Fleet) -> None:
    job = fleet.submit(**ASK, not_before=datetime.now(UTC) + timedelta(hours=1))
    wait_until(lambda: job.status() == "delayed")


def test_a_job_of_another_process_is_found_by_its_id(
    fleet: Fleet, fleet_settings: FleetSettings, worker: FakeWorker
) -> None:
    with Fleet(fleet_settings) as other:
        job_id = other.submit(**ASK).job_id
    assert fleet.get(str(job_id)).result(10).status == "succeeded"
    assert fleet.result(job_id).status == "succeeded"
    assert fleet.status(job_id) == "succeeded"


def test_an_unknown_id_is_said_to_be_unknown(fleet: Fleet) -> None:
    nobody = uuid.uuid4()
    assert fleet.status(nobody) == "unknown"
    for ask in (fleet.get, fleet.cancel, fleet.result):
        with pytest.raises(UnknownJob, match=str(nobody)):
            ask(nobody)
    with pytest.raises(UnknownJob, match="not a job's id"):
        fleet.get("the one from yesterday")


def test_threads_share_one_fleet(fleet: Fleet, worker: FakeWorker) -> None:
    texts: list[str] = []
    threads = [
        threading.Thread(
            target=lambda n=n: texts.append(fleet.run(**ASK | {"messages": str(n)}, timeout=20).text)
        )  # type: ignore[misc]
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(texts) == sorted(f"echo: {n}" for n in range(20))


def test_jobs_are_read_in_the_callers_thread(fleet: Fleet) -> None:
    seen: set[str] = set()

    def jobs() -> Any:
        for _ in range(450):
            seen.add(threading.current_thread().name)
            yield ASK

    assert len(fleet.submit_many(jobs())) == 450
    assert seen == {threading.current_thread().name}


def test_a_closed_fleet_says_so(fleet_settings: FleetSettings) -> None:
    fleet = Fleet(fleet_settings)
    job = fleet.submit(**ASK)
    fleet.close()
    fleet.close()
    for ask in (job.status, job.result, lambda: fleet.submit(**ASK)):
        with pytest.raises(FleetError, match="closed"):
            ask()


def test_closing_wakes_those_who_wait(fleet_settings: FleetSettings) -> None:
    fleet = Fleet(fleet_settings)
    job = fleet.submit(**ASK)
    caught: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(FleetError) as error:
            job.result(timeout=60)
        caught.append(error.value)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: job.status() == "pending")
    fleet.close()
    thread.join(10)
    assert [str(error) for error in caught] == ["this fleet was closed while it was waited for"]


def test_a_dead_letter_is_replayed_as_a_job_of_its_own(
    valkey: Valkey, namespace: str, fleet: Fleet, fleet_settings: FleetSettings
) -> None:
    job = fleet.submit(**ASK, idempotency_key="once", metadata={"order": "17"})
    asyncio.run(give_up_everything(valkey, namespace))
    assert job.result(timeout=10).status == "succeeded"
    [letter] = fleet.dead_letters(tenant="acme")
    assert (letter.job_id, letter.reason) == (str(job.job_id), "it killed its workers")
    assert b"Where is my card?" in fleet.dead_message(letter.job_id)
    with working(valkey, namespace):
        again = fleet.replay(letter.job_id)
        assert again.job_id != job.job_id
        assert again.result(timeout=10).text == "echo: Where is my card?"
    assert fleet.dead_letters() == []
    with pytest.raises(UnknownJob, match="no dead letter"):
        fleet.replay(letter.job_id)
    assert fleet.discard([letter.job_id]) == 0


def test_a_dead_letter_that_was_not_signed_is_not_signed_by_a_replay(
    valkey: Valkey, namespace: str, fleet: Fleet, fleet_settings: FleetSettings
) -> None:
    forged = fleet.submit(**ASK)
    asyncio.run(give_up_everything(valkey, namespace))
    with Fleet(replace(fleet_settings, producer_key=b"key")) as operator:
        with pytest.raises(JobRejected, match="not signed with the fleet's key"):
            operator.replay(forged.job_id)
        assert len(operator.dead_letters()) == 1
