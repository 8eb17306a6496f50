"""What is sent in the OpenAI dialect, field by field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from producer_sdk.contract import Message, ToolCall
from tests.worker.providers.attempts import attempt, system_and_user
from worker.providers.openai import OpenAI

OPENAI = "https://api.openai.com/v1"
ELSEWHERE = "https://api.deepseek.com/v1"
STATIC = system_and_user("Be brief.", "Why?", cache_key="brief-v1")
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


def body(base_url: str = ELSEWHERE, **given: Any) -> dict[str, Any]:
    """The body for an attempt."""
    request = OpenAI().request(attempt(base_url, **given), base_url=base_url, key="k")
    return json.loads(request.body)


def test_a_service_tier_is_asked_for_by_its_name():
    assert body(service_tier="flex")["service_tier"] == "flex"
    assert "service_tier" not in body()


def test_a_plain_job_asks_for_a_stream_with_its_usage():
    assert body() == {
        "model": "twin-small",
        "messages": [{"role": "user", "content": "Where is my card?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 200,
    }


def test_the_key_is_a_bearer_and_absent_without_one():
    one = attempt(ELSEWHERE)
    assert OpenAI().request(one, base_url=ELSEWHERE, key="k").headers == {"authorization": "Bearer k"}
    assert OpenAI().request(one, base_url=ELSEWHERE, key=None).headers == {}


def test_a_request_never_shows_its_key_or_prompt():
    shown = repr(OpenAI().request(attempt(ELSEWHERE, messages="SECRET"), base_url=ELSEWHERE, key="SECRET"))
    assert "SECRET" not in shown


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (OPENAI, "https://api.openai.com/v1/chat/completions"),
        ("https://api.deepseek.com", "https://api.deepseek.com/v1/chat/completions"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1/chat/completions"),
        ("https://api.z.ai/api/paas/v4", "https://api.z.ai/api/paas/v4/chat/completions"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai/chat/completions"),
    ],
)
def test_the_path_is_added_to_whatever_the_base_url_has(base_url: str, url: str):
    assert OpenAI().request(attempt(base_url), base_url=base_url, key=None).url == url


@pytest.mark.parametrize("base_url", [OPENAI, "https://mine.openai.azure.com/openai/v1"])
def test_openai_and_azure_take_the_newer_name_of_the_output_limit(base_url: str):
    sent = body(base_url)
    assert sent["max_completion_tokens"] == 200
    assert "max_tokens" not in sent


def test_what_the_job_says_of_sampling_is_passed_on():
    sent = body(temperature=0.5, seed=7, stop=["END"])
    assert (sent["temperature"], sent["seed"], sent["stop"]) == (0.5, 7, ["END"])


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ("weather", {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_tools_and_the_choice_among_them_are_passed_on(choice: str, sent: Any):
    fields = body(tools=[TOOL], tool_choice=choice)
    assert fields["tools"] == [{"type": "function", "function": TOOL}]
    assert fields["tool_choice"] == sent


def test_a_turn_with_tools_keeps_its_calls_and_results():
    call = ToolCall(id="c1", name="weather", arguments={"city": "Zürich"})
    messages = [
        Message(role="user", content="Weather?"),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", tool_call_id="c1", content="rain"),
    ]
    assert body(messages=messages)["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
                }
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
    ]


def test_images_travel_as_image_urls():
    parts = [{"type": "text", "text": "What?"}, {"type": "image", "url": "https://example.org/cat.png"}]
    [message] = body(messages=[{"role": "user", "content": parts}])["messages"]
    assert message["content"][1] == {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        ({**CLOSED, "properties": {"a": {"type": "object"}}}, False),
        ({**CLOSED, "properties": {"a": {"anyOf": [CLOSED, {"type": "null"}]}}}, True),
        (
            {**CLOSED, "properties": {"a": {"type": "array", "items": {"type": "string", "minLength": 1}}}},
            False,
        ),
        ({**CLOSED, "properties": {"a": {"type": "integer", "minimum": 1}}}, True),
        ({**CLOSED, "properties": {"a": {"oneOf": [{"type": "string"}]}}}, False),
        ({**CLOSED, "$defs": {"b": {"type": "object"}}}, False),
    ],
)
def test_a_schema_is_strict_only_where_openai_would_take_it(schema: dict[str, Any], strict: bool):
    sent = body(OPENAI, response_schema=schema)["response_format"]
    assert sent == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": strict},
    }


def test_deepseek_writes_json_and_is_told_the_schema_at_the_prompts_end():
    sent = body(ELSEWHERE, response_schema=CLOSED, messages=STATIC)
    assert sent["response_format"] == {"type": "json_object"}
    *before, told = sent["messages"]
    assert before == body(ELSEWHERE, messages=STATIC)["messages"]
    assert json.dumps(CLOSED) in told["content"]
    assert "JSON" in told["content"]


def test_a_schema_of_something_else_than_an_object_is_told_in_words():
    sent = body(OPENAI, response_schema={"type": "array", "items": {"type": "string"}})
    assert "response_format" not in sent
    assert '"type": "array"' in sent["messages"][-1]["content"]


def test_a_re_ask_says_more_and_keeps_the_static_prefix():
    one = attempt(OPENAI, messages=STATIC, model="gpt-6-luna")
    plain = json.loads(OpenAI().request(one, base_url=OPENAI, key=None).body)
    more = (Message(role="assistant", content="No."), Message(role="user", content="Cite."))
    one.call = replace(one.call, follow_up=more)
    sent = json.loads(OpenAI().request(one, base_url=OPENAI, key=None).body)
    assert sent["messages"] == [
        *plain["messages"],
        *(m.model_dump(include={"role", "content"}) for m in more),
    ]
    assert sent["prompt_cache_key"] == plain["prompt_cache_key"]


def test_a_static_prefix_gets_a_cache_key_of_its_tenant():
    key = body(messages=STATIC)["prompt_cache_key"]
    assert len(key) == 32
    assert body(messages=STATIC)["prompt_cache_key"] == key
    other = attempt(ELSEWHERE, messages=STATIC)
    other.job_run.job = other.job_run.job.model_copy(update={"tenant": "globex"})
    assert json.loads(OpenAI().request(other, base_url=ELSEWHERE, key=None).body)["prompt_cache_key"] != key


def test_a_static_message_behind_a_dynamic_one_is_not_cached():
    assert "prompt_cache_key" not in body(messages=STATIC[::-1])


def test_hosts_that_refuse_unknown_fields_get_no_cache_key():
    assert "prompt_cache_key" not in body("https://api.groq.com/openai/v1", messages=STATIC)


@pytest.mark.parametrize("model", ["gpt-5.6", "gpt-6-luna", "gpt-6.1-terra"])
def test_newer_openai_models_write_only_the_static_prefix_to_their_cache(model: str, rate_card):
    sent = body(OPENAI, model=model, messages=STATIC, rate_card=rate_card)
    assert sent["prompt_cache_options"] == {"mode": "explicit"}
    [part] = sent["messages"][0]["content"]
    assert part == {"type": "text", "text": "Be brief.", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert sent["messages"][1]["content"] == "Why?"
    one_off = body(OPENAI, model=model, rate_card=rate_card)
    assert one_off["prompt_cache_options"] == {"mode": "explicit"}
    assert "breakpoint" not in json.dumps(one_off)


@pytest.mark.parametrize(
    ("base_url", "model"),
    [(OPENAI, "gpt-5-mini"), (OPENAI, "gpt-5.5"), (OPENAI, "o4"), (ELSEWHERE, "gpt-6-luna")],
)
def test_older_models_and_other_hosts_are_not_sent_what_they_refuse(base_url: str, model: str, rate_card):
    sent = body(base_url, model=model, messages=STATIC, rate_card=rate_card)
    assert "prompt_cache_options" not in sent
    assert sent["messages"][0]["content"] == "Be brief."
