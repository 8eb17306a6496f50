"""Streams as providers send them (tests/wire_cases/streams.yaml), and streams that nobody would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from producer_sdk.contract import Usage
from tests.worker.providers.replaying import answered
from worker.errors import FailureKind, ProviderError
from worker.providers import reply
from worker.rate_card import RateCard
from worker.routing_file import Dialect

CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[2] / "wire_cases" / "streams.yaml").read_text()
)
PRICES = RateCard.flat("m", "test", input=10, output=100, cache_read=1, cache_write=12, cache_write_long=20)
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def cut(stream: bytes, size: int) -> list[bytes]:
    """The stream in chunks of `size` bytes."""
    return [stream[start : start + size] for start in range(0, len(stream), size)]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
async def test_a_stream_is_read_the_same_however_the_network_cuts_it(
    case: dict[str, Any], size: int, line_end: str
):
    chunks = cut(case["stream"].replace("\n", line_end).encode(), size)
    if "fails" in case:
        with pytest.raises(ProviderError) as caught:
            await answered(chunks, case["dialect"])
        kind, code, billed = case["fails"]
        assert (caught.value.kind, caught.value.code, caught.value.billed) == (
            FailureKind(kind),
            code,
            billed,
        )
        return
    answer = await answered(chunks, case["dialect"], rate_card=PRICES, model=case["model"])
    assert (answer.text, answer.model) == (case["text"], case["model"])
    assert [[call.id, call.name, call.arguments] for call in answer.tool_calls] == case.get("tools", [])
    if case["usage"] is None:
        assert (answer.usage, answer.cost_pico) == (Usage(), 10**12)
        return
    assert [getattr(answer.usage, name) for name in COUNTS] == case["usage"]
    assert answer.cost_pico == PRICES.cost(answer.usage, long_write_tokens=case.get("long", 0))


NAMES = """
    choices delta content finish_reason usage prompt_tokens tool_calls function index id error type message
    message_start content_block stop_reason input_tokens cache_creation candidates parts text functionCall args
    finishReason promptFeedback blockReason usageMetadata promptTokenCount thoughtSignature modelVersion
"""
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=4)
    ),
    max_leaves=20,
)
EVENT_NAMES = st.sampled_from(
    ["", "message_start", "content_block_start", "content_block_delta", "message_delta", "error"]
)


@given(st.lists(st.tuples(EVENT_NAMES, JSON), max_size=6), st.sampled_from(DIALECTS))
def test_no_shape_of_json_does_more_than_fail_its_own_call(events: list[tuple[str, Any]], dialect: Dialect):
    stream = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    expect_no_surprise(stream.encode(), dialect)


@given(st.binary(max_size=400), st.sampled_from(DIALECTS))
def test_no_bytes_do_more_than_fail_their_own_call(noise: bytes, dialect: Dialect):
    expect_no_surprise(noise, dialect)
    expect_no_surprise(b"data: " + noise + b"\n\n", dialect)


def expect_no_surprise(stream: bytes, dialect: Dialect) -> None:
    """An answer or a ProviderError, and nothing else."""
    with contextlib.suppress(ProviderError):
        asyncio.run(answered(cut(stream, 50), dialect))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_json_that_is_nested_too_deeply_is_garbage(dialect: Dialect):
    with pytest.raises(ProviderError) as caught:
        await answered([b"data: " + b'{"error":' * 100_000 + b"\n\n"], dialect)
    assert caught.value.code == "garbage"


async def test_an_answer_above_the_limit_is_refused_though_its_stream_is_not_endless():
    delta = {"choices": [{"index": 0, "delta": {"content": "x" * 1_000_000}, "finish_reason": None}]}
    chunk = f"data: {json.dumps(delta)}\n\n".encode()
    with pytest.raises(ProviderError) as caught:
        await answered([chunk] * (reply.MOST_ANSWER_BYTES // 1_000_000 + 1), "openai")
    assert caught.value.code == "answer_too_large"


async def test_an_answer_may_come_in_full_from_a_server_that_never_ends_it():
    case = CASES[0]["stream"].encode()
    assert (await answered([case, *[b": still here\n\n"] * 1000], "openai")).text == "Hello"


@pytest.mark.parametrize("content_type", ["application/json", "text/html; charset=utf-8"])
async def test_what_is_no_event_stream_is_no_answer(content_type: str):
    whole = b'{"id":"c","object":"chat.completion","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
    with pytest.raises(ProviderError) as caught:
        await answered([whole], "openai", content_type=content_type)
    assert (caught.value.code, caught.value.billed) == ("not_a_stream", "unknown")


async def test_an_error_dressed_as_success_means_what_it_says():
    body = b'{"error":{"message":"Insufficient Balance","code":"insufficient_balance"}}'
    with pytest.raises(ProviderError) as caught:
        await answered([body], "openai", content_type="application/json")
    assert (caught.value.kind, caught.value.billed) == (FailureKind.QUOTA_EXHAUSTED, "no")
