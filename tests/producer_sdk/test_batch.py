"""Packing many jobs: in pieces of one round trip, each job's fault its own."""

from __future__ import annotations

import uuid
from typing import Any

from producer_sdk import Job, Message
from producer_sdk.batch import MOST_BYTES, MOST_JOBS, Packer, Prepared, receipt_of
from producer_sdk.contract.envelope import unpack
from producer_sdk.lanes import PutReply

ASK: dict[str, Any] = {"task": "classify", "tenant": "acme", "messages": "Where is my card?"}
PACKER = Packer(reply_to="me", signing_key=None)


def test_chunks_are_bounded_by_count_and_keep_the_order() -> None:
    jobs = [
        Job(tenant="a", task="t", messages=[Message(role="user", content="x")])
        for _ in range(2 * MOST_JOBS + 1)
    ]
    chunks = list(PACKER.chunks(iter(jobs)))
    assert [len(chunk) for chunk in chunks] == [MOST_JOBS, MOST_JOBS, 1]
    assert [one.job_id for chunk in chunks for one in chunk] == [job.job_id for job in jobs]


def test_chunks_are_bounded_by_bytes_as_they_travel() -> None:
    noise = "".join(uuid.uuid4().hex for _ in range(30_000))
    chunks = list(PACKER.chunks([ASK | {"messages": noise}] * 30))
    sizes = [sum(len(one.entry.message) for one in chunk if one.entry) for chunk in chunks]
    assert len(chunks) > 1
    assert max(sizes) < MOST_BYTES + len(noise)


def test_nothing_is_read_ahead_of_its_chunk() -> None:
    read: list[int] = []

    def jobs() -> Any:
        for number in range(3 * MOST_JOBS):
            read.append(number)
            yield ASK

    next(PACKER.chunks(jobs()))
    assert len(read) == MOST_JOBS


def test_the_one_who_waits_is_named_in_the_message() -> None:
    entry = PACKER.prepare(ASK).entry
    assert entry is not None
    assert unpack(entry.message).header.reply_to == "me"


def test_a_mapping_is_not_changed() -> None:
    given = dict(ASK)
    PACKER.prepare(given)
    assert given == ASK


def test_a_fault_is_an_answer_with_a_sentence() -> None:
    for wrong in (
        {},
        {"tenant": 1},
        ASK | {"job_id": "x"},
        ASK | {"messages": None},
        ASK | {"messages": "x" * 9_000_000},
    ):
        prepared = PACKER.prepare(wrong)
        assert prepared.entry is None
        assert prepared.error is not None
        assert (prepared.error.code, prepared.error.status) == ("invalid_job", 422)


def test_the_lanes_answers_become_the_producers() -> None:
    prepared = Prepared(uuid.uuid4())

    def answer(outcome: Any) -> tuple[str, str | None, bool | None]:
        receipt = receipt_of(prepared, PutReply(str(prepared.job_id), outcome, 7), reply_to="me")
        error = receipt.error
        return receipt.outcome, error and error.code, error and error.retryable

    assert answer("accepted") == ("accepted", None, None)
    assert answer("duplicate") == ("duplicate", None, None)
    assert answer("queue_full") == ("refused", "queue_full", True)
    assert answer("conflict") == ("refused", "invalid_job", False)
