"""Error codes: what each means in HTTP's words, whether to try again, and with which reasons."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple


class ErrorCode(StrEnum):
    """Every way in which a job ends without an answer."""

    BUDGET_EXCEEDED = "budget_exceeded"
    RETRY_CAP = "retry_cap"
    LOOP_DETECTED = "loop_detected"
    RUN_CAP = "run_cap"
    QUEUE_FULL = "queue_full"
    POLICY_DENIED = "policy_denied"
    UNSIGNED = "unsigned"
    UNKNOWN_TENANT = "unknown_tenant"
    UNKNOWN_TASK = "unknown_task"
    INVALID_JOB = "invalid_job"
    ANSWER_TOO_LARGE = "answer_too_large"
    COST_LIMIT = "cost_limit"
    UNSAFE_INPUT = "unsafe_input"
    UNSAFE_TOOL_RESULT = "unsafe_tool_result"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_BLOCKED = "content_blocked"
    CITATIONS_MISSING = "citations_missing"
    INVALID_OUTPUT = "invalid_output"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    INTERNAL = "internal"


class CodeMeaning(NamedTuple):
    """HTTP status, whether submitting the same job again can help, and the job status it ends with."""

    status: int
    retryable: bool
    ends: Literal["failed", "rejected", "cancelled", "expired"]


MEANINGS: dict[ErrorCode, CodeMeaning] = {
    ErrorCode.BUDGET_EXCEEDED: CodeMeaning(429, retryable=False, ends="rejected"),
    ErrorCode.RETRY_CAP: CodeMeaning(429, retryable=True, ends="rejected"),
    ErrorCode.LOOP_DETECTED: CodeMeaning(429, retryable=False, ends="rejected"),
    ErrorCode.RUN_CAP: CodeMeaning(429, retryable=False, ends="rejected"),
    ErrorCode.QUEUE_FULL: CodeMeaning(429, retryable=True, ends="rejected"),
    ErrorCode.POLICY_DENIED: CodeMeaning(403, retryable=False, ends="rejected"),
    ErrorCode.UNSIGNED: CodeMeaning(401, retryable=False, ends="rejected"),
    ErrorCode.UNKNOWN_TENANT: CodeMeaning(404, retryable=False, ends="rejected"),
    ErrorCode.UNKNOWN_TASK: CodeMeaning(404, retryable=False, ends="rejected"),
    ErrorCode.INVALID_JOB: CodeMeaning(422, retryable=False, ends="rejected"),
    ErrorCode.ANSWER_TOO_LARGE: CodeMeaning(502, retryable=False, ends="failed"),
    ErrorCode.COST_LIMIT: CodeMeaning(402, retryable=False, ends="rejected"),
    ErrorCode.UNSAFE_INPUT: CodeMeaning(422, retryable=False, ends="rejected"),
    ErrorCode.UNSAFE_TOOL_RESULT: CodeMeaning(422, retryable=False, ends="rejected"),
    ErrorCode.CONTEXT_TOO_LONG: CodeMeaning(413, retryable=False, ends="rejected"),
    ErrorCode.CONTENT_BLOCKED: CodeMeaning(422, retryable=False, ends="failed"),
    ErrorCode.CITATIONS_MISSING: CodeMeaning(502, retryable=True, ends="failed"),
    ErrorCode.INVALID_OUTPUT: CodeMeaning(502, retryable=True, ends="failed"),
    ErrorCode.PROVIDER_UNAVAILABLE: CodeMeaning(503, retryable=True, ends="failed"),
    ErrorCode.DEADLINE_EXCEEDED: CodeMeaning(504, retryable=True, ends="failed"),
    ErrorCode.UNCERTAIN: CodeMeaning(504, retryable=False, ends="failed"),
    ErrorCode.CANCELLED: CodeMeaning(499, retryable=False, ends="cancelled"),
    ErrorCode.EXPIRED: CodeMeaning(504, retryable=False, ends="expired"),
    ErrorCode.INTERNAL: CodeMeaning(500, retryable=True, ends="failed"),
}

# Why a budget said no: only `in_flight` passes by itself, when calls that are under way have settled.
BUDGET_REASONS = {"window_spent": False, "in_flight": True, "never_fits": False}
