"""CallProvider against llmock, a server that nobody here wrote, in a throwaway environment: every wire, every fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.llmock_server import Llmock, llmock
from benchmarks.throwaway import NotHere
from tests.worker.providers.attempts import attempt, run
from worker.errors import FailureKind, ProviderError
from worker.routing_file import Dialect

WIRES: list[tuple[Dialect, str]] = [
    ("openai", "/v1"),
    ("anthropic", "/anthropic"),
    ("gemini", "/gemini"),
    ("openai", "/groq/openai/v1"),
    ("openai", "/together/v1"),
    ("openai", "/mistral/v1"),
    ("openai", "/xai/v1"),
]


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llmock]:
    """A server without faults but those that a test asks for."""
    try:
        with llmock(tmp_path_factory.mktemp("llmock"), []) as server:
            yield server
    except NotHere as reason:
        pytest.skip(str(reason))


async def failure(upstream: Llmock, dialect: Dialect, path: str, *faults: dict[str, Any]) -> ProviderError:
    upstream.script(*faults)
    with pytest.raises(ProviderError) as caught:
        await run(attempt(f"{upstream.url}{path}", dialect, timeout_s=3))
    return caught.value


@pytest.mark.parametrize(("dialect", "path"), WIRES)
async def test_an_answer_is_read_whole_with_its_usage(upstream: Llmock, dialect: Dialect, path: str):
    answer = await run(attempt(f"{upstream.url}{path}", dialect))
    assert answer.text
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@pytest.mark.parametrize(("dialect", "path"), WIRES[:3])
async def test_a_tool_call_is_read(upstream: Llmock, dialect: Dialect, path: str):
    tool = {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    answer = await run(attempt(f"{upstream.url}{path}", dialect, messages="Weather in Bern?", tools=[tool]))
    assert [call.name for call in answer.tool_calls] == ["get_weather"]


STATUSES = [
    (429, FailureKind.RATE_LIMITED, 2.5),
    (503, FailureKind.OVERLOADED, 2.5),
    (529, FailureKind.OVERLOADED, 2.5),
    (500, FailureKind.SERVER_ERROR, None),
    (400, FailureKind.INVALID_REQUEST, None),
    (401, FailureKind.AUTH, None),
    (402, FailureKind.QUOTA_EXHAUSTED, None),
    (403, FailureKind.AUTH, None),
    (404, FailureKind.INVALID_REQUEST, None),
    (413, FailureKind.CONTEXT_TOO_LONG, None),
]


@pytest.mark.parametrize(("dialect", "path"), WIRES)
@pytest.mark.parametrize(("status", "kind", "wait_s"), STATUSES)
async def test_a_status_means_the_same_in_every_providers_own_words(
    upstream: Llmock, dialect: Dialect, path: str, status: int, kind: FailureKind, wait_s: float | None
):
    fault = {"type": "fail", "status": status} | ({"retry_after": wait_s} if wait_s else {})
    error = await failure(upstream, dialect, path, fault)
    assert (error.kind, error.billed, error.retry_after_s) == (kind, "no", wait_s)


@pytest.mark.parametrize(("dialect", "path"), WIRES[:3])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("truncate", FailureKind.STREAM_BROKEN),
        ("disconnect", FailureKind.STREAM_BROKEN),
        ("malformed", FailureKind.STREAM_BROKEN),
        ("stall", FailureKind.TIMEOUT),
    ],
)
async def test_a_stream_that_breaks_is_never_an_answer(
    upstream: Llmock, dialect: Dialect, path: str, fault: str, kind: FailureKind
):
    broken = {"type": "stream_fault", "kind": fault, "after_chunks": 2, "stall_seconds": 20}
    error = await failure(upstream, dialect, path, broken)
    assert (error.kind, error.billed) == (kind, "unknown")
