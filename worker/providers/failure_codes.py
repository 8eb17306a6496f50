"""What providers' codes, phrases and statuses mean, as tables.

They follow the error pages and SDKs of OpenAI, Azure, Anthropic, DeepSeek, Groq, Google, Mistral, xAI, Together, vLLM,
llama.cpp, New API and Cloudflare as of November 2026; tests/wire_cases holds a row for each meaning.
"""

from __future__ import annotations

from worker.errors import Billed, FailureKind

_K = FailureKind

_BY_KIND: dict[FailureKind, str] = {
    _K.RATE_LIMITED: """
        rate_limit_exceeded rate_limit_error rate_limited requests tokens too_many_requests ramp_limit_exceeded
        slow_down RESOURCE_EXHAUSTED RATE_LIMIT_EXCEEDED RateLimitReached TooManyRequests model_rate_limit
        dynamic_request_limited dynamic_token_limited
    """,
    _K.QUOTA_EXHAUSTED: """
        insufficient_quota insufficient_user_quota insufficient_balance quota_exceeded billing_error billing_not_active
        billing_hard_limit_reached credit_balance_exhausted organization_spend_limit_exceeded
        project_spend_limit_exceeded organization_usage_limit_exceeded enforced_spend_limit_reached
        contract_spend_limit_reached blocked_api_access pre_consume_token_quota_failed credit_limit InsufficientQuota
        BILLING_DISABLED RESOURCE_QUOTA_EXCEEDED
    """,
    _K.OVERLOADED: """
        overloaded_error overloaded server_is_overloaded engine_overloaded engine_overloaded_error model_overloaded
        unavailable_error service_unavailable UNAVAILABLE capacity_exceeded resource_unavailable
        service_tier_capacity_exceeded NoCapacity EngineOverloaded ServiceUnavailable MODEL_CAPACITY_EXHAUSTED
    """,
    _K.SERVER_ERROR: """
        server_error api_error internal_error internal_server_error INTERNAL timeout_error InternalServerError
        DEADLINE_EXCEEDED CANCELLED ABORTED DATA_LOSS upstream_error bad_response_status_code
    """,
    _K.STREAM_BROKEN: """
        tool_use_failed json_validate_failed
    """,
    _K.CONTEXT_TOO_LONG: """
        context_length_exceeded exceed_context_size_error request_too_large model_context_window_exceeded
    """,
    _K.CONTENT_BLOCKED: """
        content_policy_violation content_filter ResponsibleAIPolicyViolation invalid_prompt data_inspection_failed
        image_content_policy_violation moderation_blocked sensitive_words_detected
    """,
    _K.AUTH: """
        invalid_api_key authentication_error permission_error account_deactivated organization_deactivated
        ip_not_authorized unsupported_country_region_territory organization_restricted API_KEY_INVALID
        API_KEY_SERVICE_BLOCKED API_KEY_HTTP_REFERRER_BLOCKED API_KEY_IP_ADDRESS_BLOCKED SERVICE_DISABLED
        ACCESS_TOKEN_EXPIRED ACCESS_TOKEN_SCOPE_INSUFFICIENT ACCESS_TOKEN_TYPE_UNSUPPORTED USER_PROJECT_DENIED
        CONSUMER_INVALID CONSUMER_SUSPENDED UNAUTHENTICATED PERMISSION_DENIED FAILED_PRECONDITION
    """,
    _K.INVALID_REQUEST: """
        not_supported_error UNIMPLEMENTED OUT_OF_RANGE
    """,
}
# The deployment's model is not there, or not any more, or not for this key: no fault of the request, and nothing to
# wait for. Another deployment may do.
_UNKNOWN_MODEL = """
    model_not_found model_decommissioned model_deprecated model_retired model_not_available model_not_active
    model_permission_blocked_org model_permission_blocked_project model_terms_required
    invalid_model unknown_model not_found_error NOT_FOUND NotFoundError DeploymentNotFound ModelNotFound
"""
UNKNOWN_MODEL = frozenset(_UNKNOWN_MODEL.split())
UNKNOWN_MODEL_PHRASES = ("model not exist", "model does not exist", "model has been decommissioned")
CODES: dict[str, FailureKind] = {code: kind for kind, codes in _BY_KIND.items() for code in codes.split()}
CODES |= dict.fromkeys(UNKNOWN_MODEL, _K.INVALID_REQUEST)

# Searched, in lower case, in the message of a 4xx whose code says nothing.
PHRASES: tuple[tuple[str, FailureKind], ...] = (
    ("maximum context length", _K.CONTEXT_TOO_LONG),
    ("prompt is too long", _K.CONTEXT_TOO_LONG),
    ("exceeds the maximum number of tokens", _K.CONTEXT_TOO_LONG),
    ("exceed context limit", _K.CONTEXT_TOO_LONG),
    ("exceeds the available context size", _K.CONTEXT_TOO_LONG),
    ("longer than the maximum model length", _K.CONTEXT_TOO_LONG),
    ("max_new_tokens` must be <=", _K.CONTEXT_TOO_LONG),
    ("credit balance is too low", _K.QUOTA_EXHAUSTED),
    ("insufficient balance", _K.QUOTA_EXHAUSTED),
    ("specified api usage limits", _K.QUOTA_EXHAUSTED),
    ("workspace api usage limits", _K.QUOTA_EXHAUSTED),
    ("have any credits", _K.QUOTA_EXHAUSTED),
    ("used all available credits", _K.QUOTA_EXHAUSTED),
    ("out of call volume quota", _K.QUOTA_EXHAUSTED),
    ("exceeded your current quota", _K.QUOTA_EXHAUSTED),
    ("content management policy", _K.CONTENT_BLOCKED),
    ("content filtering policy", _K.CONTENT_BLOCKED),
    ("input was flagged", _K.CONTENT_BLOCKED),
    ("incorrect api key", _K.AUTH),
    ("api key not valid", _K.AUTH),
    ("api key expired", _K.AUTH),
)

# Google says RESOURCE_EXHAUSTED of a minute's haste, of a day's quota and of an account without money alike.
SPENT_PHRASES = ("monthly spending cap", "prepayment credits are depleted")
SPENT_QUOTAS = ("PerDay", "PerMonth")

# Sent when the model had written something by then, or may have: who pays is not known, whatever the status.
MAY_BE_BILLED = frozenset(
    {
        "tool_use_failed",
        "json_validate_failed",
        "upstream_error",
        "bad_response_status_code",
        "DEADLINE_EXCEEDED",
        "CANCELLED",
        "DATA_LOSS",
    }
)

# A status that says more than any code with it: Groq answers 413 with rate_limit_exceeded to what never fits, Gemini
# 402 with RESOURCE_EXHAUSTED when the credit is gone.
STATUS_FIRST: dict[int, FailureKind] = {
    402: _K.QUOTA_EXHAUSTED,
    413: _K.CONTEXT_TOO_LONG,
    498: _K.RATE_LIMITED,
}

# A gateway's own failure says nothing of what the model behind it had done by then: who pays is not known.
STATUSES: dict[int, tuple[FailureKind, Billed]] = {
    401: (_K.AUTH, "no"),
    403: (_K.AUTH, "no"),
    408: (_K.SERVER_ERROR, "unknown"),
    409: (_K.SERVER_ERROR, "no"),
    424: (_K.SERVER_ERROR, "no"),
    425: (_K.SERVER_ERROR, "no"),
    429: (_K.RATE_LIMITED, "no"),
    451: (_K.AUTH, "no"),
    499: (_K.SERVER_ERROR, "unknown"),
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
    530: (_K.CONNECT_ERROR, "no"),
}
