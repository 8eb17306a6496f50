"""Results are read in both shapes that workers write, and in those that Celery writes by itself."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_sdk import ErrorCode, JobError, JobResult, ResultUnreadable, Usage
from producer_sdk.contract import uuid7
from producer_sdk.result_meta import read_meta
from tests.producer_sdk.fake_worker import failure_meta, success_meta

JOB_ID = uuid7()
ANSWER = JobResult.model_validate({
    "job_id": JOB_ID,
    "status": "succeeded",
    "text": "It is on its way.",
    "usage": Usage(input_tokens=12, output_tokens=5),
    "cost_usd": "0.000012345678",
})  # fmt: skip
REFUSAL = JobResult.ended(JOB_ID, JobError.of(ErrorCode.POLICY_DENIED, "not for this tenant"))


def meta(status: str, **more: Any) -> bytes:
    return json.dumps({"status": status, "result": None, "task_id": str(JOB_ID)} | more).encode()


@pytest.mark.parametrize("result", [ANSWER, REFUSAL])
def test_an_answered_job_is_read_from_success(result: JobResult) -> None:
    assert read_meta(success_meta(result)) == result


def test_with_raises_the_result_beside_celerys_exception_is_read() -> None:
    assert read_meta(failure_meta(REFUSAL)) == REFUSAL


def test_a_job_that_celery_gave_up_failed_and_names_the_exception_without_its_text() -> None:
    gone = {"exc_type": "WorkerLostError", "exc_message": ["a prompt"], "exc_module": "billiard"}
    result = read_meta(meta("FAILURE", result=gone))
    assert result is not None
    assert (result.job_id, result.status) == (JOB_ID, "failed")
    assert result.error is not None
    assert "WorkerLostError" in result.error.message
    assert "prompt" not in result.error.message


def test_a_revoked_job_is_cancelled() -> None:
    result = read_meta(meta("REVOKED"))
    assert result is not None
    assert result.status == "cancelled"


@pytest.mark.parametrize("status", ["PENDING", "STARTED", "RETRY", "RECEIVED"])
def test_a_job_under_way_has_no_result_yet(status: str) -> None:
    assert read_meta(meta(status)) is None


def test_fields_that_a_newer_worker_has_added_are_left_out() -> None:
    newer = ANSWER.model_dump(mode="json") | {"mood": "good"}
    newer["usage"]["thoughts"] = 7
    assert read_meta(meta("SUCCESS", result=newer)) == ANSWER


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        meta("SUCCESS"),
        meta("SUCCESS", result={"status": "fine"}),
        meta("SUCCESS", task_id="x"),
    ],
    ids=["nothing", "cut", "a list", "a number", "no result", "another result", "no id"],
)
def test_what_is_no_result_is_said_to_be_unreadable(payload: bytes) -> None:
    with pytest.raises(ResultUnreadable, match="upgrade fairlane-sdk"):
        read_meta(payload)


values = st.none() | st.integers() | st.text(max_size=5) | st.dictionaries(st.text(max_size=5), st.integers())


@given(
    st.fixed_dictionaries(
        {"status": st.sampled_from(["SUCCESS", "FAILURE", "REVOKED"]) | values, "result": values},
        optional={"task_id": st.just(str(uuid.uuid4())) | values, "fairlane": values},
    )
    | values
)
def test_any_json_is_a_result_or_unreadable(stored: Any) -> None:
    payload = json.dumps(stored).encode()
    try:
        result = read_meta(payload)
    except ResultUnreadable:
        return
    assert result is None or isinstance(result, JobResult)
