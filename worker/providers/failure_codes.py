"""What providers' codes, phrases and statuses mean, as tables.

They follow the error pages and SDKs of OpenAI, Anthropic, DeepSeek, Groq, Google, llama.cpp and Cloudflare as of
November 2026; tests/wire_cases holds a row for each meaning.
"""

from __future__ import annotations

from worker.errors import Billed, FailureKind

_K = FailureKind

_BY_KIND: dict[FailureKind, str] = {
    _K.RATE_LIMITED: """
        rate_limit_exceeded rate_limit_error rate_limited requests tokens too_many_requests ramp_limit_exceeded
        slow_down RESOURCE_EXHAUSTED
    """,
    _K.QUOTA_EXHAUSTED: """
        insufficient_quota insufficient_user_quota insufficient_balance quota_exceeded billing_error billing_not_active
        billing_hard_limit_reached credit_balance_exhausted organization_spend_limit_exceeded
        project_spend_limit_exceeded organization_usage_limit_exceeded enforced_spend_limit_reached
        contract_spend_limit_reached
    """,
    _K.OVERLOADED: """
        overloaded_error overloaded server_is_overloaded engine_overloaded engine_overloaded_error model_overloaded
        unavailable_error service_unavailable UNAVAILABLE capacity_exceeded resource_unavailable
    """,
    _K.SERVER_ERROR: """
        server_error api_error internal_error internal_server_error INTERNAL timeout_error
    """,
    _K.CONTEXT_TOO_LONG: """
        context_length_exceeded exceed_context_size_error request_too_large model_context_window_exceeded
    """,
    _K.CONTENT_BLOCKED: """
        content_policy_violation content_filter ResponsibleAIPolicyViolation invalid_prompt data_inspection_failed
    """,
    _K.AUTH: """
        invalid_api_key authentication_error permission_error account_deactivated organization_deactivated
        ip_not_authorized unsupported_country_region_territory
    """,
    _K.INVALID_REQUEST: """
        model_not_found not_found_error
    """,
}
CODES: dict[str, FailureKind] = {code: kind for kind, codes in _BY_KIND.items() for code in codes.split()}

# Searched, in lower case, in the message of a 4xx whose code says nothing.
PHRASES: tuple[tuple[str, FailureKind], ...] = (
    ("maximum context length", _K.CONTEXT_TOO_LONG),
    ("prompt is too long", _K.CONTEXT_TOO_LONG),
    ("exceeds the maximum number of tokens", _K.CONTEXT_TOO_LONG),
    ("exceed context limit", _K.CONTEXT_TOO_LONG),
    ("exceeds the available context size", _K.CONTEXT_TOO_LONG),
    ("credit balance is too low", _K.QUOTA_EXHAUSTED),
    ("insufficient balance", _K.QUOTA_EXHAUSTED),
    ("specified api usage limits", _K.QUOTA_EXHAUSTED),
    ("exceeded your current quota", _K.QUOTA_EXHAUSTED),
    ("content management policy", _K.CONTENT_BLOCKED),
    ("content filtering policy", _K.CONTENT_BLOCKED),
)

# A status that says more than any code with it: Groq answers 413 with rate_limit_exceeded to what never fits.
STATUS_FIRST: dict[int, FailureKind] = {413: _K.CONTEXT_TOO_LONG, 498: _K.RATE_LIMITED}

# A gateway's own failure says nothing of what the model behind it had done by then: who pays is not known.
STATUSES: dict[int, tuple[FailureKind, Billed]] = {
    401: (_K.AUTH, "no"),
    402: (_K.QUOTA_EXHAUSTED, "no"),
    403: (_K.AUTH, "no"),
    408: (_K.SERVER_ERROR, "unknown"),
    409: (_K.SERVER_ERROR, "no"),
    425: (_K.SERVER_ERROR, "no"),
    429: (_K.RATE_LIMITED, "no"),
    502: (_K.SERVER_ERROR, "unknown"),
    503: (_K.OVERLOADED, "no"),
    504: (_K.SERVER_ERROR, "unknown"),
    520: (_K.SERVER_ERROR, "unknown"),
    521: (_K.CONNECT_ERROR, "no"),
    522: (_K.CONNECT_ERROR, "no"),
    523: (_K.CONNECT_ERROR, "no"),
    524: (_K.SERVER_ERROR, "unknown"),
    525: (_K.CONNECT_ERROR, "no"),
    526: (_K.CONNECT_ERROR, "no"),
    529: (_K.OVERLOADED, "no"),
}
