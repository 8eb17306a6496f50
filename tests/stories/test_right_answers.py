"""An answer that does not cite or fit is paid and never given: over a real worker and the twin."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from producer_sdk.contract import Document, GenerationParams, Job, JobResult, Message, uuid7
from tests.chaos.books import violations
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage

TASKS = """tasks:
  cite: {default: first, fallback: second, requires_citations: true, max_output_tokens: 200, cache_ttl_s: 60}
  cite_alone: {default: first, requires_citations: true, max_output_tokens: 200}
  cite_cheaply: {default: first, requires_citations: true, max_output_tokens: 200, max_cost_usd: 0.0004}
  fill: {default: first, fallback: second, max_output_tokens: 200, cache_ttl_s: 60}
  fill_elsewhere: {default: second, max_output_tokens: 200}
"""
DOCUMENTS = [
    Document(id="post", text="Cards arrive by  post within a week.\nA lost card can be frozen."),
    Document(id="money", text="Refunds take five days."),
]
SCHEMA = {
    "type": "object",
    "properties": {"intent": {"enum": ["refund", "lost_card"]}, "sure": {"type": "boolean"}},
    "required": ["intent", "sure"],
    "additionalProperties": False,
}
UNCITED, MISQUOTED = "In a week.", 'Never [post: "Cards never arrive."]'


@pytest.fixture
async def scene(stage: Stage, tmp_path: Path) -> AsyncIterator[Scene]:
    routing = tmp_path / "routing.yaml"
    text = ROUTING.read_text()
    routing.write_text(text.replace("tasks:\n", TASKS, 1))
    async with stage.scene(routing_path=routing) as scene:
        stage.worker(scene)
        yield scene
        await until(scene.is_at_rest, what="rest")
        assert violations(await scene.evidence()) == []
        assert "Traceback" not in scene.said
        assert "never arrive" not in scene.said, "an answer's text is in the log"


async def answered(
    scene: Scene, task: str = "cite", schema: dict[str, Any] | None = None, **fields: Any
) -> JobResult:
    """The result of a new job, and that it is the job's only final row."""
    asked = f"When do my cards arrive? ({uuid7()})"
    job = Job(
        tenant="ants",
        task=task,
        messages=fields.pop("messages", [Message(role="user", content=asked)]),
        documents=DOCUMENTS if task.startswith("cite") else [],
        params=GenerationParams(response_schema=schema),
        **fields,
    )
    await scene.put(job)
    return JobResult.model_validate(await scene.ended(job.job_id))


def tried(result: JobResult) -> list[tuple[str, str, str | None]]:
    return [(attempt.deployment, attempt.status, attempt.error) for attempt in result.attempts]


def right(result: JobResult) -> bool:
    """Whether the answer quotes a document, at the place that it says."""
    [citation] = result.citations
    [document] = [one for one in DOCUMENTS if one.id == citation.document_id]
    assert document.text[citation.start : citation.end] == citation.quote
    assert result.cost_usd == sum((attempt.cost_usd for attempt in result.attempts), Decimal(0)) > 0
    return result.status == "succeeded"


FIRST, SECOND = "local/twin-small", "local_messages/twin-large"
WRONG = ("failed", "citations_missing")


async def test_an_answer_that_cites_at_once_gets_its_citations(scene: Scene):
    result = await answered(scene)
    assert right(result)
    assert tried(result) == [(FIRST, "settled", None)]
    assert result.citations[0].quote.startswith("Cards arrive by  post")


async def test_a_wrong_answer_is_told_what_was_wrong_and_both_attempts_are_paid(scene: Scene):
    await scene.behave({"match": {"model": "twin-small"}, "answer": MISQUOTED, "times": 1})
    result = await answered(scene)
    assert right(result)
    assert tried(result) == [(FIRST, *WRONG), (FIRST, "settled", None)]
    wrong, asked_again = result.attempts
    assert wrong.cost_usd > 0
    assert asked_again.usage.input_tokens > wrong.usage.input_tokens + 50, "it was told more"
    assert wrong.attempt_id != asked_again.attempt_id


async def test_after_one_re_ask_the_fallback_is_asked_anew(scene: Scene):
    await scene.behave({"match": {"model": "twin-small"}, "answer": UNCITED})
    result = await answered(scene)
    assert right(result)
    assert tried(result) == [(FIRST, *WRONG), (FIRST, *WRONG), (SECOND, "settled", None)]
    assert len(await scene.calls()) == 3


async def test_a_job_that_is_never_answered_rightly_ends_as_citations_missing_at_what_it_cost(scene: Scene):
    await scene.behave({"answer": MISQUOTED})
    result = await answered(scene)
    assert (result.status, result.text, result.citations) == ("failed", "", [])
    assert result.error
    assert (result.error.code, result.error.status) == ("citations_missing", 502)
    assert "its quote does not stand in the document that it names" in result.error.message
    assert "never arrive" not in result.error.message
    assert tried(result) == [(FIRST, *WRONG), (FIRST, *WRONG), (SECOND, *WRONG)]
    assert result.cost_usd == sum(attempt.cost_usd for attempt in result.attempts) > 0


async def test_a_re_ask_counts_in_the_tasks_cost_limit(scene: Scene):
    await scene.behave({"answer": "long " * 500})
    unlimited = await answered(scene, "cite_alone")
    limited = await answered(scene, "cite_cheaply")
    assert [len(result.attempts) for result in (unlimited, limited)] == [2, 1]
    assert limited.error
    assert limited.error.code == "citations_missing"


async def test_only_a_checked_answer_is_kept_and_is_given_again_with_its_citations_and_data(scene: Scene):
    messages = [Message(role="user", content="Is my card lost?")]
    await scene.behave({"match": {"model": "twin-small"}, "answer": "{}", "times": 1})
    first = await answered(scene, "fill", SCHEMA, messages=messages)
    again = await answered(scene, "fill", SCHEMA, messages=messages)
    assert (again.cache, again.data, again.text) == ("exact", first.data, first.text)
    assert first.data == {"intent": "refund", "sure": True}
    assert len(first.attempts) == 2
    cited = await answered(scene, messages=messages)
    cited_again = await answered(scene, messages=messages)
    assert (cited_again.cache, cited_again.citations) == ("exact", cited.citations)
    assert cited.citations


@pytest.mark.parametrize("task", ["fill", "fill_elsewhere"])
async def test_an_answer_that_fits_the_schema_is_data_in_either_dialect(scene: Scene, task: str):
    result = await answered(scene, task, SCHEMA)
    assert result.status == "succeeded"
    assert result.data == json.loads(result.text)
    assert len(result.attempts) == 1


async def test_an_answer_that_does_not_fit_is_asked_for_again_then_elsewhere_and_then_invalid(scene: Scene):
    await scene.behave({"answer": '{"intent": "weather", "sure": true}', "times": 1})
    once = await answered(scene, "fill", SCHEMA)
    assert tried(once) == [(FIRST, "failed", "invalid_output"), (FIRST, "settled", None)]
    await scene.behave({"match": {"model": "twin-small"}, "answer": "It is lost.", "times": 2})
    twice = await answered(scene, "fill", SCHEMA)
    assert [attempt.deployment for attempt in twice.attempts] == [FIRST, FIRST, SECOND]
    assert twice.data
    await scene.behave({"answer": '{"intent": "weather"}'})
    never = await answered(scene, "fill", SCHEMA)
    assert never.error
    assert (never.error.code, never.data, len(never.attempts)) == ("invalid_output", None, 3)
    assert '#/properties/intent/enum: ["refund", "lost_card"]' in never.error.message
    assert "weather" not in never.error.message


async def test_a_schema_that_cannot_be_used_costs_nothing(scene: Scene):
    result = await answered(scene, "fill", {"type": "objekt"})
    assert result.error
    assert (result.status, result.error.code, result.attempts) == ("rejected", "invalid_job", [])
    assert "params.response_schema cannot be used" in result.error.message
    assert await scene.calls() == []
