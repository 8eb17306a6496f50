"""InputBounds: each deployment by its own format, once a format, and the loop goes on while a long text is counted."""

from __future__ import annotations

import asyncio
import threading

from producer_sdk.contract import GenerationParams, Message, Tool
from tests.worker.job_runs import deployment, job_of, run_of
from worker.routing.bounds import LARGE_CHARACTERS, InputBounds
from worker.routing_file import Provider

AT_OPENAI = Provider("openai", "openai", "https://api.openai.com/v1")
MINI, NANO = deployment("gpt-5-mini", provider=AT_OPENAI), deployment("gpt-5-nano", provider=AT_OPENAI)
QWEN, ANY = deployment("qwen3-8b"), deployment("any")


class Counting:
    """Ten tokens for any text; keeps the texts, and the threads that asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, text: str) -> int:
        self.texts.append(text)
        self.threads.add(threading.get_ident())
        return 10


async def test_each_deployment_is_counted_by_its_vocabulary_and_each_format_once():
    o200k, qwen3 = Counting(), Counting()
    bounds = InputBounds({"o200k": o200k, "qwen3": qwen3})
    found = await bounds.of(run_of(job_of("hello")), [MINI, NANO, QWEN, ANY])
    assert {name: bound.highest for name, bound in found.items()} == {
        "openai/gpt-5-mini": 10 + 5 + 4,
        "openai/gpt-5-nano": 10 + 5 + 4,
        "local/qwen3-8b": 10 + 3 + 7,
        "local/any": 5 + 16 + 64,
    }
    assert (o200k.texts, qwen3.texts) == (["hello"] * 2, ["hello", "user\nhello"])


async def test_without_its_vocabulary_a_deployment_is_bounded_by_bytes_and_its_templates_prompt():
    found = await InputBounds({}).of(run_of(job_of("hello")), [MINI, deployment("qwen2.5-7b"), ANY])
    assert {bound.highest for bound in found.values()} == {5 + 16 + 64}


async def test_nothing_to_bound_is_no_work():
    assert await InputBounds({}).of(run_of(), []) == {}


async def test_long_texts_and_large_tools_are_counted_in_a_thread():
    here = threading.get_ident()
    big = {"type": "object", "description": "x" * LARGE_CHARACTERS}
    call = {"id": "c", "name": "f", "arguments": {"q": "x" * LARGE_CHARACTERS}}
    called = [Message(role="assistant", tool_calls=[call])]
    for job, elsewhere in (
        (job_of("x" * LARGE_CHARACTERS), False),
        (job_of("x" * (LARGE_CHARACTERS + 1)), True),
        (job_of(params=GenerationParams(tools=[Tool(name="f", parameters=big)])), True),
        (job_of(params=GenerationParams(response_schema=big)), True),
        (job_of(messages=called), True),
    ):
        count = Counting()
        await InputBounds({"o200k": count}).of(run_of(job), [MINI])
        assert (count.threads != {here}) == elsewhere


async def test_the_loop_goes_on_while_a_text_is_counted():
    started, may_end = threading.Event(), threading.Event()

    def count(_text: str) -> int:
        started.set()
        assert may_end.wait(10)
        return 1

    counting = asyncio.create_task(
        InputBounds({"o200k": count}).of(run_of(job_of("x" * (LARGE_CHARACTERS + 1))), [MINI])
    )
    async with asyncio.timeout(10):
        while not started.is_set():
            await asyncio.sleep(0.001)
        assert not counting.done()
        may_end.set()
        assert (await counting)["openai/gpt-5-mini"].highest == 1 + 5 + 4
