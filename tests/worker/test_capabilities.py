"""The table of what models take: its rows, its order, routing.yaml's word over it, and what follows for a job."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from producer_sdk.contract import GenerationParams, Message
from worker.capabilities import finding, left_out, needs, refused, taken_by, unreadable_image
from worker.capability_rows import BY_DIALECT, CAPABILITIES, FORMS, NEEDED, PARAMETERS, ROWS
from worker.routing_file import Deployment, Dialect, Provider

HOSTS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}
IMAGE = {"type": "image", "url": "https://example.org/cat.png"}
INLINE = {"type": "image", "url": "data:image/png;base64,aGk="}


def deployment(dialect: Dialect, model: str, url: str | None = None, **own: bool) -> Deployment:
    provider = Provider("p", dialect, HOSTS[dialect] if url is None else url)
    return Deployment(f"p/{model}", provider, model, 1000, 100, capabilities=own)


def said(*parts: dict[str, str], role: str = "user") -> Message:
    fields: dict[str, Any] = {"role": role, "content": list(parts)}
    return Message(**fields, tool_call_id="c" if role == "tool" else None)


def test_every_row_says_who_says_so_and_since_when_and_names_what_there_is():
    for row in ROWS:
        assert re.match(r"https://\S+", row.source), row
        assert date(2025, 1, 1) < date.fromisoformat(row.as_of) <= date(2030, 1, 1), row
        assert {*row.takes, *row.refuses} <= set(CAPABILITIES), row
        assert row.takes or row.refuses, row
    assert set().union(*BY_DIALECT.values()) <= set(CAPABILITIES)
    assert len(CAPABILITIES) == len({*PARAMETERS, *NEEDED, *FORMS})


# What a model refuses of what its dialect has, for one or more models of every row.
REFUSED: list[tuple[Dialect, str, str | None, set[str]]] = [
    ("openai", "gpt-5-mini", None, {"temperature", "stop"}),
    ("openai", "gpt-6.1-sol", "https://api.n1n.ai/v1", {"temperature", "stop"}),
    ("openai", "o3", None, {"temperature", "stop"}),
    ("openai", "ft:o4-mini-2025:acme", None, {"temperature", "stop"}),
    ("openai", "o3-mini", None, {"temperature", "stop", "images", "image_urls"}),
    ("openai", "gpt-5-chat-latest", None, {"tools"}),
    ("openai", "gpt-5.1-chat-latest", None, set()),
    ("openai", "gpt-4o", None, set()),
    ("openai", "gpt-4.1-mini", None, set()),
    ("openai", "gpt-35-turbo", "https://mine.openai.azure.com/openai/v1", set()),
    ("openai", "openai/gpt-oss-120b", "https://api.groq.com/openai/v1", {"prompt_cache_key"}),
    ("openai", "deepseek-v4-flash", "https://api.deepseek.com", {"response_schema"}),
    ("openai", "deepseek-v4-pro", "https://api.deepseek.com", {"response_schema", "images", "image_urls"}),
    ("openai", "deepseek-reasoner", "https://api.deepseek.com", {"response_schema", "tools"}),
    ("openai", "deepseek-v4-pro", "https://models.example/v1", set()),
    ("anthropic", "claude-sonnet-5-5", None, {"temperature", "forced_tool_choice"}),
    ("anthropic", "claude-haiku-5-5", None, {"temperature"}),
    ("anthropic", "claude-opus-4-8", None, {"temperature"}),
    ("anthropic", "claude-haiku-4-5", None, set()),
    ("anthropic", "claude-3-5-haiku-20241022", None, {"response_schema"}),
    ("anthropic", "us.anthropic.claude-sonnet-4-20250514-v1:0", None, {"response_schema"}),
    ("gemini", "gemini-4-argon", None, {"temperature", "unsigned_calls"}),
    ("gemini", "gemini-3.8-flash", None, {"temperature", "unsigned_calls"}),
    ("gemini", "gemini-3.1-flash-lite", None, {"unsigned_calls"}),
    ("gemini", "gemini-2.5-flash", None, {"schema_with_tools"}),
    ("gemini", "gemini-2.0-flash", None, {"schema_with_tools", "image_urls"}),
    ("gemini", "gemma-3-27b-it", None, {"system", "response_schema", "json_object"}),
]


@pytest.mark.parametrize(("dialect", "model", "url", "without"), REFUSED)
def test_a_model_refuses_what_its_rows_say(dialect: Dialect, model: str, url: str | None, without: set[str]):
    taken = taken_by(deployment(dialect, model, url))
    assert BY_DIALECT[dialect] - taken == without


def test_every_row_that_refuses_is_met_by_a_model_of_the_cases():
    def meets(row: Any, dialect: str, model: str, url: str | None) -> bool:
        host = (url or HOSTS[dialect]).split("/")[2]
        return dialect == row.dialect and host.endswith(row.host) and bool(re.match(row.model, model))

    unmet = [row for row in ROWS if row.refuses and not any(meets(row, d, m, u) for d, m, u, _ in REFUSED)]
    assert unmet == []


def test_newer_names_and_breakpoints_are_taken_where_openai_itself_answers():
    assert {"max_completion_tokens", "cache_breakpoints"} <= taken_by(deployment("openai", "gpt-6-luna"))
    assert "cache_breakpoints" not in taken_by(deployment("openai", "gpt-5.5"))
    assert "cache_breakpoints" in taken_by(deployment("openai", "gpt-5.10"))
    elsewhere = taken_by(deployment("openai", "gpt-6-luna", "https://api.n1n.ai/v1"))
    assert not {"max_completion_tokens", "cache_breakpoints"} & elsewhere
    for host, newer in (
        ("eu.api.openai.com", True),
        ("mine.openai.azure.com", True),
        ("myapi.openai.com", False),
    ):
        assert (
            "max_completion_tokens" in taken_by(deployment("openai", "gpt-6-luna", f"https://{host}"))
        ) == newer


def test_where_a_call_really_goes_decides_the_rows_of_hosts():
    local = deployment("openai", "m", "")
    assert "response_schema" in taken_by(local)
    assert "response_schema" not in taken_by(local, "https://api.deepseek.com")


def test_the_file_goes_before_the_table_and_a_deployment_before_its_provider():
    own = deployment("openai", "gpt-5-mini", temperature=True, images=False)
    assert "temperature" in taken_by(own)
    assert "images" not in taken_by(own)
    provider = replace(own.provider, capabilities={"images": True, "seed": False})
    both = taken_by(replace(own, provider=provider))
    assert "images" not in both
    assert "seed" not in both


PLAIN = GenerationParams()
TOOLS = {"tools": [{"name": "t"}]}


@pytest.mark.parametrize(
    ("messages", "params", "needed"),
    [
        ([said({"type": "text", "text": "x"})], {}, ()),
        ([said(INLINE)], {}, ("images",)),
        ([said(INLINE), said(IMAGE)], {}, ("images", "image_urls")),
        ([said(INLINE, role="tool")], {}, ("tool_images",)),
        ([], TOOLS, ("tools",)),
        ([], TOOLS | {"tool_choice": "auto"}, ("tools",)),
        ([], TOOLS | {"tool_choice": "required"}, ("tools", "forced_tool_choice")),
        ([], TOOLS | {"tool_choice": "t"}, ("tools", "forced_tool_choice")),
        ([], {"temperature": 0.1, "seed": 1, "stop": ["x"]}, ()),
    ],
)
def test_a_job_needs_what_cannot_be_left_out(
    messages: list[Message], params: dict[str, Any], needed: tuple[str, ...]
):
    assert needs(messages, GenerationParams.model_validate(params)) == needed


@pytest.mark.parametrize(
    ("one", "needed", "why"),
    [
        (deployment("openai", "o3-mini"), ("images",), "it takes no images"),
        (
            deployment("gemini", "gemini-2.0-flash"),
            ("images", "image_urls"),
            "it takes no images by URL, only as data",
        ),
        (deployment("openai", "gpt-4o"), ("tool_images",), "it takes no images in a tool's result"),
        (
            deployment("anthropic", "claude-sonnet-5-5"),
            ("tools", "forced_tool_choice"),
            "it takes no tool_choice other than auto",
        ),
        (
            deployment("openai", "m", tools=False, images=False),
            ("tools", "images"),
            "it takes no tools, no images",
        ),
        (deployment("anthropic", "claude-haiku-5-5"), ("images", "image_urls", "tool_images"), None),
        (
            deployment("gemini", "gemini-4-argon"),
            ("tools", "forced_tool_choice", "images", "image_urls"),
            None,
        ),
    ],
)
def test_a_deployment_that_lacks_something_says_what(
    one: Deployment, needed: tuple[str, ...], why: str | None
):
    assert refused(one, needed) == why


def test_an_image_that_nobody_can_take_is_named():
    text = {"type": "image", "url": "data:image/svg+xml;utf8,<svg/>"}
    assert unreadable_image([said(INLINE), said(IMAGE), said(INLINE, role="tool")]) is None
    assert unreadable_image([said(INLINE), said(text)]) == (
        "messages[1] has an image whose data: URL is not in base64: write data:image/png;base64,…"
    )
    for role in ("system", "assistant"):
        assert str(unreadable_image([said(INLINE, role=role)])).startswith(f"messages[0] is the {role}'s")


def test_only_given_parameters_are_left_out_each_with_a_finding():
    taken = taken_by(deployment("openai", "gpt-5-mini"))
    assert left_out(PLAIN, taken) == []
    params = GenerationParams(temperature=0.0, seed=0, stop=["x"])
    assert left_out(params, taken) == ["temperature", "stop"]
    found = finding("temperature", deployment("openai", "gpt-5-mini"))
    assert found.model_dump() == {
        "rule": "parameter_left_out",
        "where": "params.temperature",
        "action": "flagged",
        "detail": "p/gpt-5-mini",
    }
