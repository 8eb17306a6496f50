"""The taxonomy against tests/wire_cases/errors.yaml, row by row."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.errors import FailureKind
from worker.providers.errors import inside_stream, refused
from worker.providers.failure_codes import CODES, STATUSES

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WIRE_CASES = Path(__file__).parents[2] / "wire_cases"
ROWS: list[list[Any]] = yaml.safe_load((WIRE_CASES / "errors.yaml").read_text())


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_an_error_means_what_its_row_says(row: list[Any]):
    _name, status, headers, body, kind, billed, wait_s = row
    raw = body if isinstance(body, str) else json.dumps(body)
    error = refused("acme-llm", status=status, headers=headers, body=raw.encode(), now=NOW)
    assert (error.kind, error.billed, error.retry_after_s) == (FailureKind(kind), billed, wait_s)
    assert error.status == status
    assert str(error).startswith(f"acme-llm answered {status}")


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
    ],
)
def test_an_error_inside_a_stream_counts_as_a_status_until_the_answer_has_begun(
    error: dict[str, Any], begun: bool, kind: FailureKind, billed: str
):
    found = inside_stream(error, begun=begun, usage=None)
    assert (found.kind, found.billed) == (kind, billed)
