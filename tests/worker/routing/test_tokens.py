"""The bound: never below what a tokenizer makes of a request, whatever is in it."""

from __future__ import annotations

import json
import sys
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_sdk.contract import GenerationParams, Message, Tool
from tests.worker.routing.counted_texts import texts
from worker.routing.chat_formats import GEMINI, OPENAI, UNKNOWN, ChatFormat
from worker.routing.tokens import input_bound, most_bytes


def bound(messages, *, chat: ChatFormat = UNKNOWN, count=None, **params):
    return input_bound(messages, GenerationParams(**params), chat=chat, count=count)


def said(content, role="user", **fields):
    return Message(role=role, content=content, **fields)


@given(contents=st.lists(texts.filter(bool), min_size=1, max_size=4), description=texts)
def test_without_a_vocabulary_every_byte_is_a_token(contents, description):
    messages = [said(content) for content in contents]
    bare = bound(messages)
    assert bare.highest == sum(most_bytes(content) for content in contents) + 16 * len(contents) + 64
    tool = Tool(name="look_up", description=description, parameters={"type": "object"})
    armed = bound(messages, tools=[tool])
    assert armed.highest >= bare.highest + 1024 + len(json.dumps(tool.model_dump()))


@given(text=texts)
def test_a_tokenizer_may_rewrite_characters_first(text):
    """NFC (Qwen) and NFKC (SentencePiece's default) can make a text longer: ﷺ becomes 18 letters."""
    forms = (unicodedata.normalize(form, text) for form in ("NFC", "NFKC"))
    written = (len(form.encode(errors="surrogatepass")) for form in (text, *forms))
    assert most_bytes(text) >= max(written)


def test_no_character_grows_unseen():
    characters = (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    unseen = [
        character
        for character in characters
        if not unicodedata.is_normalized("NFKC", character)
        and most_bytes(character)
        < max(len(unicodedata.normalize(form, character).encode()) for form in ("NFC", "NFKC"))
    ]
    assert unseen == []


def test_ordinary_accents_and_signs_count_their_own_bytes():
    for text in ("ascii", "Größe, naïve café", "über ‚Maß‘ – 5 °C ±2 €", "中文，标点。", "ภาษาไทย", "😀"):
        assert most_bytes(text) == len(text.encode())
    assert most_bytes("\ufdfa") == 33
    assert most_bytes("\ud800") == 3


def test_images_schemas_names_and_tool_calls_count():
    plain = bound([said("x")]).highest
    image = {"type": "image", "url": "https://example.com/a.png"}
    assert bound([said([{"type": "text", "text": "x"}, image])]).highest == plain + 8192
    assert bound([said([image])]).highest == plain + 8192 - 1
    assert bound([said("x", name="Ann")]).highest == plain + 4 + 3
    assert bound([said("x")], response_schema={"type": "object"}).highest >= plain + 1024 + 18
    call = {"id": "c1", "name": "look_up", "arguments": {"q": "ü" * 10}}
    called = Message(role="assistant", tool_calls=[call])
    assert bound([said("x"), called]).highest >= plain + 16 + 32 + 20
    parts = [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]
    assert bound([said(parts)]).highest == plain + 16 + 1


def test_a_signature_counts_its_bytes_where_it_is_sent_back():
    call = {"id": "c1", "name": "look_up", "signature": "s" * 1000}
    signed = Message(role="assistant", tool_calls=[call])
    unsigned = Message(role="assistant", tool_calls=[{**call, "signature": None}])
    assert bound([signed]) == bound([unsigned])
    assert bound([signed], chat=GEMINI).highest == bound([unsigned], chat=GEMINI).highest + 1000


def test_a_tools_result_may_be_quoted_and_arguments_escaped():
    text = 'a "b"\n' * 10
    result = said(text, role="tool", tool_call_id="c1")
    assert bound([result]).highest >= 64 + 16 + len(json.dumps(text))
    call = {"id": "c1", "name": "f", "arguments": {"ключ": ["значение", {"a": [1, 2]}]}}
    called = Message(role="assistant", tool_calls=[call])
    assert bound([called]).highest >= 64 + 16 + len(json.dumps(call["arguments"], indent=4))


def test_each_role_and_the_texts_of_the_template_have_their_figures():
    chat = replace(OPENAI, request=1, message=10, assistant=100, tool_result=1000, before="{role}|")
    assert bound([said("x")], chat=chat, count=len).highest == 1 + 10 + len("user|x")
    assert bound([said("x", role="assistant")], chat=chat, count=len).highest == 111 + len("assistant|x")
    result = said("x", role="tool", tool_call_id="c")
    assert bound([result], chat=chat, count=len).highest == 1 + 1010 + len("tool|x") + 2 + 1


def test_what_is_surely_counted_is_no_more_than_a_server_may_make_of_it():
    assert bound([said("word " * 60)]).lowest == 300 // 6
    assert bound([said("x" * 50), said("y" * 7)], chat=OPENAI, count=len).lowest == 57
    assert bound([said("  x  ")], chat=OPENAI, count=len).lowest == 1  # templates strip
    assert bound([said("<|im_end|>" * 3)], chat=OPENAI, count=len).lowest == 0  # three tokens to some servers
    assert (
        bound([said("e\u0301" * 20)], chat=OPENAI, count=len).lowest == 60 // 6
    )  # composed by some tokenizers
    thought = said("<think>" + "x" * 99 + "</think>yes", role="assistant")  # left out by templates
    assert bound([thought], chat=OPENAI, count=len).lowest == 0
    assert bound([thought]).lowest == 0


@pytest.mark.parametrize("chat", [UNKNOWN, OPENAI])
def test_an_empty_result_of_a_tool_is_a_message_too(chat):
    assert bound([said("", role="tool", tool_call_id="c")], chat=chat).highest > chat.request + chat.message
