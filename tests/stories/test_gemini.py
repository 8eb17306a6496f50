"""Gemini beside the others: a fallback from OpenAI to it, what only it takes, its books; a real worker and the twin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producer_sdk.contract import Job, JobResult
from tests.chaos.books import violations
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage

PROVIDER = """providers:
  local_gemini: {dialect: gemini, base_url_env: FAIRLANE_LOCAL_URL, capabilities: {temperature: false}}
"""
ALIASES = """aliases:
  blind:
    - provider: local_messages
      model: twin-small
      context_tokens: 32768
      max_output_tokens: 4096
      capabilities: {images: false, tools: false}
      price: {input: 0.10, output: 0.40, cache_read: 0.01, cache_write: 0.125}
  google:
    - provider: local_gemini
      model: twin-medium
      context_tokens: 32768
      max_output_tokens: 4096
      price: {input: 1.00, output: 4.00, cache_read: 0.10, cache_write: 1.25}
"""
TASKS = """tasks:
  chat: {default: first, fallback: google, max_output_tokens: 64}
  look: {default: blind, fallback: google, max_output_tokens: 64}
  only_blind: {default: blind, max_output_tokens: 64}
"""
GOOGLE = "local_gemini/twin-medium"
TOOL = {
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
async def scene(stage: Stage, tmp_path: Path) -> AsyncIterator[Scene]:
    text = ROUTING.read_text()
    for section, more in (("providers:\n", PROVIDER), ("aliases:\n", ALIASES), ("tasks:\n", TASKS)):
        text = text.replace(section, more, 1)
    routing = tmp_path / "routing.yaml"
    routing.write_text(text)
    async with stage.scene(routing_path=routing) as scene:
        stage.worker(scene)
        yield scene
        await until(scene.is_at_rest, what="rest")
        assert violations(await scene.evidence()) == [], "the ledger's rows are not the twin's books"
        assert "Traceback" not in scene.said


async def answered(scene: Scene, task: str, messages: Any, **params: Any) -> JobResult:
    job = Job.model_validate({"tenant": "ants", "task": task, "messages": messages, "params": params})
    await scene.put(job)
    return JobResult.model_validate(await scene.ended(job.job_id))


def tried(result: JobResult) -> list[tuple[str, str]]:
    return [(attempt.deployment, attempt.status) for attempt in result.attempts]


async def test_a_job_falls_back_from_openai_to_gemini_and_its_books_are_the_twins(scene: Scene):
    await scene.behave(
        {"match": {"dialect": "openai"}, "error_after_chunks": 2},
        {"match": {"dialect": "gemini"}, "reasoning_tokens": 9},
    )
    result = await answered(scene, "chat", "Where is my card?", temperature=0.2, seed=3)
    scene.broken_by_tests += 1
    assert (result.status, result.text) == ("succeeded", "The twin heard 4 words: Where is my card?")
    assert [one.deployment for one in result.attempts] == ["local/twin-small", GOOGLE]
    assert (result.provider, result.usage.reasoning_tokens) == ("local_gemini", 9)
    openai, gemini = await scene.calls()
    assert (openai["dialect"], gemini["dialect"]) == ("openai", "gemini")
    assert result.attempts[1].cost_usd == Decimal(gemini["cost_pico"]) / 10**12 > 0
    told = [(found.rule, found.where, found.detail) for found in result.safety]
    assert told == [("parameter_left_out", "params.temperature", GOOGLE)], "seed is taken"


async def test_what_a_model_refuses_goes_to_the_one_that_takes_it_and_tools_make_the_round_trip(scene: Scene):
    image = [
        {"type": "image", "url": "https://example.org/cat.png"},
        {"type": "text", "text": "What is this?"},
    ]
    seen = await answered(scene, "look", [{"role": "user", "content": image}])
    assert (seen.status, tried(seen)) == ("succeeded", [(GOOGLE, "settled")])

    question = {"role": "user", "content": "Weather in Bern?"}
    asked = await answered(scene, "look", [question], tools=[TOOL])
    [call] = asked.tool_calls
    assert (call.name, tried(asked)) == ("get_weather", [(GOOGLE, "settled")])
    assert call.signature
    turns = [question, {"role": "assistant", "tool_calls": [call.model_dump()]}]
    result = {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}
    answer = await answered(scene, "look", [*turns, result], tools=[TOOL])
    assert answer.text.startswith("The tool answered:")

    forged = call.model_copy(update={"signature": "twin-medium|Zm9yZ2Vk"})
    turns[1] = {"role": "assistant", "tool_calls": [forged.model_dump()]}
    refused = await answered(scene, "look", [*turns, result], tools=[TOOL])
    assert refused.error
    assert refused.error.code == "invalid_job"

    nowhere = await answered(scene, "only_blind", [{"role": "user", "content": image}])
    assert nowhere.error
    assert (nowhere.status, nowhere.error.code, nowhere.attempts) == ("rejected", "invalid_job", [])
    assert "local_messages/twin-small: it takes no images" in nowhere.error.message


async def test_an_answer_that_gemini_withholds_is_blocked_and_paid(scene: Scene):
    await scene.behave({"match": {"dialect": "openai"}, "status": 500}, {"finish": "content_filter"})
    result = await answered(scene, "chat", "Where is my card?")
    assert result.error
    assert (result.status, result.error.code) == ("failed", "content_blocked")
    assert tried(result) == [("local/twin-small", "failed"), (GOOGLE, "failed")]
    assert result.cost_usd == result.attempts[1].cost_usd > 0
