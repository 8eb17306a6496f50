"""The twin as its users see it: over HTTP, in every dialect, with its books open."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from worker.embedded.twin import TWIN_PRICES, Twin

QUESTION = [{"role": "user", "content": "Where is my card?"}]
CHAT = {"model": "twin-small", "messages": QUESTION}
MESSAGES = {"model": "twin-small", "max_tokens": 100, "messages": QUESTION}
GEMINI = "/v1beta/models/twin-small:generateContent"
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Where is my card?"}]}]}
PATHS = [("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGES), (GEMINI, CONTENTS)]


async def books(http: httpx.AsyncClient, after: int = 0) -> list[dict[str, Any]]:
    """Every call in the twin's books."""
    calls: list[dict[str, Any]] = (await http.get(f"/twin/books?after={after}")).json()["calls"]
    return calls


async def test_it_says_that_it_is_there(http: httpx.AsyncClient):
    assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_a_whole_chat_completion(http: httpx.AsyncClient):
    answer = (await http.post("/v1/chat/completions", json=CHAT)).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "The twin heard 4 words: Where is my card?"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 8


async def test_a_whole_message(http: httpx.AsyncClient):
    answer = (await http.post("/v1/messages", json=MESSAGES)).json()
    assert answer["content"] == [{"type": "text", "text": "The twin heard 4 words: Where is my card?"}]
    assert (answer["stop_reason"], answer["usage"]["input_tokens"]) == ("end_turn", 8)


async def test_a_whole_generated_content(http: httpx.AsyncClient):
    answer = (await http.post(GEMINI, json=CONTENTS)).json()
    [candidate] = answer["candidates"]
    assert candidate["content"]["parts"] == [{"text": "The twin heard 4 words: Where is my card?"}]
    assert (candidate["finishReason"], answer["modelVersion"]) == ("STOP", "twin-small")
    assert answer["usageMetadata"] == {
        "promptTokenCount": 8,
        "candidatesTokenCount": 11,
        "totalTokenCount": 19,
    }


async def test_a_gemini_stream_ends_with_its_reason_and_has_no_closing_event(http: httpx.AsyncClient):
    path = GEMINI.replace("generate", "streamGenerate") + "?alt=sse"
    await http.post("/twin/behave", json=[{"reasoning_tokens": 5}])
    events = [
        json.loads(one.removeprefix("data: "))
        for one in (await http.post(path, json=CONTENTS)).text.split("\n\n")[:-1]
    ]
    assert [event["candidates"][0].get("finishReason") for event in events if "candidates" in event][
        -1
    ] == "STOP"
    last = events[-1]["usageMetadata"]
    assert (last["thoughtsTokenCount"], last["candidatesTokenCount"], last["totalTokenCount"]) == (5, 11, 24)


async def test_a_chat_stream_says_its_usage_only_when_asked(http: httpx.AsyncClient):
    asked = {**CHAT, "stream": True}
    without = (await http.post("/v1/chat/completions", json=asked)).text
    told = (
        await http.post("/v1/chat/completions", json={**asked, "stream_options": {"include_usage": True}})
    ).text
    assert '"usage"' not in without
    assert '"usage"' in told
    assert told.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_the_same_question_is_answered_the_same(
    http: httpx.AsyncClient, path: str, body: dict[str, Any]
):
    first, second = [(await http.post(path, json=body)).json() for _time in range(2)]
    assert second.pop("created", 0) - first.pop("created", 0) < 60, (
        "Unix seconds: the same, or a little later"
    )
    ids = [answer.get("id") or answer["responseId"] for answer in (first, second)]
    assert str(first).replace(ids[0][-8:], "") == str(second).replace(ids[1][-8:], "")


@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_every_call_stands_in_the_books_with_its_cost(
    http: httpx.AsyncClient, path: str, body: dict[str, Any]
):
    await http.post(path, json=body, headers={"x-fairlane-attempt": "a1"})
    [call] = await books(http)
    price = TWIN_PRICES["twin-small"]
    assert (call["attempt"], call["model"], call["finished"]) == ("a1", "twin-small", "complete")
    assert (call["billed"], call["status"]) == (True, 200)
    assert call["cost_pico"] == 8 * price.input + call["output_tokens"] * price.output
    totals = (await http.get("/twin/books")).json()["totals"]
    assert (totals["calls"], totals["open"], totals["cost_pico"]) == (1, 0, call["cost_pico"])
    await http.post(path, json=body)
    assert len(await books(http, after=1)) == 1


WRONG: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/chat/completions", {"messages": QUESTION}, 400),
    ("/v1/chat/completions", {"model": "twin-small", "messages": []}, 400),
    ("/v1/chat/completions", {**CHAT, "model": "gpt-9"}, 404),
    ("/v1/chat/completions", {"model": "twin-small", "messages": [{"role": "robot", "content": "x"}]}, 400),
    (
        "/v1/chat/completions",
        {"model": "twin-small", "messages": [{"role": "user", "content": "x " * 130_000}]},
        400,
    ),
    ("/v1/messages", {"model": "twin-small", "messages": QUESTION}, 400),
    ("/v1/messages", {**MESSAGES, "model": "claude-9"}, 404),
    ("/v1/messages", {**MESSAGES, "messages": []}, 400),
    ("/v1/messages", {**MESSAGES, "messages": [{"role": "assistant", "content": "x"}]}, 400),
    ("/v1/messages", {**MESSAGES, "messages": [{"role": "system", "content": "x"}]}, 400),
    (
        "/v1/messages",
        {**MESSAGES, "messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        400,
    ),
    ("/v1/messages", {**MESSAGES, "temperature": 1.5}, 400),
    (
        "/v1/messages",
        {**MESSAGES, "system": [{"type": "text", "text": "x", "cache_control": {"type": "for ever"}}]},
        400,
    ),
    ("/v1/messages", {**MESSAGES, "messages": [{"role": "user", "content": "x " * 130_000}]}, 400),
    (GEMINI, {}, 400),
    (GEMINI, {"contents": []}, 400),
    (GEMINI, {"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, 400),
    (GEMINI, {"contents": [{"role": "user", "parts": []}]}, 400),
    (GEMINI, {"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "f"}}]}]}, 400),
    (GEMINI, {**CONTENTS, "generationConfig": {"responseJsonSchema": {"type": "object"}}}, 400),
    (GEMINI, {"contents": [{"role": "user", "parts": [{"text": "x " * 130_000}]}]}, 400),
    (GEMINI.replace("twin-small", "gemini-9"), CONTENTS, 404),
]


@pytest.mark.parametrize(
    ("path", "body", "status"), WRONG, ids=[f"{row[0]}-{n}" for n, row in enumerate(WRONG)]
)
async def test_a_wrong_request_is_refused_and_costs_nothing(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], status: int
):
    answer = await http.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    [call] = await books(http)
    assert (call["billed"], call["cost_pico"], call["finished"]) == (False, 0, "status")


async def test_a_body_that_is_no_json_is_refused(http: httpx.AsyncClient):
    assert (await http.post("/v1/messages", content=b"{")).status_code == 400


def marked(text: str, ttl: str) -> dict[str, Any]:
    """A block that ends a cached prefix."""
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}


@pytest.mark.parametrize("ttls", [["5m"] * 5, ["5m", "1h"]])
async def test_breakpoints_are_limited_as_anthropic_limits_them(http: httpx.AsyncClient, ttls: list[str]):
    answer = await http.post("/v1/messages", json={**MESSAGES, "system": [marked("x", ttl) for ttl in ttls]})
    assert answer.status_code == 400


async def test_a_tool_use_needs_its_result_next(http: httpx.AsyncClient):
    use = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]}
    answer = await http.post("/v1/messages", json={**MESSAGES, "messages": [*QUESTION, use, *QUESTION]})
    assert answer.status_code == 400


async def test_a_rule_is_used_up_and_the_next_one_takes_its_place(http: httpx.AsyncClient):
    rules = [{"status": 500, "times": 2}, {"status": 429, "retry_after": 3, "times": 1}]
    await http.post("/twin/behave", json=rules)
    seen = [(await http.post("/v1/messages", json=MESSAGES)) for _time in range(4)]
    assert [answer.status_code for answer in seen] == [500, 500, 429, 200]
    assert seen[2].headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("match", "statuses"),
    [
        ({"model": "twin-l*"}, [200, 200, 500]),
        ({"dialect": "anthropic"}, [500, 500, 500]),
        ({"dialect": "openai"}, [200, 200, 200]),
        ({"header": {"x-fairlane-attempt": "a2"}}, [200, 500, 200]),
        ({"contains": "my card"}, [500, 500, 500]),
        ({"contains": "my cat"}, [200, 200, 200]),
        ({"nth": 2}, [200, 500, 200]),
    ],
)
async def test_a_rule_picks_its_calls(http: httpx.AsyncClient, match: dict[str, Any], statuses: list[int]):
    await http.post("/twin/behave", json=[{"match": match, "status": 500}])
    answers = []
    for number, model in enumerate(["twin-small", "twin-small", "twin-large"], start=1):
        headers = {"x-fairlane-attempt": f"a{number}"}
        answers.append(await http.post("/v1/messages", json={**MESSAGES, "model": model}, headers=headers))
    assert [answer.status_code for answer in answers] == statuses


@pytest.mark.parametrize(
    "rules",
    [{}, [7], [{"sttus": 500}], [{"match": {"modl": "x"}}], [{"match": 3}], [{"status": 500, "times": 0}]],
)
async def test_a_rule_that_it_does_not_understand_is_refused(http: httpx.AsyncClient, rules: Any):
    refused = await http.post("/twin/behave", json=rules)
    assert refused.status_code == 400
    assert refused.json()["error"]
    assert (await http.post("/v1/messages", json=MESSAGES)).status_code == 200


async def test_an_error_after_generation_is_billed_when_told_so(http: httpx.AsyncClient):
    await http.post("/twin/behave", json=[{"status": 504, "bill": True}])
    await http.post("/v1/messages", json=MESSAGES)
    [call] = await books(http)
    assert (call["status"], call["billed"]) == (504, True)
    assert call["cost_pico"] > 0


async def test_reset_forgets_rules_cache_and_books(twin: Twin, http: httpx.AsyncClient):
    await http.post("/twin/behave", json=[{"status": 500}])
    await http.post("/v1/messages", json=MESSAGES)
    await http.post("/twin/reset")
    assert await books(http) == []
    assert (await http.post("/v1/messages", json=MESSAGES)).status_code == 200
    assert [call.number for call in twin.books.calls()] == [2]


def prompt(dialect: str, text: str) -> tuple[str, dict[str, Any]]:
    """A call with a static prefix."""
    if dialect == "anthropic":
        return "/v1/messages", {**MESSAGES, "system": [marked(text, "5m")]}
    if dialect == "gemini":
        return GEMINI, {**CONTENTS, "systemInstruction": {"parts": [{"text": text}]}}
    system = {"role": "system", "content": text}
    return "/v1/chat/completions", {**CHAT, "messages": [system, *QUESTION], "prompt_cache_key": "k"}


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
async def test_a_prefix_is_written_then_read_until_its_time_is_up(http: httpx.AsyncClient, dialect: str):
    path, body = prompt(dialect, "Be brief. " * 50)
    for advance_s in (0, 200, 200, 301):  # every read starts its five minutes anew
        await http.post("/twin/clock", json={"advance_s": advance_s})
        await http.post(path, json=body)
    calls = await books(http)
    assert [call["cache_read_tokens"] > 100 for call in calls] == [False, True, True, False]
    written = [call["cache_write_tokens"] > 100 for call in calls]
    assert written == ([True, False, False, True] if dialect == "anthropic" else [False] * 4)
    assert calls[1]["cost_pico"] < calls[0]["cost_pico"]


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
async def test_a_prefix_under_the_minimum_is_never_cached(http: httpx.AsyncClient, dialect: str):
    path, body = prompt(dialect, "Be brief.")
    for _time in range(2):
        await http.post(path, json=body)
    assert all(call["cache_read_tokens"] == call["cache_write_tokens"] == 0 for call in await books(http))


async def test_a_longer_prefix_reads_the_shorter_one_and_writes_the_rest(http: httpx.AsyncClient):
    first, second = marked("Be brief. " * 50, "1h"), marked("Be kind. " * 50, "5m")
    await http.post("/v1/messages", json={**MESSAGES, "system": [first]})
    await http.post("/v1/messages", json={**MESSAGES, "system": [first, second]})
    cold, warm = await books(http)
    assert cold["long_write_tokens"] == cold["cache_write_tokens"] == warm["cache_read_tokens"]
    assert warm["cache_write_tokens"] > 100
    assert warm["long_write_tokens"] == 0


async def test_without_a_key_or_a_breakpoint_nothing_is_cached(http: httpx.AsyncClient):
    body = {**CHAT, "messages": [{"role": "system", "content": "Be brief. " * 50}, *QUESTION]}
    for _time in range(2):
        await http.post("/v1/chat/completions", json=body)
    assert all(call["cache_read_tokens"] == 0 for call in await books(http))


async def test_a_client_that_leaves_pays_for_what_was_sent(twin: Twin, http: httpx.AsyncClient):
    await http.post("/twin/behave", json=[{"output_tokens": 500, "chunk_ms": 10}])
    async with http.stream(
        "POST", "/v1/messages", json={**MESSAGES, "max_tokens": 900, "stream": True}
    ) as answer:
        async for line in answer.aiter_lines():
            if "content_block_delta" in line:
                break
    call = twin.books.calls()[0]
    while call.finished == "open":
        await http.get("/healthz")
        call = twin.books.calls()[0]
    assert (call.finished, call.billed) == ("client_closed", True)
    assert 0 < call.output_tokens < 500
    price = TWIN_PRICES["twin-small"]
    assert call.cost_pico == call.input_tokens * price.input + call.output_tokens * price.output


async def test_the_books_can_be_read_while_a_call_is_open(http: httpx.AsyncClient):
    await http.post("/twin/behave", json=[{"output_tokens": 500, "chunk_ms": 10}])
    async with http.stream("POST", "/v1/messages", json={**MESSAGES, "max_tokens": 900, "stream": True}):
        [call] = await books(http)
    assert (call["finished"], call["billed"]) == ("open", True)
