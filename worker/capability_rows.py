"""Which models take which parts of a request: the table, a row a fact, each with its source and the day it was read.

A row holds for its dialect, for `host` and the hosts below it (empty: any) and for models whose name begins as `model`
says (a regular expression; empty: any). Later rows go before earlier ones; `capabilities` of routing.yaml goes before
all of them. What no row names is taken if it is in `BY_DIALECT`, so that an unknown model is asked for all that its
dialect has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker.routing_file import Dialect

# Left out of a request where they are refused, with a finding in the job's result.
PARAMETERS = ("temperature", "seed", "stop")
# What a job needs: a deployment that refuses one of them is left out of the job's plan. In the words of the reason.
NEEDED: Mapping[str, str] = {
    "tools": "tools",
    "forced_tool_choice": "tool_choice other than auto",
    "images": "images",
    "image_urls": "images by URL, only as data",
    "tool_images": "images in a tool's result",
}
# How the same thing is said. `unsigned_calls`: earlier tool calls without a signature.
FORMS = (
    "system",
    "response_schema",
    "json_object",
    "schema_with_tools",
    "unsigned_calls",
    "service_tier",
    "prompt_cache_key",
    "cache_breakpoints",
    "max_completion_tokens",
)
CAPABILITIES = (*PARAMETERS, *NEEDED, *FORMS)


@dataclass(frozen=True)
class Row:
    """One fact: what is taken or refused, where, who says so (a URL), and when that was read (YYYY-MM-DD)."""

    dialect: Dialect
    source: str
    as_of: str
    host: str = ""
    model: str = ""
    takes: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()


_EVERYWHERE = frozenset(
    {*PARAMETERS, *NEEDED, "system", "response_schema", "json_object", "schema_with_tools"}
) | {"unsigned_calls", "service_tier"}
BY_DIALECT: Mapping[Dialect, frozenset[str]] = {
    "openai": _EVERYWHERE - {"tool_images"} | {"prompt_cache_key"},  # a tool's message is text
    "anthropic": _EVERYWHERE - {"seed", "json_object"},
    "gemini": _EVERYWHERE - {"tool_images"},  # a function's response is JSON
}

# The map of models and what they take, as of litellm 1.110.2.
_LITELLM = "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json"
_READ = "2026-11-24"

ROWS: tuple[Row, ...] = (
    # --- OpenAI and those who speak like it --------------------------------------------------------------------------
    # max_tokens is deprecated there, and refused by models that think.
    Row(
        "openai",
        "https://developers.openai.com/api/reference/resources/chat",
        _READ,
        host="api.openai.com",
        takes=("max_completion_tokens",),
    ),
    Row(
        "openai",
        "https://learn.microsoft.com/azure/foundry/openai/how-to/reasoning",
        _READ,
        host="openai.azure.com",
        takes=("max_completion_tokens",),
    ),
    # Models that think choose their own temperature, and end where they end. gpt-5-chat does not think.
    Row(
        "openai",
        "https://developers.openai.com/api/docs/guides/reasoning",
        _READ,
        model=r"(?:ft:)?(?:o[1-9](?:-|$)|gpt-(?:[5-9]|[12]\d)(?:\.\d+)?(?![\d.]|-chat))",
        refuses=("temperature", "stop"),
    ),
    Row("openai", _LITELLM, _READ, model="o3-mini", refuses=("images", "image_urls")),
    Row(
        "openai",
        _LITELLM,
        _READ,
        model=r"gpt-5-chat|o3-deep-research|o4-mini-deep-research",
        refuses=("tools",),
    ),
    Row(
        "openai",
        "https://developers.openai.com/api/docs/guides/prompt-caching",
        _READ,
        host="api.openai.com",
        model=r"gpt-(?:5\.(?:[6-9]|[1-9]\d)|[6-9](?:\.\d+)?|[1-9]\d+(?:\.\d+)?)\b",
        takes=("cache_breakpoints",),
    ),
    # Refuses a request for a field that it does not know.
    Row(
        "openai",
        "https://console.groq.com/docs/api-reference",
        _READ,
        host="api.groq.com",
        refuses=("prompt_cache_key",),
    ),
    # Writes JSON when told to, and refuses to be given a schema.
    Row(
        "openai",
        "https://api-docs.deepseek.com/guides/json_mode",
        _READ,
        host="api.deepseek.com",
        refuses=("response_schema",),
    ),
    Row(
        "openai",
        _LITELLM,
        _READ,
        host="api.deepseek.com",
        model="deepseek-v4-pro",
        refuses=("images", "image_urls"),
    ),
    Row("openai", _LITELLM, _READ, host="api.deepseek.com", model="deepseek-reasoner", refuses=("tools",)),
    # --- Anthropic ---------------------------------------------------------------------------------------------------
    Row(
        "anthropic",
        "https://platform.claude.com/docs/en/about-claude/models/overview",
        _READ,
        model=r"claude-(?:opus-(?:4-[7-9]|[5-9])|sonnet-[5-9]|haiku-(?:5-[5-9]|[6-9])|fable|mythos)",
        refuses=("temperature",),
    ),
    Row(
        "anthropic",
        _LITELLM,
        _READ,
        model=r"claude-(?:sonnet-5-5|opus-5-5|fable-5-1|mythos-5-1)",
        refuses=("forced_tool_choice",),
    ),
    # From before structured outputs.
    Row(
        "anthropic",
        "https://platform.claude.com/docs/en/build-with-claude/structured-outputs",
        _READ,
        model=r".*claude-(?:instant|[1-3]\b|(?:opus|sonnet)-4(?:-[01]\b|-20\d{6}|$))",
        refuses=("response_schema",),
    ),
    # --- Gemini ------------------------------------------------------------------------------------------------------
    # Sampling is the model's own: what is sent is refused (3.x) or ignored (4).
    Row("gemini", _LITELLM, _READ, model=r"gemini-3\.(?:[6-9]-|5-flash-lite)", refuses=("temperature",)),
    Row(
        "gemini",
        "https://ai.google.dev/gemini-api/docs/latest-model",
        _READ,
        model=r"gemini-[4-9]",
        refuses=("temperature",),
    ),
    # They refuse an earlier call of a function without the thought signature that came with it.
    Row(
        "gemini",
        "https://ai.google.dev/gemini-api/docs/thought-signatures",
        _READ,
        model=r"gemini-(?:[3-9]|[1-9]\d)",
        refuses=("unsigned_calls",),
    ),
    Row(
        "gemini",
        "https://ai.google.dev/gemini-api/docs/structured-output",
        _READ,
        model=r"gemini-[12]\b",
        refuses=("schema_with_tools",),
    ),
    Row(
        "gemini",
        "https://ai.google.dev/gemini-api/docs/file-input-methods",
        _READ,
        model=r"gemini-(?:1\.|2\.0)",
        refuses=("image_urls",),
    ),
    Row(
        "gemini",
        "https://ai.google.dev/gemma/docs/core/gemma_on_gemini_api",
        _READ,
        model=r"gemma-",
        refuses=("system", "response_schema", "json_object"),
    ),
)
