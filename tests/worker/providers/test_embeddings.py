"""Embedding calls: every answer of tests/wire_cases/embeddings.yaml, what is sent, and both dialects over the twin."""

from __future__ import annotations

import contextlib
import json
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from producer_sdk.contract import Usage
from tests.worker.providers.attempts import (
    HIGHEST_PICO,
    BreakAt,
    behave,
    booked,
    embedding,
    key,
    no_proceed,
    run,
)
from tests.worker.providers.attempts import settings as of_a_caller
from tests.worker.providers.replaying import Replay
from worker.embedded.twin import Twin
from worker.embedded.twin.embeddings_wire import vector
from worker.errors import FailureKind, LeaseLost, ProviderError
from worker.job_run import Answer, Attempt
from worker.providers.client import open_client
from worker.providers.embeddings import check_model, embedding_adapter
from worker.providers.keys import Keys
from worker.providers.reply import Reply
from worker.providers.step import ATTEMPT_HEADER, CallProvider
from worker.providers.vectors_reader import VectorsReader, Wanted
from worker.routing_file import Dialect, RoutingFile

WIRE_CASES = Path(__file__).parents[2] / "wire_cases"
CASES: list[dict[str, Any]] = yaml.safe_load((WIRE_CASES / "embeddings.yaml").read_text())
DIALECTS: tuple[Dialect, ...] = ("openai", "gemini")


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """The two dialects that have embeddings."""
    return request.param


def body_of(case: dict[str, Any]) -> bytes:
    stated = case["body"]
    text = stated if isinstance(stated, str) else json.dumps(stated)
    return text.encode() + b" " * case.get("padding", 0)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


async def answered(transport: Replay, one: Attempt, keys: Keys | None = None) -> Answer:
    """What CallProvider makes of the replayed answer."""
    async with open_client(of_a_caller(), transport=transport) as client:
        return await CallProvider(client=client, keys=keys).run(one, no_proceed)


def replayed(case: dict[str, Any], size: int) -> Replay:
    return Replay(cut(body_of(case), size), content_type="application/json", status=case.get("status", 200))


@pytest.mark.parametrize("size", [7, 100_000])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
async def test_an_answer_is_read_as_the_right_vectors_or_fails(case: dict[str, Any], size: int):
    one = embedding("http://provider.test", case["dialect"], own_dimensions=2)
    if "fails" in case:
        with pytest.raises(ProviderError) as caught:
            await answered(replayed(case, size), one)
        kind, code, billed = case["fails"]
        error = caught.value
        assert (error.kind, error.code, error.billed) == (FailureKind(kind), code, billed)
        assert (error.usage is not None) == (billed == "yes")
        return
    answer = await answered(replayed(case, size), one)
    assert answer.vectors is not None
    assert (answer.vectors.lists(), answer.model) == (case["vectors"], case["model"])
    if case["usage"] is None:
        assert (answer.usage, answer.cost_pico in (0, HIGHEST_PICO)) == (Usage(), True)
    else:
        assert answer.usage == Usage(input_tokens=case["usage"])


async def test_openai_is_asked_for_base64_on_hosts_that_write_it_and_for_a_length_where_it_differs():
    case, sent = CASES[0], []
    for url in ("https://api.openai.com/v1", "https://embed.example", "http://127.0.0.1:8080"):
        for own in (2, 8):
            transport = replayed(case, 1_000)
            await answered(transport, embedding(url, own_dimensions=own, dimensions=2), key("k"))
            [request] = transport.requests
            assert request.url == url.removesuffix("/v1") + "/v1/embeddings"
            assert request.headers["authorization"] == "Bearer k"
            sent.append(json.loads(request.content))
    assert all((one.pop("model"), one.pop("input")) == ("twin-embed", ["one", "two"]) for one in sent)
    packed = {"encoding_format": "base64"}
    assert sent == [
        packed,
        packed | {"dimensions": 2},
        {},
        {"dimensions": 2},
        packed,
        packed | {"dimensions": 2},
    ]


@pytest.mark.parametrize(
    "base", ["https://g.example", "https://g.example/v1beta", "https://g.example/v1beta/"]
)
async def test_gemini_gets_each_input_as_a_content_of_its_own_and_its_key_in_a_header(base: str):
    case = next(case for case in CASES if case["dialect"] == "gemini")
    transport = replayed(case, 1_000)
    one = embedding(base, "gemini", own_dimensions=8, dimensions=2)
    await answered(transport, one, key("secret"))
    [request] = transport.requests
    assert request.url == "https://g.example/v1beta/models/twin-embed:batchEmbedContents"
    assert (request.headers["x-goog-api-key"], request.headers[ATTEMPT_HEADER]) == ("secret", str(one.id))
    assert json.loads(request.content)["requests"] == [
        {"model": "models/twin-embed", "outputDimensionality": 2, "content": {"parts": [{"text": text}]}}
        for text in ("one", "two")
    ]


def test_an_answer_may_be_as_long_as_what_was_asked_for_and_no_longer():
    assert Wanted(2_048, 732).most_bytes < 64 * 1024 * 1024, "the most that a job may have"
    assert Wanted(1, 1536).most_bytes < 256 * 1024
    wanted = Wanted(1, 2)
    reader = VectorsReader(wanted, tell=lambda *_: pytest.fail("it is read"), usage_in=lambda _body: None)
    reader.take("", b"x" * wanted.most_bytes)
    with pytest.raises(ProviderError) as caught:
        reader.take("", b"x")
    assert caught.value.code == "body_too_large"


NAMES = ["data", "index", "embedding", "embeddings", "values", "usage", "prompt_tokens", "error", "model"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=60)
@given(JSON | st.binary(max_size=100), st.sampled_from(DIALECTS))
def test_no_body_does_more_than_fail_its_own_call(body: Any, dialect: Dialect):
    reader = embedding_adapter(embedding("http://provider.test", dialect)).reader()
    assert isinstance(reader, VectorsReader)
    with contextlib.suppress(ProviderError):
        reader.take("", body if isinstance(body, bytes) else json.dumps(body).encode())
        reader.end()
        pytest.fail("an answer of random words was read")


async def test_the_twins_vectors_come_back_in_the_inputs_order_and_are_booked(twin: Twin, dialect: Dialect):
    texts = [f"chunk {number}" for number in range(50)]
    for dimensions in (None, 16):
        one = embedding(twin.url, dialect, inputs=texts, dimensions=dimensions)
        answer, call = await run(one), await booked(twin, one.id)
        assert answer.vectors is not None
        assert answer.vectors.lists() == [vector(text, dimensions or 256).tolist() for text in texts]
        assert (answer.usage, answer.cost_pico) == (Usage(input_tokens=call.input_tokens), call.cost_pico)
        assert (call.finished, call.output_tokens, call.dialect) == ("complete", 0, dialect)
        assert call.cost_pico == 20_000 * call.input_tokens > 0


async def test_vectors_in_another_order_are_put_where_their_index_says(twin: Twin):
    await behave(twin, {"wrong_vectors": "shuffled"})
    answer = await run(embedding(twin.url, inputs=["a", "b", "c"]))
    assert answer.vectors is not None
    assert answer.vectors.lists() == [vector(text, 256).tolist() for text in "abc"]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"wrong_vectors": "missing"}, "vectors_missing"),
        ({"wrong_vectors": "short"}, "vectors_length"),
        ({"wrong_vectors": "nan"}, "vectors_not_finite"),
        ({"garbage": True}, "garbage"),
        ({"drop": True}, "disconnected"),
    ],
)
async def test_what_the_twin_does_wrong_is_no_answer(
    twin: Twin, dialect: Dialect, rule: dict[str, Any], code: str
):
    await behave(twin, rule)
    with pytest.raises(ProviderError) as caught:
        await run(embedding(twin.url, dialect))
    assert caught.value.code == code


async def test_two_vectors_for_one_input_are_no_answer(twin: Twin):
    await behave(twin, {"wrong_vectors": "twice"})
    with pytest.raises(ProviderError) as caught:
        await run(embedding(twin.url))
    assert (caught.value.code, caught.value.billed) == ("vectors_twice", "yes")


async def test_an_answer_without_usage_costs_what_was_reserved(twin: Twin, dialect: Dialect):
    await behave(twin, {"no_usage": True})
    answer = await run(embedding(twin.url, dialect))
    assert (answer.usage, answer.cost_pico) == (Usage(), HIGHEST_PICO)


async def test_a_slow_call_is_cut_off_and_may_be_billed(twin: Twin, dialect: Dialect):
    await behave(twin, {"latency_ms": 5_000})
    with pytest.raises(ProviderError) as caught:
        await run(embedding(twin.url, dialect, timeout_s=0.1))
    assert (caught.value.kind, caught.value.billed) == (FailureKind.TIMEOUT, "unknown")


async def test_nothing_is_sent_once_the_lease_is_lost(twin: Twin, dialect: Dialect):
    with pytest.raises(LeaseLost):
        await run(embedding(twin.url, dialect, lease_s=-1))
    assert twin.books.calls() == []


async def test_a_call_crosses_the_same_points_as_a_streamed_one(twin: Twin, dialect: Dialect):
    crossing = BreakAt()
    await run(embedding(twin.url, dialect), crossing=crossing)
    points = ["before_connect", "after_request", "first_chunk", "middle", "after_last"]
    assert crossing.seen == [f"call:{point}" for point in points]


def test_another_model_of_the_provider_makes_vectors_of_another_space():
    one = embedding("http://provider.test")
    asked = one.call.deployment
    assert asked.embedding is not None
    limits = replace(asked.embedding, vector_space="other")
    other = replace(asked, name="twin-openai/other", model="other", embedding=limits)
    same = replace(asked, name="twin-openai/same", model="same", answers_as=("renamed",))
    one.job_run.routing = RoutingFile("1", {}, {"embed": (asked, other, same)}, {}, {}, {})
    for said in ("", "twin-embed", "same", "renamed", "nobody-knows"):
        check_model(one, Reply("", (), said, None))
    with pytest.raises(ProviderError) as caught:
        check_model(one, Reply("", (), "OTHER", Usage(input_tokens=3)))
    assert (caught.value.code, caught.value.billed) == ("vectors_of_other_model", "yes")


async def test_the_twin_refuses_what_the_providers_refuse(twin: Twin):
    refused = [
        ("/v1/embeddings", {"model": "twin-small", "input": ["a"]}, 404),
        ("/v1/embeddings", {"model": "twin-embed", "input": [""]}, 400),
        ("/v1/embeddings", {"model": "twin-embed", "input": ["a"] * 2_049}, 400),
        ("/v1/embeddings", {"model": "twin-embed", "input": ["a "] * 3, "dimensions": 257}, 400),
        ("/v1/embeddings", {"model": "twin-embed", "input": ["a " * 9_000]}, 400),
    ]
    requests = [{"model": "models/twin-embed", "content": {"parts": [{"text": "a"}]}}] * 101
    refused.append(("/v1beta/models/twin-embed:batchEmbedContents", {"requests": requests}, 400))
    async with httpx.AsyncClient(trust_env=False, base_url=twin.url) as client:
        for path, body, status in refused:
            assert (await client.post(path, json=body)).status_code == status, path
    assert [call.billed for call in twin.books.calls()] == [False] * len(refused)


def test_the_twins_vectors_are_of_unit_length_and_tell_texts_apart():
    one, other = vector("one", 64), vector("other", 64)
    assert one == vector("one", 64) != other
    assert isinstance(one, array)
    assert sum(number * number for number in one) == pytest.approx(1, abs=1e-5)
