"""`fairlane explain` of jobs that a real worker has carried over the twin; docs/explain.md shows what it prints."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner

from producer_sdk.contract import Document, Job, Message, uuid7
from producer_sdk.errors import BrokerUnavailable
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage
from worker.cli.explain import explain, read_story
from worker.settings import WorkerSettings
from worker.story import StoryEvent

DOCS = Path(__file__).parents[2] / "docs" / "explain.md"
AWAY = {"FAIRLANE_BROKER_URL": "redis://127.0.0.1:1/0"}
SECRET = "heliotrope"  # in every prompt, document and answer; in no story
ROUTES = {
    "tasks:\n": """tasks:
  cite: {default: first, requires_citations: true, max_output_tokens: 200}
""",
    "tiers:\n": """tiers:
  slow: {daily_budget_usd: 25, concurrency: 40, requests_per_min: 60, burst_s: 1, retries_per_min: 600}
  poor: {daily_budget_usd: 0.000046, concurrency: 40, retries_per_min: 600}
  barred: {daily_budget_usd: 25, concurrency: 40, retries_per_min: 600, deny: [first, second]}
""",
    "tenants:\n": """tenants:
  snails: slow
  mice: poor
  moles: barred
""",
}
FAULTS = [
    {"match": {"contains": "[an overload]", "model": "twin-small"}, "status": 529},
    {"match": {"contains": "[uncited]"}, "times": 1, "answer": f"In a week, {SECRET}."},
]


@pytest.fixture
async def scene(stage: Stage, tmp_path: Path) -> AsyncIterator[Scene]:
    routing = tmp_path / "routing.yaml"
    text = ROUTING.read_text()
    for section, more in ROUTES.items():
        text = text.replace(section, more, 1)
    routing.write_text(text)
    async with stage.scene(routing_path=routing) as scene:
        await scene.behave(*FAULTS)
        yield scene


def asks(tenant: str, task: str, text: str = "", **fields: Any) -> Job:
    content = f"When does my {SECRET} arrive? {text} ({uuid7()})"
    return Job(tenant=tenant, task=task, messages=[Message(role="user", content=content)], **fields)


def kinds(events: Sequence[StoryEvent]) -> list[tuple[str, str]]:
    return [event.kind for event in events]


async def printed(scene: Scene, job_id: UUID, *options: str, code: int = 0, **settings: str) -> str:
    """What the command prints."""
    env = {name: value for name, value in scene.settings.to_env().items() if name.startswith("FAIRLANE")}
    env |= settings
    done = await asyncio.to_thread(CliRunner().invoke, explain, [str(job_id), *options], env=env)
    assert done.exit_code == code, done.output
    return done.output


def away(settings: WorkerSettings) -> WorkerSettings:
    """The same where no broker answers."""
    return replace(settings, fleet=replace(settings.fleet, broker_url=AWAY["FAIRLANE_BROKER_URL"]))


def normal(text: str) -> str:
    """The same with marks in the places of times, ids, dates and amounts."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?", "<moment>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d", "<day>", text)
    text = re.sub(r"(?m)^ +for its turn.*\n", "", text)
    text = re.sub(r"(?m)^ *[\d.]+ s  ", "<time>  ", text)
    text = re.sub(r"\d[\d.e+]* (ms|s)\b", "<span>", text)
    text = text.replace(", <span> predicted", "")  # once enough answers have been measured
    return re.sub(r"\$[\d.]+|\d+ \+ \d+ tokens|\d+ (?=other jobs? of)", "<amount>", text)


def documented(title: str) -> str:
    """The example under a heading of docs/explain.md."""
    section = DOCS.read_text().split(f"## {title}\n", 1)[1]
    return section.split("```text\n", 1)[1].split("```", 1)[0]


async def test_the_stories_of_a_worker_are_told_as_the_docs_show_them(scene: Scene, stage: Stage) -> None:
    crowd = [asks("snails", "ask_first") for _ in range(2)]
    last = asks("snails", "ask_first")
    over = asks("ants", "ask", "[an overload]")
    park = asks("mice", "ask_first", on_budget="park")
    cite = asks("ants", "cite", "[uncited]", documents=[Document(id="post", text=f"{SECRET} comes by post.")])
    barred = asks("moles", "ask")
    first = asks("bees", "ask")
    again = first.model_copy(update={"job_id": uuid7()})
    spends = asks("mice", "ask_first")
    stage.worker(scene)
    await scene.put(first)
    await scene.ended(first.job_id)
    await scene.put(*crowd, last, over, cite, barred, spends)
    for job in (last, over, cite, barred, spends):
        await scene.ended(job.job_id)
    await scene.put(again, park)
    assert (await scene.ended(again.job_id))["cache"] == "exact"
    await until(lambda: _is_parked(scene, park.job_id), what="a parked job")

    examples = {"A fallback": over, "A citations re-ask": cite, "A throttled wait": last}
    examples["A budget park"] = park
    told = {title: normal(await printed(scene, job.job_id)) for title, job in examples.items()}
    assert told == {title: normal(documented(title)) for title in told}

    assert normal(await printed(scene, over.job_id, **AWAY)) == told["A fallback"]
    with pytest.raises(BrokerUnavailable):  # only its lane knows the parked job
        await read_story(away(scene.settings), park.job_id)

    hit = await read_story(scene.settings, again.job_id)
    assert [event.kind for event in hit][-2:] == [("cache", "hit"), ("result", "succeeded")]
    refused = await read_story(scene.settings, barred.job_id)
    assert kinds(refused) == [
        ("lane", "put"),
        ("lane", "taken"),
        ("policy", "refused"),
        ("result", "rejected"),
    ]
    assert "denies every model" in str(refused[-1].facts["message"])
    kept = [await scene.redis.hget(f"{scene.lanes.keys.root}job:{park.job_id}", "story")]
    kept += [json.dumps(scene.rows.stories()), json.dumps(told)]
    assert all(kept)
    assert SECRET not in str(kept)
    events = json.loads(await printed(scene, over.job_id, "--json"))
    assert [(event["step"], event["what"]) for event in events][-1] == ("result", "succeeded")
    assert "no lane and no ledger row knows this job" in await printed(scene, uuid7(), code=1)
    assert await scene.lanes.cancel(str(park.job_id)) == "pending"
    await scene.ended(park.job_id)


async def test_a_lost_delivery_and_a_wait_for_a_provider_are_told(scene: Scene, stage: Stage) -> None:
    await scene.behave(
        {"match": {"contains": "[a moment]"}, "status": 429, "retry_after": 1.2, "times": 1},
        {"match": {"contains": "[silence]"}, "hang": True, "times": 1},
    )
    waits, silent = asks("ants", "ask_first", "[a moment]"), asks("bees", "ask_second", "[silence]")
    lost, later = stage.worker(scene), asks("ants", "ask_dead", lane="batch")
    await scene.put(waits, later)
    await scene.ended(waits.job_id)
    story = await read_story(scene.settings, waits.job_id)
    assert ("attempt", "failed") in kinds(story)
    [back] = [event.facts for event in story if event.what == "handed_back"]
    assert str(back["why"]).startswith("rate_limited for")
    assert [event.facts["delivery"] for event in story if event.what == "taken"] == [1, 1]
    assert [event.facts.get("delayed_ms") for event in story if event.what == "taken"] == [
        None,
        back["delay_ms"],
    ]
    assert kinds(story)[-1] == ("result", "succeeded")

    retried = await read_story(scene.settings, later.job_id)
    assert ("lane", "retried_later") in kinds(retried)
    assert kinds(retried)[-1] == ("now", "delayed")

    await scene.put(silent)
    await until(lambda: _is_called(scene), what="a call under way")
    running = await read_story(scene.settings, silent.job_id)
    assert kinds(running)[-2:] == [("attempt", "journalled"), ("now", "running")]
    known = await read_story(away(scene.settings), silent.job_id)
    assert kinds(known)[-2:] == [("attempt", "journalled"), ("now", "not_known")]
    lost.kill()
    stage.worker(scene, worker_name="heir")
    await scene.ended(silent.job_id)
    story = await read_story(scene.settings, silent.job_id)
    [gone] = [event.facts for event in story if event.what == "lost"]
    assert (gone["delivery"], gone["worker"]) == (1, "w")
    assert [event.facts["delivery"] for event in story if event.what == "taken"] == [1, 2]
    assert [event.facts["attempt"] for event in story if event.what == "journalled"] == [1, 2]
    assert ("attempt", "unresolved") in kinds(story)
    assert kinds(story).count(("plan", "made")) == 2
    await until(lambda: _is_uncertain(scene, silent.job_id), what="an uncertain attempt")


async def _is_called(scene: Scene) -> bool:
    return any(call["finished"] == "open" for call in await scene.calls())


async def _is_uncertain(scene: Scene, job_id: UUID) -> bool:
    story = await read_story(scene.settings, job_id)
    return any(event.kind == ("attempt", "uncertain") and event.facts["since"] == "lost" for event in story)


async def _is_parked(scene: Scene, job_id: UUID) -> bool:
    look = await scene.lanes.look(str(job_id))
    return look is not None and look.state == "delayed"
