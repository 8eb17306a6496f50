"""The taxonomy against tests/wire_cases/errors.yaml, row by row."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import FailureKind, ProviderError
from worker.fallback.rules import Decision, Failed, after
from worker.health.rules import of_error
from worker.job_run import PlannedCall
from worker.providers.errors import inside_stream, refused
from worker.providers.failure_codes import CODES, MAY_BE_BILLED, STATUSES, UNKNOWN_MODEL
from worker.rate_card import RateCard
from worker.routing_file import Deployment, Provider

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WIRE_CASES = Path(__file__).parents[2] / "wire_cases"
ROWS: list[list[Any]] = yaml.safe_load((WIRE_CASES / "errors.yaml").read_text())


def refusal(row: list[Any]) -> ProviderError:
    """What a row's answer is read as."""
    body = row[3] if isinstance(row[3], str) else json.dumps(row[3])
    return refused("acme-llm", status=row[1], headers=row[2], body=body.encode(), now=NOW)


def planned(provider: str, *, context_tokens: int) -> PlannedCall:
    """A call planned at a provider of this name."""
    at = Provider(provider, "openai", "http://provider.test")
    deployment = Deployment(f"{provider}/m", at, "m", context_tokens, 50)
    return PlannedCall(deployment, "fast-small", RateCard.flat("m", provider, 1, 1, 1, 1), 1)


def follows(error: ProviderError, call: PlannedCall, *, rest: list[PlannedCall]) -> Decision:
    """What follows a first failure with 600 s left."""
    return after(
        Failed(call, error),
        rest=rest,
        tries_here=1,
        failed_here=1,
        remaining_s=600,
        left_s=600,
        waited_ms=0,
        billed=error.billed != "no",
        jitter=0.5,
    )


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_an_error_means_what_its_row_says(row: list[Any]):
    status, (kind, billed, wait_s) = row[1], row[4:7]
    error = refusal(row)
    assert (error.kind, error.billed, error.retry_after_s) == (FailureKind(kind), billed, wait_s)
    assert error.status == status
    assert str(error).startswith(f"acme-llm answered {status}")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_follows_an_error_is_what_its_row_says(row: list[Any]):
    *_case, move, last_move = row
    here, other = planned("acme-llm", context_tokens=100), planned("other-llm", context_tokens=200)
    assert follows(refusal(row), here, rest=[other]).move == move
    assert follows(refusal(row), here, rest=[]).move == last_move


MODEL_ROWS = [row for row in ROWS if row[4] == "invalid_request" and row[7] == "next"]


@pytest.mark.parametrize("row", MODEL_ROWS, ids=[row[0] for row in MODEL_ROWS])
def test_an_unknown_model_cools_its_deployment_and_fails_no_job_that_has_another(row: list[Any]):
    outcome = of_error(refusal(row), timeout_s=30)
    assert outcome.cool
    assert (outcome.cool.kind, outcome.whole_provider) == ("unknown_model", False)


def test_every_code_of_an_unknown_model_is_one_whatever_the_status():
    for code in UNKNOWN_MODEL:
        for status in (400, 403, 404):
            body = json.dumps({"error": {"message": "no", "code": code}}).encode()
            error = refused("acme-llm", status=status, headers={}, body=body, now=NOW)
            assert (error.kind, error.model_unknown) == (FailureKind.INVALID_REQUEST, True), (code, status)


def test_the_table_has_a_case_of_its_own_name_for_every_error_that_is_known():
    assert len({row[0] for row in ROWS}) == len(ROWS) >= 120
    told = {refusal(row).code for row in ROWS}
    assert {"rate_limit_exceeded", "enforced_spend_limit_reached", "exceed_context_size_error"} <= told
    assert told >= MAY_BE_BILLED


def test_every_kind_that_a_status_or_code_can_have_stands_in_the_table():
    reachable = {kind for kind, _billed in STATUSES.values()} | set(CODES.values())
    assert {FailureKind(row[4]) for row in ROWS} >= reachable


def test_an_errors_message_is_never_repeated():
    body = json.dumps({"error": {"message": "SECRET", "type": "SECRET PROMPT", "code": "SECRET\nPROMPT"}})
    error = refused("acme-llm", status=400, headers={}, body=body.encode(), now=NOW)
    assert "SECRET" not in str(error)
    assert error.code is None


@pytest.mark.parametrize(
    ("error", "begun", "kind", "billed"),
    [
        ({"type": "overloaded_error"}, False, FailureKind.OVERLOADED, "no"),
        ({"type": "overloaded_error"}, True, FailureKind.STREAM_BROKEN, "unknown"),
        ({"code": "rate_limit_exceeded"}, False, FailureKind.RATE_LIMITED, "no"),
        ({"code": "server_error"}, False, FailureKind.SERVER_ERROR, "unknown"),
        ({"code": "context_length_exceeded"}, False, FailureKind.CONTEXT_TOO_LONG, "no"),
        ({"message": "prompt is too long"}, False, FailureKind.CONTEXT_TOO_LONG, "no"),
        ({"message": "who knows"}, False, FailureKind.STREAM_BROKEN, "unknown"),
        ({"code": "tool_use_failed"}, False, FailureKind.STREAM_BROKEN, "unknown"),
        ({"code": "upstream_error"}, False, FailureKind.SERVER_ERROR, "unknown"),
        ({"type": "insufficient_quota"}, False, FailureKind.QUOTA_EXHAUSTED, "no"),
        (
            {"status": "RESOURCE_EXHAUSTED", "details": [{"violations": [{"quotaId": "RequestsPerDay"}]}]},
            False,
            FailureKind.QUOTA_EXHAUSTED,
            "no",
        ),
    ],
)
def test_an_error_inside_a_stream_counts_as_a_status_until_the_answer_has_begun(
    error: dict[str, Any], begun: bool, kind: FailureKind, billed: str
):
    found = inside_stream(error, begun=begun, usage=None)
    assert (found.kind, found.billed) == (kind, billed)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["error", "errors", "code", "type", "message", "details", "violations", "quotaId"]
            )
            | st.sampled_from(["retryDelay", "reason", "innererror", "error_code", "status"]),
            inner,
            max_size=5,
        )
    ),
)


@given(
    status=st.integers(201, 999),
    body=st.binary(max_size=300) | ANY_JSON.map(lambda value: json.dumps(value).encode()),
    wait=st.text(max_size=30),
    advice=st.sampled_from(["true", "false", "", "x"]),
)
def test_any_answer_at_all_is_one_error(status: int, body: bytes, wait: str, advice: str):
    headers = {"retry-after": wait, "retry-after-ms": wait, "x-should-retry": advice}
    error = refused("acme-llm", status=status, headers=headers, body=body, now=NOW)
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= 7 * 86_400


def test_a_body_that_nests_without_end_is_read_by_its_status():
    error = refused("acme-llm", status=529, headers={}, body=b'{"error":' * 7_000, now=NOW)
    assert error.kind == FailureKind.OVERLOADED
