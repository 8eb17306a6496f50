"""What is sent in the Anthropic dialect, field by field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from producer_sdk.contract import Message, ToolCall
from tests.worker.providers.attempts import attempt, card
from worker.providers.anthropic import Anthropic
from worker.rate_card import RateCard

BASE = "https://api.anthropic.com/v1"
NO_LONG_PRICE = RateCard.flat("m", "test", 1, 1, 1, 1)


def body(**given: Any) -> dict[str, Any]:
    """The body for an attempt."""
    one = attempt(BASE, "anthropic", **{"rate_card": card("twin-small"), **given})
    return json.loads(Anthropic().request(one, base_url=BASE, key="k").body)


def static(text: str, key: str, ttl: str = "5m", role: str = "system") -> Message:
    """A static message."""
    return Message.model_validate({"role": role, "content": text, "cache_key": key, "cache_ttl": ttl})


USER = Message(role="user", content="Why?")


def test_a_service_tier_is_asked_for_by_its_name():
    assert body(service_tier="standard_only")["service_tier"] == "standard_only"
    assert "service_tier" not in body()


def markers(sent: dict[str, Any]) -> list[tuple[str, str]]:
    """Every marked block's text and time to live, in order."""
    blocks = list(sent.get("system", [])) + [block for turn in sent["messages"] for block in turn["content"]]
    return [(block["text"], block["cache_control"]["ttl"]) for block in blocks if "cache_control" in block]


def test_a_plain_job_asks_for_a_stream():
    text = {"type": "text", "text": "Where is my card?"}
    assert body() == {
        "model": "twin-small",
        "max_tokens": 200,
        "messages": [{"role": "user", "content": [text]}],
        "stream": True,
    }


def test_the_key_and_the_version_stand_in_headers():
    request = Anthropic().request(attempt(BASE, "anthropic"), base_url=BASE, key="k")
    assert request.headers == {"anthropic-version": "2023-06-01", "x-api-key": "k"}
    assert request.url == "https://api.anthropic.com/v1/messages"


def test_system_messages_become_system_blocks_and_neighbours_one_turn():
    messages = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="One."),
        Message(role="user", content="Two."),
        Message(role="assistant", content="Three."),
        Message(role="system", content="Be kind."),
        Message(role="user", content="Four."),
    ]
    sent = body(messages=messages)
    assert [block["text"] for block in sent["system"]] == ["Be brief.", "Be kind."]
    assert [(turn["role"], len(turn["content"])) for turn in sent["messages"]] == [
        ("user", 2),
        ("assistant", 1),
        ("user", 1),
    ]


def test_a_job_of_system_messages_alone_still_has_a_user_turn():
    sent = body(
        messages=[Message(role="system", content="Be brief."), Message(role="system", content="Say hello.")]
    )
    assert [block["text"] for block in sent["system"]] == ["Be brief."]
    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]


def test_tool_results_are_the_users_and_stand_in_one_turn():
    calls = [ToolCall(id="a", name="weather", arguments={"city": "Bern"}), ToolCall(id="b", name="time")]
    messages = [
        USER,
        Message(role="assistant", content="Let me see.", tool_calls=calls),
        Message(role="tool", tool_call_id="a", content="rain"),
        Message(role="tool", tool_call_id="b", content=""),
    ]
    turns = body(messages=messages)["messages"]
    assert [block["type"] for block in turns[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert turns[1]["content"][1] == {
        "type": "tool_use",
        "id": "a",
        "name": "weather",
        "input": {"city": "Bern"},
    }
    assert turns[2] == {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "rain"}]},
            {"type": "tool_result", "tool_use_id": "b", "content": []},
        ],
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
def test_tools_and_the_choice_among_them_are_passed_on(choice: str, sent: Any):
    fields = body(tools=[{"name": "weather", "description": "In a city"}], tool_choice=choice)
    assert fields["tools"] == [
        {"name": "weather", "description": "In a city", "input_schema": {"type": "object"}}
    ]
    assert fields["tool_choice"] == sent


def test_images_travel_by_address_or_as_data():
    urls = ["https://example.org/cat.png", "data:image/png;base64,aGk="]
    parts = [{"type": "image", "url": url} for url in urls]
    [turn] = body(messages=[{"role": "user", "content": parts}])["messages"]
    assert [block["source"] for block in turn["content"]] == [
        {"type": "url", "url": "https://example.org/cat.png"},
        {"type": "base64", "media_type": "image/png", "data": "aGk="},
    ]


def test_a_temperature_above_its_scale_is_cut_and_a_seed_left_out():
    sent = body(temperature=1.7, seed=3, stop=["END"])
    assert (sent["temperature"], sent["stop_sequences"]) == (1.0, ["END"])
    assert "seed" not in sent


@pytest.mark.parametrize(
    ("model", "sends"),
    [
        ("claude-haiku-4-5", True),
        ("claude-sonnet-4-6", True),
        ("claude-opus-4-6", True),
        ("claude-opus-4-7", False),
        ("claude-opus-5-5", False),
        ("claude-sonnet-5-5", False),
        ("claude-haiku-5-5", False),
        ("claude-fable-5", False),
    ],
)
def test_models_that_choose_their_temperature_are_not_told_one(model: str, sends: bool):
    assert ("temperature" in body(model=model, temperature=0.0)) == sends


def test_a_response_schema_is_an_output_format():
    schema = {"type": "object"}
    assert body(response_schema=schema)["output_config"] == {
        "format": {"type": "json_schema", "schema": schema}
    }


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
TREE = {"type": "object", "properties": {"a": {"$ref": "#/$defs/t"}}, "additionalProperties": False}
LEAF = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("model", "schema", "is_native"),
    [
        ("claude-sonnet-5-5", CLOSED, True),
        ("claude-haiku-4-5-20251001", CLOSED, True),
        ("claude-opus-4-6", CLOSED | {"$schema": "https://json-schema.org/draft/2020-12/schema"}, False),
        ("claude-3-5-sonnet-20241022", CLOSED, False),
        ("claude-opus-4-1-20250805", CLOSED, False),
        ("claude-sonnet-4-20250514", CLOSED, False),
        ("claude-sonnet-5-5", {"type": "object"}, False),
        ("claude-sonnet-5-5", {"type": "array", "items": {"type": "object", "properties": {}}}, False),
        ("claude-sonnet-5-5", {**CLOSED, "properties": {"a": {"type": "integer", "minimum": 1}}}, False),
        ("claude-sonnet-5-5", {**CLOSED, "properties": {"a": {"type": "string", "format": "date"}}}, True),
        ("claude-sonnet-5-5", {**CLOSED, "properties": {"a": {"type": "string", "format": "iban"}}}, False),
        ("claude-sonnet-5-5", TREE | {"$defs": {"t": LEAF}}, True),
        (
            "claude-sonnet-5-5",
            TREE | {"$defs": {"t": LEAF | {"properties": {"b": {"$ref": "#/$defs/t"}}}}},
            False,
        ),
        ("claude-sonnet-5-5", CLOSED | {"properties": {"a": {"$ref": "#"}}}, False),
        ("smollm", {"type": "object"}, True),
    ],
)
def test_claude_is_sent_a_schema_that_it_takes_and_is_told_any_other_in_words(
    model: str, schema: dict[str, Any], is_native: bool
):
    sent = body(model=model, response_schema=schema, messages=[USER])
    if is_native:
        assert sent["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
        assert sent["messages"] == body(model=model, messages=[USER])["messages"]
    else:
        assert "output_config" not in sent
        [turn] = sent["messages"]
        assert turn["content"][0]["text"] == "Why?"
        assert json.dumps(schema) in turn["content"][1]["text"]


def test_a_schema_in_words_follows_whatever_was_said_last():
    said = [USER, Message(role="assistant", content="Because")]
    sent = body(model="claude-3-haiku-20240307", response_schema=CLOSED, messages=said)
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]


def test_a_re_ask_says_more_and_marks_the_same_prefix():
    one = attempt(BASE, "anthropic", messages=[static("A", "a"), USER], rate_card=card("twin-small"))
    more = (Message(role="assistant", content="No."), Message(role="user", content="Cite."))
    one.call = replace(one.call, follow_up=more)
    sent = json.loads(Anthropic().request(one, base_url=BASE, key="k").body)
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
    assert markers(sent) == [("A", "5m")]


def test_a_re_ask_of_a_job_with_nothing_but_a_system_prompt_begins_with_that_prompt():
    one = attempt(
        BASE, "anthropic", messages=[static("A", "a"), static("B", "b")], rate_card=card("twin-small")
    )
    more = (Message(role="assistant", content="No."), Message(role="user", content="Cite."))
    for follow_up in ((), more):
        one.call = replace(one.call, follow_up=follow_up)
        sent = json.loads(Anthropic().request(one, base_url=BASE, key="k").body)
        assert [block["text"] for block in sent["system"]] == ["A"]
        said = [(turn["role"], turn["content"][0]["text"]) for turn in sent["messages"]]
        assert said == [("user", "B"), *((message.role, message.text) for message in follow_up)]


def test_the_last_block_of_each_static_segment_is_marked():
    messages = [static("A1", "a"), static("A2", "a"), static("B", "b"), USER]
    assert markers(body(messages=messages)) == [("A2", "5m"), ("B", "5m")]


def test_a_static_message_behind_a_dynamic_one_is_not_marked():
    assert markers(body(messages=[static("A", "a"), USER, static("B", "b", role="user")])) == [("A", "5m")]


def test_a_static_message_of_the_user_is_marked_too():
    assert markers(body(messages=[static("A", "a"), static("B", "b", role="user"), USER])) == [
        ("A", "5m"),
        ("B", "5m"),
    ]


def test_at_most_four_blocks_are_marked_and_they_are_the_last_ones():
    messages = [static(str(number), f"k{number}") for number in range(6)] + [USER]
    assert [text for text, _ttl in markers(body(messages=messages))] == ["2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("ttls", "sent"),
    [
        (["1h", "5m"], ["1h", "5m"]),
        (["5m", "1h"], ["1h", "1h"]),
        (["24h", "30m"], ["1h", "1h"]),
        (["5m", "5m"], ["5m", "5m"]),
    ],
)
def test_what_lives_an_hour_never_follows_what_lives_five_minutes(ttls: list[str], sent: list[str]):
    messages = [static(str(number), f"k{number}", ttl) for number, ttl in enumerate(ttls)] + [USER]
    assert [ttl for _text, ttl in markers(body(messages=messages))] == sent


def test_an_hour_is_asked_for_only_where_its_price_is_known():
    sent = body(messages=[static("A", "a", "1h"), USER], rate_card=NO_LONG_PRICE)
    assert markers(sent) == [("A", "5m")]
