"""The exact cache on a real Valkey: when it answers, what a hit costs and saves, and who never shares."""

from __future__ import annotations

import json
from array import array
from dataclasses import replace

import pytest
import redis.asyncio

from producer_sdk.contract import (
    Citation,
    ErrorCode,
    Finding,
    GenerationParams,
    Message,
    Tool,
    ToolCall,
    Usage,
    Vectors,
)
from tests.servers import Valkey
from tests.worker.job_runs import Rest, answer_of, deployment, document, job_of, routing_of, run_of
from worker.cache.rules import cache_key
from worker.cache.step import AnswerFromCache
from worker.cache.store import MAX_BYTES, ExactCache, KeptAnswer
from worker.errors import JobStopped
from worker.routing_file import EmbeddingLimits, TaskRule, Tenant, Tier

ROUTING = routing_of(
    tasks={
        "ask": TaskRule("ask", "small", cache_ttl_s=60),
        "other": TaskRule("other", "small", cache_ttl_s=60),
    },
    tenants={"acme": Tenant("acme", Tier("free")), "globex": Tenant("globex", Tier("free"))},
)


@pytest.fixture
def step(client: redis.asyncio.Redis, namespace: str) -> AnswerFromCache:
    return AnswerFromCache(ExactCache(client, namespace=namespace))


def asking(text: str = "hello", *, run: dict | None = None, **fields):
    return run_of(job_of(text, **fields), routing=ROUTING, **(run or {}))


async def test_the_same_question_is_answered_without_a_call_and_says_what_it_saved(step: AnswerFromCache):
    citation = Citation(document_id="d1", quote="yes", start=0, end=3)
    rest = Rest(answer_of("yes", cost_pico=500, citations=(citation,)))
    first = await step.run(asking(), rest)
    again = await step.run(asking(), rest)
    assert (first.cache, len(rest.saw)) == ("none", 1)
    assert (again.text, again.citations, again.model) == ("yes", (citation,), "s")
    assert (again.cache, again.cost_pico, again.saved_pico, again.usage) == ("exact", 0, 500, Usage())
    assert again.standing is None


async def test_an_answers_data_is_given_again(step: AnswerFromCache):
    rest = Rest(answer_of('{"a": [1]}', data={"a": [1]}))
    for _time in range(2):
        assert (await step.run(asking(), rest)).data == {"a": [1]}
    assert len(rest.saw) == 1


async def test_an_answer_from_before_its_task_required_citations_is_not_given(step: AnswerFromCache):
    before, now, rest = asking(), asking(), Rest(answer_of("uncited"), answer_of("cited"))
    now.task = replace(now.known_task(), requires_citations=True)
    assert (await step.run(before, rest)).text == "uncited"
    assert (await step.run(now, rest)).text == "cited"


async def test_a_wrong_answer_is_not_kept(step: AnswerFromCache):
    wrong = JobStopped.of(ErrorCode.CITATIONS_MISSING, "no")
    rest = Rest(wrong, answer_of("right"))
    with pytest.raises(JobStopped):
        await step.run(asking(), rest)
    assert (await step.run(asking(), rest)).cache == "none"


@pytest.mark.parametrize(
    "other",
    [
        asking("hello!"),
        asking(task="other"),
        asking(tenant="globex"),
        asking(prompt_version="2"),
        asking(params=GenerationParams(temperature=1)),
        asking(params=GenerationParams(stop=["x"])),
        asking(run={"aliases": ("large",)}),
        asking(run={"max_output_tokens": 7}),
        asking(messages=[Message(role="system", content="hello")]),
        asking(documents=[document("hello")]),
    ],
)
async def test_another_question_tenant_task_alias_version_or_parameter_is_not_answered(step, other):
    rest = Rest()
    await step.run(asking(), rest)
    assert cache_key(other) != cache_key(asking())
    assert (await step.run(other, rest)).cache == "none"


def test_who_asks_and_when_is_not_part_of_the_question():
    assert cache_key(asking(run_id="r", metadata={"a": "b"}, lane="batch")) == cache_key(asking())


@pytest.mark.parametrize(
    "run",
    [
        run_of(job_of()),  # its task keeps nothing
        asking(run={"findings": [Finding(rule="override", where="documents[0]", action="flagged")]}),
        asking(params=GenerationParams(tools=[Tool(name="delete_account")])),
    ],
)
async def test_what_must_not_be_kept_is_always_asked_anew(step: AnswerFromCache, run):
    rest = Rest()
    for _ in range(2):
        assert (await step.run(run, rest)).cache == "none"
    assert len(rest.saw) == 2


def test_the_fences_mark_is_not_part_of_the_question():
    fenced = (Message(role="user", content="<tool_result 3f> x </tool_result 3f>"),)
    assert cache_key(asking(run={"messages": fenced})) == cache_key(asking())


async def test_a_remark_on_the_prompts_layout_does_not_forbid_the_cache(step: AnswerFromCache):
    run = asking(run={"findings": [Finding(rule="cache_layout", where="messages", action="flagged")]})
    await step.run(run, Rest())
    assert (await step.run(run, Rest())).cache == "exact"


async def test_answers_with_tool_calls_and_failures_are_not_kept(step: AnswerFromCache):
    calling = answer_of(tool_calls=(ToolCall(id="1", name="f"),))
    await step.run(asking(), Rest(calling))
    with pytest.raises(JobStopped):
        await step.run(asking(), Rest(JobStopped.of("internal", "no")))
    assert (await step.run(asking(), Rest())).cache == "none"


async def test_an_answer_read_from_the_providers_cache_is_kept_too(step: AnswerFromCache):
    await step.run(asking(), Rest(answer_of(cache="provider")))
    assert (await step.run(asking(), Rest())).cache == "exact"


async def test_an_answer_goes_when_its_time_is_up(step: AnswerFromCache, client, namespace: str):
    await step.run(asking(), Rest())
    (key,) = [key async for key in client.scan_iter(f"{namespace}:*")]
    assert 55 < await client.ttl(key) <= 60


async def test_a_damaged_kept_answer_is_made_anew(step: AnswerFromCache, client, namespace: str):
    await step.run(asking(), Rest())
    (key,) = [key async for key in client.scan_iter(f"{namespace}:*")]
    await client.set(key, b'{"text": 1')
    assert (await step.run(asking(), Rest())).cache == "none"
    assert (await step.run(asking(), Rest())).cache == "exact"


async def test_a_very_long_answer_is_given_and_not_kept(step: AnswerFromCache):
    rest = Rest(answer_of("x" * MAX_BYTES))
    for _ in range(2):
        assert (await step.run(asking(), rest)).cache == "none"


async def test_a_large_question_has_the_same_key_off_the_loop(step: AnswerFromCache):
    await step.run(asking("x" * 200_000, run={"message": b"x" * 200_000}), Rest())
    assert (await step.run(asking("x" * 200_000), Rest())).cache == "exact"


async def test_a_paid_answer_is_not_lost_when_the_broker_goes_away(own_valkey: Valkey, namespace: str):
    client = redis.asyncio.Redis.from_url(own_valkey.redis_url, retry=None)
    cache = ExactCache(client, namespace=namespace)
    own_valkey.kill()
    await cache.put("k", KeptAnswer.of(answer_of()), ttl_s=5)
    with pytest.raises(redis.exceptions.ConnectionError):
        await cache.get("k")
    await client.aclose()


def test_a_standing_result_is_not_kept_with_the_answer():
    assert "standing" not in KeptAnswer.of(replace(answer_of(), saved_pico=3)).model_dump()


def embedding(
    *inputs: str, spaces: tuple[str, ...] = ("e",), task: int | None = None, job: int | None = None
):
    deployments = tuple(
        replace(deployment(space), embedding=EmbeddingLimits(8, 1, 100, space)) for space in spaces
    )
    rule = TaskRule("embed", "vectors", cache_ttl_s=60, kind="embedding", dimensions=task)
    routing = replace(ROUTING, tasks={"embed": rule}, aliases={"vectors": deployments})
    params = GenerationParams(dimensions=job)
    asked = job_of(messages=[], task="embed", inputs=list(inputs), params=params)
    return run_of(asked, routing=routing)


async def test_the_same_inputs_get_the_same_vectors_without_a_call(step: AnswerFromCache):
    vectors = Vectors.packed([array("f", [1, 0])], dimensions=2)
    rest = Rest(answer_of("", vectors=vectors))
    for _time in range(2):
        assert (await step.run(embedding("a"), rest)).vectors == vectors
    assert len(rest.saw) == 1


def test_other_inputs_another_length_or_another_models_vectors_are_another_question():
    keys = {
        cache_key(one)
        for one in (
            embedding("a"),
            embedding("b"),
            embedding("a", "b"),
            embedding("b", "a"),
            embedding("a", task=4),
            embedding("a", job=5),
            embedding("a", spaces=("f",)),
            embedding("a", spaces=("e", "f")),
        )
    }
    assert len(keys) == 8


async def test_vectors_are_kept_up_to_a_limit_of_their_own(step: AnswerFromCache):
    for numbers, calls in ((180_000, 1), (210_000, 2)):
        vectors = Vectors.packed([array("f", [1.5] * numbers)], dimensions=1)
        rest = Rest(answer_of("", vectors=vectors))
        for _time in range(2):
            await step.run(embedding(f"{numbers} numbers"), rest)
        assert len(rest.saw) == calls


async def test_a_last_resorts_vectors_are_not_given_once_the_first_model_is_back(step: AnswerFromCache):
    run = embedding("a", spaces=("e", "f"))
    first, last = run.routing.aliases["vectors"]
    aliases = {"vectors": (first, replace(last, weight=0))}
    run.routing = replace(run.routing, aliases=aliases)
    vectors = Vectors.packed([array("f", [1.0])], dimensions=1)
    by_last = replace(answer_of("", vectors=vectors), deployment=last.name)
    rest = Rest(by_last, replace(by_last, deployment=first.name))
    assert [(await step.run(run, rest)).deployment for _time in range(2)] == [last.name, first.name]
    assert (await step.run(run, Rest())).cache == "exact"


def test_what_is_kept_of_a_chat_is_read_by_older_workers():
    assert "vectors" not in json.loads(KeptAnswer.of(answer_of("yes")).model_dump_json())
