"""What the twin says: labels, quotes with their document's id, tool calls, and JSON that fits its schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from producer_sdk.contract import Document
from worker.embedded.twin.answers import labels, say
from worker.embedded.twin.asked import Asked, Turn
from worker.embedded.twin.behaviour import AS_USUAL, Behaviour
from worker.embedded.twin.prices import TWIN_PRICES, count_tokens
from worker.safety.fence import document_block


def answer(
    question: str, *, system: str = "", behaviour: Behaviour = AS_USUAL, turns: Any = (), **fields: Any
) -> str:
    """The text of the answer to one question."""
    said = say(asked(question, system=system, turns=turns, **fields), behaviour)
    return said.text


def asked(question: str, *, system: str = "", turns: Any = (), **fields: Any) -> Asked:
    """A call."""
    return Asked(
        **{
            "dialect": "openai",
            "model": "twin-small",
            "stream": True,
            "include_usage": True,
            "max_tokens": 200,
            "segments": (),
            "system": system,
            "turns": (*turns, Turn("user", question)),
            **fields,
        }
    )


BULLETS = (
    "Answer with one label:\n- card_arrival: where a new card is\n- lost_or_stolen_card\n* top_up_failed\n"
)


@pytest.mark.parametrize(
    ("system", "found"),
    [
        (BULLETS, ["card_arrival", "lost_or_stolen_card", "top_up_failed"]),
        ("1. refund\n2) transfer", ["refund", "transfer"]),
        ("Classify into one of these intents: refund, lost card, top-up.", ["refund", "lost card", "top-up"]),
        ("Labels: refund | transfer", ["refund", "transfer"]),
        ("You are a helpful assistant.", []),
    ],
)
def test_labels_are_found_in_a_system_prompt(system: str, found: list[str]):
    assert list(labels(system)) == found


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("my card was stolen!", "lost_or_stolen_card"),
        ("The top-up failed again", "top_up_failed"),
        ("When does my new card arrive?", "card_arrival"),
    ],
)
def test_a_message_gets_the_label_that_shares_most_words(question: str, label: str):
    assert answer(question, system=BULLETS) == label


def test_a_question_over_documents_is_answered_with_a_quote_and_its_documents_id():
    documents = [
        Document(id="faq 1", title="Money > all", text="Refunds take five days. They go to the same card."),
        Document(id='faq "2"', text="Cards arrive by post within a week. A lost card can be frozen."),
    ]
    block = Turn("user", document_block(documents, key=b"k").text)
    question = "How long until my new card arrives by post?"
    assert answer(question, turns=[block]).endswith('[faq "2": "Cards arrive by post within a week."]')
    joined = answer(f"{block.text}\n{question}")
    assert joined == answer(question, turns=[block])


def test_an_answer_quotes_its_document_word_for_word():
    text = "Acks are late: a task is acknowledged after it has run."
    block = Turn("user", document_block([Document(id="d", text=text)], key=b"k").text)
    assert f'[d: "{text}"]' in answer("When is a task acknowledged?", turns=[block])


SCHEMA = {
    "type": "object",
    "properties": {
        "intent": {"enum": ["refund", "lost_card"]},
        "confidence": {"type": "number", "minimum": 0.25},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}},
        "escalate": {"type": "boolean"},
        "note": {"type": ["string", "null"]},
        "nested": {"type": "object", "properties": {"kind": {"const": "x"}}, "required": ["kind"]},
    },
    "required": ["intent", "confidence", "tags", "nested"],
}


def test_a_schema_is_answered_with_json_that_fits_it():
    text = answer("I lost my card and want a refund of nothing", schema=SCHEMA)
    jsonschema.validate(json.loads(text), SCHEMA)


def test_tools_are_called_by_name_or_by_fit_and_never_right_after_a_result():
    tools = (
        {"name": "get_time", "description": "the time of day", "schema": {}},
        {"name": "get_weather", "description": "the weather in a city", "schema": {}},
    )
    assert say(asked("What weather is it in Bern?", tools=tools), AS_USUAL).tool == "get_weather"
    assert say(asked("What weather?", tools=tools, tool_choice="get_time"), AS_USUAL).tool == "get_time"
    assert say(asked("What weather?", tools=tools, tool_choice="none"), AS_USUAL).tool is None
    after = asked("What weather?", tools=tools)
    after = Asked(**{**after.__dict__, "turns": (*after.turns, Turn("tool", "rain"))})
    assert say(after, AS_USUAL).text == "The tool answered: rain"


def test_an_answer_is_cut_at_its_limit():
    said = say(asked("x", max_tokens=7), Behaviour(output_tokens=20))
    assert (len(said.pieces), said.finish) == (7, "length")


@pytest.mark.parametrize(
    "text", ["", "a b c", "Zürich, 3° !", "你好世界", "🙂🙂", "x" * 100, '{"a": [1, 2]}\n\n']
)
def test_no_text_has_more_tokens_than_bytes(text: str):
    assert count_tokens(text) <= len(text.encode())


def test_prices_read_as_routing_yaml_states_them():
    assert {name: str(usd) for name, usd in TWIN_PRICES["twin-small"].usd_per_million().items()} == {
        "input": "0.1",
        "output": "0.4",
        "cache_read": "0.01",
        "cache_write": "0.125",
    }
