"""Characters that a server cuts in half between two events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ProviderError
from worker.providers.anthropic_reader import AnthropicReader
from worker.providers.fields import read_json
from worker.providers.gemini_reader import GeminiReader
from worker.providers.openai_reader import OpenAIReader


def units(text: str) -> list[str]:
    """The text as a program that counts in UTF-16 cuts it, a unit a piece, each as JSON has it."""
    raw = text.encode("utf-16-le")
    return [raw[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(raw), 2)]


def chunk(delta: dict[str, Any], finish: str | None = None, model: str = "m") -> bytes:
    return json.dumps(
        {"model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    ).encode()


@given(st.text())
def test_a_text_that_is_cut_anywhere_is_read_as_it_was(text: str):
    openai, anthropic = OpenAIReader(), AnthropicReader()
    for unit in units(text):
        openai.take("", chunk({"content": unit}))
        delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": unit}}
        anthropic.take("content_block_delta", json.dumps(delta).encode())
    openai.take("", chunk({}, "stop"))
    anthropic.take("message_delta", b'{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}')
    assert openai.reply().text == anthropic.reply().text == text


def test_arguments_that_are_cut_inside_a_character_are_read():
    reader = OpenAIReader()
    for unit in units('{"city": "Zürich 🚋"}'):
        call = {"index": 0, "id": "c", "function": {"name": "find", "arguments": unit}}
        reader.take("", chunk({"tool_calls": [{**call, "function": {**call["function"]}}]}))
    reader.take("", chunk({}, "tool_calls"))
    [call] = reader.reply().tool_calls
    assert call.arguments == {"city": "Zürich 🚋"}


def test_a_half_that_stays_alone_is_marked_and_every_other_field_is_whole():
    reader = OpenAIReader()
    reader.take("", chunk({"content": "a\ud83d"}, "stop", model="m\udc00"))
    assert (reader.reply().text, reader.reply().model) == ("a\ufffd", "m\ufffd")


@pytest.mark.parametrize(
    "data", [b'{"text": "\\ud83d"', b'{"text": NaN, "x": "\\ud83d"}', b"[" * 100_000 + b'"\\ud83d"']
)
def test_what_is_no_json_is_garbage_all_the_same(data: bytes):
    with pytest.raises(ProviderError) as caught:
        read_json(data)
    assert caught.value.code == "garbage"


def test_a_half_inside_the_arguments_of_a_gemini_call_is_marked_too():
    call = {"name": "find", "args": {"text": "a\ud83d", "content": ["b\udc00"]}}
    reader = GeminiReader()
    event = {"candidates": [{"content": {"parts": [{"functionCall": call}]}, "finishReason": "STOP"}]}
    reader.take("", json.dumps(event).encode())
    [asked] = reader.reply().tool_calls
    assert asked.arguments == {"text": "a\ufffd", "content": ["b\ufffd"]}
