"""The table of error codes, as docs/wire.md and the design promise it to producers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from producer_sdk.contract import BUDGET_REASONS, MEANINGS, ErrorCode, JobError, JobResult, uuid7

# code: (HTTP status, may be submitted again, how the job ends)
TABLE = {
    "budget_exceeded": (429, False, "rejected"),
    "retry_cap": (429, True, "rejected"),
    "loop_detected": (429, False, "rejected"),
    "run_cap": (429, False, "rejected"),
    "queue_full": (429, True, "rejected"),
    "policy_denied": (403, False, "rejected"),
    "unsigned": (401, False, "rejected"),
    "unknown_tenant": (404, False, "rejected"),
    "unknown_task": (404, False, "rejected"),
    "invalid_job": (422, False, "rejected"),
    "answer_too_large": (502, False, "failed"),
    "cost_limit": (402, False, "rejected"),
    "unsafe_input": (422, False, "rejected"),
    "unsafe_tool_result": (422, False, "rejected"),
    "context_too_long": (413, False, "rejected"),
    "content_blocked": (422, False, "failed"),
    "citations_missing": (502, True, "failed"),
    "invalid_output": (502, True, "failed"),
    "provider_unavailable": (503, True, "failed"),
    "deadline_exceeded": (504, True, "failed"),
    "uncertain": (504, False, "failed"),
    "cancelled": (499, False, "cancelled"),
    "expired": (504, False, "expired"),
    "internal": (500, True, "failed"),
}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_each_code_means_what_the_table_says(code: ErrorCode) -> None:
    meaning = MEANINGS[code]
    assert (meaning.status, meaning.retryable, meaning.ends) == TABLE[code]


def test_the_table_names_every_code_and_no_other() -> None:
    assert set(TABLE) == {code.value for code in ErrorCode} == {code.value for code in MEANINGS}


def test_the_wire_document_shows_the_same_table() -> None:
    text = (Path(__file__).parents[3] / "docs" / "wire.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (yes|no)[^|]* \| (\w+) \|", text, re.MULTILINE)
    assert {code: (int(status), again == "yes", ends) for code, status, again, ends in rows} == TABLE


def test_only_a_budget_that_is_in_flight_passes_by_itself() -> None:
    assert BUDGET_REASONS == {"window_spent": False, "in_flight": True, "never_fits": False}


def test_an_error_takes_status_and_retryable_from_its_code_unless_told() -> None:
    plain = JobError.of(ErrorCode.BUDGET_EXCEEDED, "spent", reason="window_spent")
    passing = JobError.of(ErrorCode.BUDGET_EXCEEDED, "wait", reason="in_flight", retryable=True)
    assert (plain.status, plain.retryable, passing.retryable) == (429, False, True)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_job_without_an_answer_ends_in_the_status_of_its_code(code: ErrorCode) -> None:
    job_id = uuid7()
    result = JobResult.ended(job_id, JobError.of(code, "why"))
    assert (result.job_id, result.status, result.error and result.error.code) == (
        job_id,
        TABLE[code][2],
        code,
    )
