"""Both dialects against npm's aimock, a server that nobody here wrote: answers, tools, faults, and its own journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select

from benchmarks.aimock_server import Aimock, aimock
from benchmarks.throwaway import NotHere
from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.scene import ROUTING, until
from tests.chaos.stage import Stage
from tests.worker.providers.attempts import attempt, run
from worker.errors import FailureKind, ProviderError
from worker.ledger.tables import EVENTS
from worker.routing_file import Dialect

DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic")
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
ASKED = {"name": "get_weather", "arguments": {"city": "Bern"}}
COUNTED = {"prompt_tokens": 41, "completion_tokens": 7, "input_tokens": 41, "output_tokens": 7}


def refusing(text: str, status: int, kind: str, code: str | None = None, **fields: Any) -> dict[str, Any]:
    error = {"message": "no", "type": kind, **({"code": code} if code else {})}
    return {"match": {"userMessage": text}, "response": {"error": error, "status": status, **fields}}


def flaky(text: str, fault: str) -> dict[str, Any]:
    """A fault of every call of one model."""
    match = {"userMessage": text, "model": "twin-small"}
    return {"match": match, "response": {"content": "never seen"}, "chaos": {fault: 1}}


FIXTURES = [
    refusing("[limited]", 429, "rate_limit_error", "rate_limit_exceeded", retryAfter=3),
    refusing("[spent]", 429, "insufficient_quota", "insufficient_quota"),
    refusing("[busy]", 529, "overloaded_error"),
    refusing("[down]", 500, "api_error"),
    refusing("[who]", 401, "authentication_error"),
    refusing("[wrong]", 400, "invalid_request_error"),
    *(
        {"match": {"userMessage": f"[cut {kind}]"}, "response": {"content": "a long answer " * 20}, **fault}
        for kind, fault in {
            "short": {"truncateAfterChunks": 2, "chunkSize": 5},
            "off": {"disconnectAfterMs": 30, "latency": 10, "chunkSize": 5},
        }.items()
    ),
    flaky("[drop]", "dropRate"),
    flaky("[malformed]", "malformedRate"),
    flaky("[disconnect]", "disconnectRate"),
    flaky("[limit]", "rateLimitRate"),
    {"match": {"userMessage": "[tool]"}, "response": {"toolCalls": [ASKED]}},
    {"match": {"userMessage": "[both]"}, "response": {"content": "Let me look.", "toolCalls": [ASKED]}},
    {"match": {"userMessage": "[long]"}, "response": {"content": "word " * 2_000}, "chunkSize": 7},
    {"match": {"userMessage": ""}, "response": {"content": "It is on its way — 🚚.", "usage": COUNTED}},
]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aimock]:
    try:
        with aimock(tmp_path_factory.mktemp("aimock"), FIXTURES) as server:
            yield server
    except NotHere as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_is_read_whole_with_its_usage(upstream: Aimock, dialect: Dialect):
    one = attempt(upstream.url, dialect, messages="Where is it?")
    answer = await run(one)
    assert answer.text == "It is on its way — 🚚."
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (41, 7)
    assert answer.model == "twin-small"
    call = upstream.journal()[-1]
    assert (call["headers"]["x-fairlane-attempt"], call["response"]["status"]) == (str(one.id), 200)
    assert len((await run(attempt(upstream.url, dialect, messages="[long]"))).text.split()) == 2_000


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("asked", "text"), [("[tool]", ""), ("[both]", "Let me look.")])
async def test_a_tool_call_is_read_with_the_text_before_it(
    upstream: Aimock, dialect: Dialect, asked: str, text: str
):
    answer = await run(attempt(upstream.url, dialect, messages=asked, tools=[WEATHER]))
    assert answer.text == text
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("get_weather", {"city": "Bern"})]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("asked", "kind", "billed"),
    [
        ("[limited]", FailureKind.RATE_LIMITED, "no"),
        ("[busy]", FailureKind.OVERLOADED, "no"),
        ("[down]", FailureKind.SERVER_ERROR, "no"),
        ("[who]", FailureKind.AUTH, "no"),
        ("[wrong]", FailureKind.INVALID_REQUEST, "no"),
        ("[cut short]", FailureKind.STREAM_BROKEN, "unknown"),
        ("[cut off]", FailureKind.STREAM_BROKEN, "unknown"),
        ("[drop]", FailureKind.SERVER_ERROR, "no"),
        ("[malformed]", FailureKind.STREAM_BROKEN, "unknown"),
        ("[disconnect]", FailureKind.STREAM_BROKEN, "unknown"),
        ("[limit]", FailureKind.RATE_LIMITED, "no"),
    ],
)
async def test_a_fault_is_what_it_is_in_both_dialects(
    upstream: Aimock, dialect: Dialect, asked: str, kind: FailureKind, billed: str
):
    with pytest.raises(ProviderError) as caught:
        await run(attempt(upstream.url, dialect, messages=asked, timeout_s=5))
    assert (caught.value.kind, caught.value.billed) == (kind, billed)
    if asked == "[limited]":
        assert caught.value.retry_after_s == 3


async def test_a_spent_quota_is_no_rate_limit(upstream: Aimock):
    with pytest.raises(ProviderError) as caught:
        await run(attempt(upstream.url, messages="[spent]"))
    assert caught.value.kind == FailureKind.QUOTA_EXHAUSTED


async def test_jobs_fall_back_from_each_fault_and_every_call_of_its_journal_is_one_ledger_row(
    upstream: Aimock, stage: Stage, tmp_path: Path
):
    path, before = tmp_path / "routing.yaml", len(upstream.journal())
    path.write_text(
        ROUTING.read_text().replace("base_url_env: FAIRLANE_LOCAL_URL", f"base_url: {upstream.url}")
    )
    async with stage.scene(routing_path=path) as scene:
        stage.worker(scene, worker_name="w1")
        texts = [f"[{kind}] {uuid7()}" for kind in ("drop", "malformed", "disconnect", "limit", "fine") * 2]
        jobs = [Job(tenant="bees", task="ask", messages=[Message(role="user", content=one)]) for one in texts]
        await scene.put(*jobs)
        for job in jobs:
            result = await scene.ended(job.job_id)
            assert (result["status"], result["text"]) == ("succeeded", "It is on its way — 🚚.")
        await until(scene.is_at_rest, what="the end of every call")
        engine = create_engine(scene.settings.ledger_url)
        with engine.connect() as connection:
            rows = {str(row.id): row for row in connection.execute(select(EVENTS))}
        engine.dispose()
    calls = {call["headers"]["x-fairlane-attempt"]: call for call in upstream.journal()[before:]}
    assert len(upstream.journal()) - before == len(calls) == len(rows) >= len(jobs)
    assert calls.keys() == rows.keys()
    answered = [row for row in rows.values() if row.status == "settled"]
    assert [(row.input_tokens, row.output_tokens) for row in answered] == [(41, 7)] * len(jobs)
