"""What is sent in the Gemini dialect, field by field, and what comes back of a tool call's signature."""

from __future__ import annotations

import json
from typing import Any

import pytest

from producer_sdk.contract import Message, ToolCall
from tests.worker.providers.attempts import attempt
from tests.worker.providers.replaying import answered
from worker.providers.gemini import Gemini

GOOGLE = "https://generativelanguage.googleapis.com"
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
SCHEMA = {"type": "object", "properties": {"intent": {"enum": ["refund", "card"]}}, "required": ["intent"]}


def body(model: str = "gemini-2.5-flash", **given: Any) -> dict[str, Any]:
    """The body for an attempt."""
    one = attempt(GOOGLE, "gemini", model=model, **given)
    return json.loads(Gemini().request(one, base_url=GOOGLE, key="k").body)


def test_a_plain_job_is_one_turn_with_its_limit():
    assert body() == {
        "contents": [{"role": "user", "parts": [{"text": "Where is my card?"}]}],
        "generationConfig": {"maxOutputTokens": 200},
    }


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (GOOGLE, f"{GOOGLE}/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        (f"{GOOGLE}/v1beta/", f"{GOOGLE}/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
        ("http://h:1/v1", "http://h:1/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse"),
    ],
)
def test_the_model_is_in_the_path_and_the_key_never_is(base_url: str, url: str):
    one = attempt(base_url, "gemini", model="gemini-2.5-flash")
    request = Gemini().request(one, base_url=base_url, key="SECRET")
    assert (request.url, request.headers) == (url, {"x-goog-api-key": "SECRET"})
    assert "SECRET" not in repr(request)
    assert Gemini().request(one, base_url=base_url, key=None).headers == {}


def test_a_model_that_is_a_resource_keeps_its_name_and_nothing_leaves_the_path():
    for model, path in [("tunedModels/mine", "tunedModels/mine"), ("a?b#c", "models/a%3Fb%23c")]:
        one = attempt(GOOGLE, "gemini", model=model)
        assert Gemini().request(one, base_url=GOOGLE, key=None).url == (
            f"{GOOGLE}/v1beta/{path}:streamGenerateContent?alt=sse"
        )


def test_system_messages_are_the_instruction_and_neighbours_are_one_turn():
    said = [("system", "Be brief."), ("user", "One"), ("user", "Two"), ("assistant", "Yes"), ("user", "Why?")]
    sent = body(messages=[{"role": role, "content": text} for role, text in said])
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert sent["contents"] == [
        {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}]},
        {"role": "model", "parts": [{"text": "Yes"}]},
        {"role": "user", "parts": [{"text": "Why?"}]},
    ]


def test_where_no_user_speaks_the_system_does_and_a_model_without_instructions_is_told_as_a_user():
    assert body(messages=[{"role": "system", "content": "Say hello."}])["contents"] == [
        {"role": "user", "parts": [{"text": "Say hello."}]}
    ]
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    sent = body("gemma-3-27b-it", messages=said)
    assert sent["contents"] == [{"role": "user", "parts": [{"text": "Be brief."}, {"text": "Why?"}]}]
    assert "systemInstruction" not in sent


def test_what_the_job_says_of_sampling_is_passed_on_where_it_is_taken():
    config = body(temperature=0.5, seed=7, stop=["END"])["generationConfig"]
    assert config == {"maxOutputTokens": 200, "temperature": 0.5, "seed": 7, "stopSequences": ["END"]}
    later = body("gemini-4-argon", temperature=0.5, seed=7)["generationConfig"]
    assert later == {"maxOutputTokens": 200, "seed": 7}


def test_a_seed_has_32_bits_there():
    assert body(seed=2**40 + 5)["generationConfig"]["seed"] == 5
    assert 0 <= body(seed=-1)["generationConfig"]["seed"] < 2**31


def test_a_service_tier_is_asked_for_by_its_name():
    assert body(service_tier="flex")["serviceTier"] == "flex"


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("weather", {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_tools_and_the_choice_among_them_are_passed_on(choice: str, config: dict[str, Any]):
    sent = body(tools=[TOOL, {"name": "time"}], tool_choice=choice)
    assert sent["tools"] == [
        {
            "functionDeclarations": [
                {"name": "weather", "description": "", "parametersJsonSchema": TOOL["parameters"]},
                {"name": "time", "description": ""},
            ]
        }
    ]
    assert sent["toolConfig"] == {"functionCallingConfig": config}
    assert "toolConfig" not in body(tools=[TOOL])


def with_calls(*calls: ToolCall) -> list[Message]:
    """A question, calls, and a result of each."""
    results = [Message(role="tool", tool_call_id=call.id, content=f"result of {call.id}") for call in calls]
    asked = Message(role="user", content="Weather?")
    return [asked, Message(role="assistant", tool_calls=list(calls)), *results]


def test_parallel_calls_and_their_results_are_a_turn_each_and_name_their_functions():
    calls = [ToolCall(id="a", name="weather", arguments={"city": "Bern"}), ToolCall(id="b", name="time")]
    _asked, called, results = body(messages=with_calls(*calls))["contents"]
    assert called == {
        "role": "model",
        "parts": [
            {"functionCall": {"id": "a", "name": "weather", "args": {"city": "Bern"}}},
            {"functionCall": {"id": "b", "name": "time", "args": {}}},
        ],
    }
    assert results == {
        "role": "user",
        "parts": [
            {"functionResponse": {"id": "a", "name": "weather", "response": {"output": "result of a"}}},
            {"functionResponse": {"id": "b", "name": "time", "response": {"output": "result of b"}}},
        ],
    }


def signatures(model: str, *calls: ToolCall) -> list[str | None]:
    """The signatures that the calls are sent with."""
    parts = body(model, messages=with_calls(*calls))["contents"][1]["parts"]
    return [part.get("thoughtSignature") for part in parts]


def test_a_signature_goes_back_to_the_model_that_made_it_and_to_no_other():
    signed = ToolCall(id="a", name="weather", signature="gemini-3.8-flash|c2ln")
    second = ToolCall(id="b", name="time")
    assert signatures("gemini-3.8-flash", signed, second) == ["c2ln", None]
    assert signatures("gemini-4-argon", signed, second) == ["skip_thought_signature_validator", None]
    assert signatures("gemini-3.8-flash", second) == ["skip_thought_signature_validator"]
    assert signatures("gemini-2.5-flash", second) == [None]
    own = ToolCall(id="c", name="time", signature="c2ln")  # a producer's own history of calls
    assert signatures("gemini-3.8-flash", own) == ["c2ln"]


async def test_a_signature_survives_the_round_trip():
    call = {"functionCall": {"id": "a", "name": "time", "args": {}}, "thoughtSignature": "c2ln"}
    candidate = {"content": {"parts": [call]}, "finishReason": "STOP"}
    event = {"candidates": [candidate], "modelVersion": "gemini-3.8-flash"}
    answer = await answered([f"data: {json.dumps(event)}\n\n".encode()], "gemini")
    assert signatures("gemini-3.8-flash", *answer.tool_calls) == ["c2ln"]


def test_images_are_data_or_an_address():
    urls = ["data:image/png;base64,aGk=", "https://example.org/cat.webp?x=1", "https://example.org/cat"]
    parts = [{"type": "image", "url": url} for url in urls]
    [turn] = body(messages=[{"role": "user", "content": parts}])["contents"]
    assert turn["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"fileData": {"fileUri": "https://example.org/cat.webp?x=1", "mimeType": "image/webp"}},
        {"fileData": {"fileUri": "https://example.org/cat"}},
    ]


def test_a_schema_is_asked_for_natively_where_gemini_keeps_to_it():
    config = body(response_schema=SCHEMA)["generationConfig"]
    assert (config["responseMimeType"], config["responseJsonSchema"]) == ("application/json", SCHEMA)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}},
        {"type": "object", "properties": {"a": {"const": 1}}},
        {"type": "object", "properties": {"a": {"enum": [True]}}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"$defs": {"a": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/a", "title": "A"}}},
    ],
)
def test_a_schema_that_it_does_not_keep_to_is_said_in_words(schema: dict[str, Any]):
    sent = body(response_schema=schema)
    assert sent["generationConfig"]["responseMimeType"] == "application/json"
    assert "responseJsonSchema" not in sent["generationConfig"]
    assert json.dumps(schema) in sent["contents"][-1]["parts"][-1]["text"]


def test_a_schema_beside_tools_is_native_from_gemini_3_on():
    assert (
        "responseJsonSchema"
        in body("gemini-3.8-flash", response_schema=SCHEMA, tools=[TOOL])["generationConfig"]
    )
    earlier = body(response_schema=SCHEMA, tools=[TOOL])
    assert earlier["generationConfig"] == {"maxOutputTokens": 200}
    assert "JSON Schema" in earlier["contents"][-1]["parts"][-1]["text"]
