"""CallProvider against the twin, over real HTTP, in every dialect."""

from __future__ import annotations

import asyncio
import time

import pytest

from producer_sdk.contract import Message
from tests.worker.providers.attempts import (
    BreakAt,
    attempt,
    behave,
    booked,
    key,
    no_proceed,
    run,
    settings,
    system_and_user,
)
from worker.embedded.twin import Twin
from worker.errors import FailureKind, LeaseLost, ProviderError
from worker.providers.client import open_client
from worker.providers.step import CallProvider
from worker.routing_file import Dialect

POINTS = ["before_connect", "after_request", "first_chunk", "middle", "after_last"]


async def test_an_answer_comes_with_its_usage_model_and_price(twin: Twin, dialect: Dialect):
    one = attempt(twin.url, dialect, model="twin-large")
    answer = await run(one)
    call = await booked(twin, one.id)
    assert answer.text == "The twin heard 4 words: Where is my card?"
    assert (answer.model, answer.deployment) == ("twin-large", f"twin-{dialect}/twin-large")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (call.input_tokens, call.output_tokens)
    assert answer.cost_pico == call.cost_pico > 0
    assert one.sent
    assert call.finished == "complete"


async def test_an_answer_says_when_its_first_token_came(twin: Twin, dialect: Dialect):
    await behave(twin, {"latency_ms": 100, "chunk_ms": 10, "output_tokens": 20})
    answer = await run(attempt(twin.url, dialect))
    assert answer.first_token_ms is not None
    assert answer.first_token_ms >= 100
    assert answer.latency_ms - answer.first_token_ms >= 150, "the other nineteen"


async def test_an_answer_is_heard_piece_by_piece_while_it_comes(twin: Twin, dialect: Dialect):
    await behave(twin, {"chunk_ms": 5})
    one, heard = attempt(twin.url, dialect), []
    one.heard = heard.append
    answer = await run(one)
    assert "".join(heard) == answer.text
    assert len([piece for piece in heard if piece]) > 3


@pytest.mark.parametrize("tokens", [20, 0])
async def test_whoever_waits_for_the_first_token_is_told_once_and_before_the_answer_goes_on(
    twin: Twin, dialect: Dialect, tokens: int
):
    await behave(twin, {"chunk_ms": 5, "output_tokens": tokens})
    told: list[str] = []

    async def first_token() -> None:
        await asyncio.sleep(0.3)
        told.append("first token")

    one = attempt(twin.url, dialect)
    one.on_first_token = first_token
    await run(one)
    assert told == ["first token"]


async def test_the_model_that_answered_is_the_one_reported(twin: Twin, dialect: Dialect):
    await behave(twin, {"answering_model": "twin-small-2026-11-01"})
    assert (await run(attempt(twin.url, dialect))).model == "twin-small-2026-11-01"


async def test_a_base_url_with_and_without_its_version_reaches_the_same_place(twin: Twin, dialect: Dialect):
    assert (await run(attempt(f"{twin.url}/v1/", dialect))).text == (
        await run(attempt(twin.url, dialect))
    ).text


async def test_the_local_url_replaces_that_of_providers_that_ask_for_it(twin: Twin, dialect: Dialect):
    one = attempt("http://127.0.0.1:1", dialect)
    object.__setattr__(one.call.deployment.provider, "base_url_env", "FAIRLANE_LOCAL_URL")
    assert (await run(one, local_url=twin.url)).text


async def test_tools_are_called_and_their_results_read(twin: Twin, dialect: Dialect):
    tool = {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    asked = await run(
        attempt(twin.url, dialect, messages="Weather in Bern?", tools=[tool], tool_choice="get_weather")
    )
    [call] = asked.tool_calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Weather in Bern?"})
    messages = [
        Message(role="user", content="Weather in Bern?"),
        Message(role="assistant", tool_calls=[call, call.model_copy(update={"id": "second"})]),
        Message(role="tool", tool_call_id=call.id, content="12 degrees"),
        Message(role="tool", tool_call_id="second", content="rain"),
    ]
    answer = await run(attempt(twin.url, dialect, messages=messages, tools=[tool]))
    assert answer.text.startswith("The tool answered:")


async def test_a_response_schema_is_answered_with_fitting_json(twin: Twin, dialect: Dialect):
    schema = {"type": "object", "properties": {"intent": {"enum": ["refund", "lost_card"]}}}
    answer = await run(attempt(twin.url, dialect, messages="I lost my card", response_schema=schema))
    assert answer.text == '{"intent": "lost_card"}'


async def test_an_image_travels_in_both_notations(twin: Twin, dialect: Dialect):
    for url in ("https://example.org/cat.png", "data:image/png;base64,iVBORw0KGgo="):
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image", "url": url}]
        assert (await run(attempt(twin.url, dialect, messages=[{"role": "user", "content": parts}]))).text


async def test_an_answer_stops_at_the_jobs_own_limit(twin: Twin, dialect: Dialect):
    answer = await run(attempt(twin.url, dialect, max_output_tokens=3))
    assert answer.usage.output_tokens == 3


@pytest.mark.parametrize("ttl", ["5m", "1h"])
async def test_a_static_prefix_is_written_once_and_then_read(twin: Twin, dialect: Dialect, ttl: str):
    def one(question: str):
        prompt = "Be brief. " * 100
        return attempt(
            twin.url, dialect, messages=system_and_user(prompt, question, cache_key="brief-v1", cache_ttl=ttl)
        )

    first, second = one("One?"), one("Two?")
    cold, warm = await run(first), await run(second)
    assert (cold.usage.cache_read_tokens, cold.cache) == (0, "none")
    assert warm.usage.cache_read_tokens >= 300
    assert warm.usage.cache_read_tokens < warm.usage.input_tokens
    assert warm.cache == "provider"
    assert warm.saved_pico > 0
    assert (cold.usage.cache_write_tokens > 0) == (dialect == "anthropic")
    for answered, sent in ((cold, first), (warm, second)):
        assert answered.cost_pico == (await booked(twin, sent.id)).cost_pico
    if dialect == "anthropic":
        assert ((await booked(twin, first.id)).long_write_tokens > 0) == (ttl == "1h")


async def test_tenants_do_not_share_a_cache_key(twin: Twin):
    messages = system_and_user("Be brief. " * 100, "One?", cache_key="brief-v1")
    await run(attempt(twin.url, messages=messages))
    other = attempt(twin.url, messages=messages)
    other.job_run.job = other.job_run.job.model_copy(update={"tenant": "globex"})
    assert (await run(other)).usage.cache_read_tokens == 0


async def test_thoughts_are_counted_where_the_provider_counts_them(twin: Twin):
    await behave(twin, {"reasoning_tokens": 40})
    usage = (await run(attempt(twin.url))).usage
    assert usage.reasoning_tokens == 40
    assert usage.output_tokens > 40


STATUSES = [
    ({"status": 429, "retry_after": 7}, FailureKind.RATE_LIMITED, "no", 7.0),
    ({"status": 429, "retry_after_ms": 1500}, FailureKind.RATE_LIMITED, "no", 1.5),
    ({"status": 429}, FailureKind.RATE_LIMITED, "no", None),
    ({"status": 529}, FailureKind.OVERLOADED, "no", None),
    ({"status": 503}, FailureKind.OVERLOADED, "no", None),
    ({"status": 500}, FailureKind.SERVER_ERROR, "no", None),
    (
        {"status": 502, "body": "<html>Bad gateway", "content_type": "text/html"},
        FailureKind.SERVER_ERROR,
        "unknown",
        None,
    ),
    ({"status": 401}, FailureKind.AUTH, "no", None),
    ({"status": 307, "location": "https://example.org/"}, FailureKind.SERVER_ERROR, "no", None),
    (
        {"status": 200, "body": "<html>Sign in", "content_type": "text/html"},
        FailureKind.STREAM_BROKEN,
        "unknown",
        None,
    ),
    ({"hang": True}, FailureKind.TIMEOUT, "unknown", None),
    ({"hang": "mid_stream"}, FailureKind.TIMEOUT, "unknown", None),
    ({"drop": True}, FailureKind.STREAM_BROKEN, "unknown", None),
    ({"break_after_chunks": 0}, FailureKind.STREAM_BROKEN, "unknown", None),
    ({"break_after_chunks": 3}, FailureKind.STREAM_BROKEN, "unknown", None),
    ({"error_after_chunks": 0, "code": "server_error"}, FailureKind.SERVER_ERROR, "unknown", None),
    ({"error_after_chunks": 2}, FailureKind.STREAM_BROKEN, "unknown", None),
    ({"no_finish_reason": True}, FailureKind.STREAM_BROKEN, "unknown", None),
    ({"garbage": True}, FailureKind.STREAM_BROKEN, "unknown", None),
    ({"endless": "line"}, FailureKind.STREAM_BROKEN, "unknown", None),
    ({"endless": True}, FailureKind.STREAM_BROKEN, "unknown", None),
    ({"finish": "content_filter"}, FailureKind.CONTENT_BLOCKED, "yes", None),
]


@pytest.mark.parametrize(
    ("rule", "kind", "billed", "retry_after_s"), STATUSES, ids=[str(row[0]) for row in STATUSES]
)
async def test_each_way_of_failing_has_its_kind(
    twin: Twin, dialect: Dialect, rule, kind, billed, retry_after_s
):
    await behave(twin, {"output_tokens": 20, **rule})
    one = attempt(twin.url, dialect, timeout_s=0.5 if "hang" in rule else 20, messages="SECRET-PROMPT")
    with pytest.raises(ProviderError) as caught:
        await run(one, keys=key("SECRET-KEY"))
    error = caught.value
    assert (error.kind, error.billed, error.retry_after_s) == (kind, billed, retry_after_s)
    assert "SECRET" not in f"{error} {error.code}"
    call = await booked(twin, one.id)
    if billed == "no":
        assert call.cost_pico == 0
    if billed == "yes":
        assert error.usage
        assert one.call.card.cost(error.usage) == call.cost_pico


async def test_an_endless_answer_ends_as_too_large(twin: Twin, dialect: Dialect):
    await behave(twin, {"endless": True})
    with pytest.raises(ProviderError) as caught:
        await run(attempt(twin.url, dialect, timeout_s=30))
    assert caught.value.code == "answer_too_large"


async def test_an_open_call_ends_at_the_attempts_timeout_however_slowly_it_drips(
    twin: Twin, dialect: Dialect
):
    await behave(twin, {"output_tokens": 1000, "chunk_ms": 50})
    started = time.monotonic()
    one = attempt(twin.url, dialect, timeout_s=0.4, max_output_tokens=4000)
    with pytest.raises(ProviderError) as caught:
        await run(one)
    assert caught.value.kind == FailureKind.TIMEOUT
    assert time.monotonic() - started < 3
    call = await booked(twin, one.id)
    assert call.finished == "client_closed"
    assert call.billed
    assert 0 < call.output_tokens < 100


async def test_a_cancelled_call_hangs_up_at_once_and_the_provider_notices(twin: Twin, dialect: Dialect):
    await behave(twin, {"output_tokens": 1000, "chunk_ms": 20})
    one = attempt(twin.url, dialect, max_output_tokens=4000)
    reached = BreakAt()
    task = asyncio.create_task(run(one, crossing=reached))
    while "call:middle" not in reached.seen:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await booked(twin, one.id, within_s=1)).finished == "client_closed"


async def test_a_call_cancelled_before_the_answer_begins_is_not_billed(twin: Twin, dialect: Dialect):
    await behave(twin, {"latency_ms": 60_000})
    one = attempt(twin.url, dialect)
    task = asyncio.create_task(run(one))
    while not twin.books.calls():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (await booked(twin, one.id)).billed


async def test_a_call_passes_five_points_in_order(twin: Twin, dialect: Dialect):
    crossing = BreakAt()
    await run(attempt(twin.url, dialect), crossing=crossing)
    assert crossing.seen == [f"call:{point}" for point in POINTS]


@pytest.mark.parametrize("point", POINTS)
async def test_a_connection_broken_at_any_point_is_a_broken_call(twin: Twin, dialect: Dialect, point: str):
    await behave(twin, {"chunk_ms": 5})
    one = attempt(twin.url, dialect)
    with pytest.raises(ProviderError) as caught:
        await run(one, crossing=BreakAt(f"call:{point}"))
    kind, billed = FailureKind.STREAM_BROKEN, "unknown"
    if point == "before_connect":
        kind, billed = FailureKind.CONNECT_ERROR, "no"
    if point == "after_last":
        billed = "yes"
    assert (caught.value.kind, caught.value.billed) == (kind, billed)
    assert one.sent == (point != "before_connect")
    if point == "after_last":
        assert caught.value.usage


async def test_nothing_is_sent_once_the_lease_is_lost(twin: Twin, dialect: Dialect):
    one = attempt(twin.url, dialect, lease_s=-1)
    with pytest.raises(LeaseLost):
        await run(one)
    assert not one.sent
    assert not twin.books.calls()


async def test_a_provider_that_does_not_listen_is_not_billed(dialect: Dialect):
    with pytest.raises(ProviderError) as caught:
        await run(attempt("http://127.0.0.1:1", dialect))
    assert (caught.value.kind, caught.value.billed) == (FailureKind.CONNECT_ERROR, "no")


@pytest.mark.parametrize(
    "base_url", ["", "ftp://example.org", "http://", "http://no such host/", "http://nowhere.invalid"]
)
async def test_an_address_that_cannot_be_called_is_not_billed(dialect: Dialect, base_url: str):
    with pytest.raises(ProviderError) as caught:
        await run(attempt(base_url, dialect))
    assert (caught.value.kind, caught.value.billed) == (FailureKind.CONNECT_ERROR, "no")


INPUT_NAMES = ("prompt_tokens", "input_tokens", "promptTokenCount")
WRONG = [dict.fromkeys(INPUT_NAMES, -5), dict.fromkeys(INPUT_NAMES, "many")]
WRONG += [
    {
        "prompt_tokens_details": {"cached_tokens": 10**6},
        "cache_read_input_tokens": 10**12,
        "cachedContentTokenCount": 10**6,
    }
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_usage_that_cannot_be_is_charged_at_what_was_reserved(twin: Twin, dialect: Dialect, wrong):
    await behave(twin, {"wrong_usage": wrong})
    one = attempt(twin.url, dialect)
    answer = await run(one)
    assert answer.text
    assert (answer.cost_pico, answer.usage.input_tokens) == (one.call.highest_pico, 0)


async def test_an_answer_without_usage_is_charged_at_what_was_reserved(twin: Twin):
    await behave(twin, {"no_usage": True})
    one = attempt(twin.url)
    assert (await run(one)).cost_pico == one.call.highest_pico


async def test_a_usage_above_the_worst_case_is_booked_as_it_is(twin: Twin):
    await behave(twin, {"wrong_usage": {"completion_tokens": 10**8, "total_tokens": 10**8}})
    assert (await run(attempt(twin.url))).usage.output_tokens == 10**8


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_many_calls_at_once_each_get_their_own_answer(twin: Twin, dialect: Dialect):
    await behave(twin, {"latency_ms": 200})
    async with open_client(settings()) as client:
        step = CallProvider(client=client)
        many = [
            attempt(twin.url, dialect, messages=f"Number {number}?", timeout_s=30) for number in range(300)
        ]
        answers = await asyncio.gather(*(step.run(one, no_proceed) for one in many))
    assert [answer.text for answer in answers] == [f"The twin heard 2 words: Number {n}?" for n in range(300)]
    assert {call.attempt for call in twin.books.calls()} == {str(one.id) for one in many}


async def test_headers_that_say_nothing_is_left_come_with_the_answer_and_with_a_429(
    twin: Twin, dialect: Dialect
):
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7s"}
    await behave(twin, {"headers": used_up, "times": 1}, {"headers": used_up, "status": 429, "times": 1})
    assert (await run(attempt(twin.url, dialect))).exhausted_s == 7.0
    with pytest.raises(ProviderError) as limited:
        await run(attempt(twin.url, dialect))
    assert limited.value.retry_after_s == 7.0
    assert (await run(attempt(twin.url, dialect))).exhausted_s is None


async def test_a_parameter_that_the_model_refuses_is_found_once_in_the_result(twin: Twin):
    one = attempt(twin.url, temperature=0.3, seed=7)
    object.__setattr__(one.call.deployment, "capabilities", {"temperature": False})
    first = await run(one)
    await run(one.renewed())
    result = one.job_run.result_of(first)
    told = [(found.rule, found.where, found.action, found.detail) for found in result.safety]
    assert told == [("parameter_left_out", "params.temperature", "flagged", "twin-openai/twin-small")]


async def test_a_call_that_failed_leaves_no_finding(twin: Twin):
    await behave(twin, {"status": 500})
    one = attempt(twin.url, "anthropic", seed=7)
    with pytest.raises(ProviderError):
        await run(one)
    assert one.job_run.findings == []
