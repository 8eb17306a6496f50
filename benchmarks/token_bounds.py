"""How tight the bound on input tokens is: on real texts, against what tokenizers and a real model make of the request.

`python -m benchmarks.token_bounds MODEL.gguf` also asks a model on llama.cpp (the extra `local`) for its own
`usage.prompt_tokens`.
"""

from __future__ import annotations

import asyncio
import csv
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.rig import table
from producer_sdk.contract import Document, GenerationParams, Job, Tool
from tests.worker.job_runs import deployment, job_of, run_of
from tests.worker.routing import chat_truth
from worker.job_run import JobRun
from worker.routing import vocabularies
from worker.routing.bounds import InputBounds
from worker.routing_file import Deployment, Provider
from worker.safety.fence import fenced_messages

TEXTS = Path(__file__).resolve().parents[2] / "shared" / "data"
DOCUMENTS, MOST_OVER = 3, 30
ASKED = {"intents": 40, "questions with documents": 4, "texts with and without injection": 16}  # of the model
MOST_CHARACTERS = 6_000  # of a request to the model, whose prompt is read at some 100 tokens a second
AT_OPENAI = Provider("openai", "openai", "https://api.openai.com/v1")
SERVED = deployment("smollm2", provider=Provider("local", "openai", "http://127.0.0.1"))
Truth = Callable[[dict[str, Any]], int]
CITY = {"type": "string", "description": "The city where the card was used, as the customer writes it."}
TOOLS = [
    Tool(
        name="find_payment",
        description="Find a card payment of the customer by its amount, and by where and when it was made.",
        parameters={
            "type": "object",
            "properties": {
                "amount": {"type": "number", "description": "The amount, in the currency of the account."},
                "city": CITY,
                "kind": {
                    "type": "string",
                    "enum": ["card", "transfer", "cash"],
                    "description": "How it was paid.",
                },
            },
            "required": ["amount"],
        },
    ),
    Tool(
        name="block_card",
        description="Block the card at once.",
        parameters={"type": "object", "properties": {}},
    ),
]


def families() -> list[tuple[str, Deployment, Truth]]:
    """A model of each format whose tokenizer runs here, and what its requests really take."""
    o200k, cl100k, qwen3 = (chat_truth.reference(name) for name in ("o200k", "cl100k", "qwen3"))
    return [
        (
            "o200k, OpenAI",
            deployment("gpt-5-mini", provider=AT_OPENAI),
            lambda body: chat_truth.openai_tokens(body, o200k),
        ),
        (
            "cl100k, OpenAI",
            deployment("gpt-4", provider=AT_OPENAI),
            lambda body: chat_truth.openai_tokens(body, cl100k, function=10),
        ),
        ("qwen3, Qwen3's template", deployment("qwen3-8b"), lambda body: chat_truth.qwen_tokens(body, qwen3)),
    ]


def corpora() -> dict[str, list[JobRun]]:
    """The real texts, each as a job after its screening."""
    with (TEXTS / "banking77" / "test.csv").open(encoding="utf-8", newline="") as file:
        intents = [row["text"] for row in csv.DictReader(file)]
    documents = [
        Document(id=row["id"], title=row["title"], text=row["text"])
        for row in _lines(TEXTS / "celery_docs" / "documents.jsonl")
    ]
    questions = [row["question"] for row in _lines(TEXTS / "celery_docs" / "questions.jsonl")]
    asked = [
        job_of(questions[at % len(questions)], documents=documents[at : at + DOCUMENTS])
        for at in range(len(documents) - DOCUMENTS + 1)
    ]
    texts = [row["text"] for row in _lines(TEXTS / "injection" / "dev.jsonl")]
    armed = GenerationParams(tools=TOOLS)
    jobs: dict[str, list[Job]] = {
        "intents": [job_of(text) for text in intents],
        "questions with documents": asked,
        "texts with and without injection": [job_of(text) for text in texts if text],
        "intents, tools": [job_of(text, params=armed) for text in intents],
    }
    return {name: [_screened(job) for job in of_one] for name, of_one in jobs.items()}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _screened(job: Job) -> JobRun:
    return run_of(job, messages=fenced_messages(job.messages, job.documents, key=b"benchmark"))


async def bounds_of(runs: Sequence[JobRun], model: Deployment, *, by_bytes: bool = False) -> list[int]:
    """What a call of each is reserved for."""
    bounds = InputBounds({} if by_bytes else vocabularies.load([model]))
    return [(await bounds.of(job_run, [model]))[model.name].highest for job_run in runs]


def row(name: str, corpus: str, bounds: Sequence[int], truths: Sequence[int]) -> list[str]:
    """How often the bound is below the truth, and how far above it."""
    over = [100 * (bound / truth - 1) for bound, truth in zip(bounds, truths, strict=True)]
    below = sum(bound < truth for bound, truth in zip(bounds, truths, strict=True))
    p95 = statistics.quantiles(over, n=20)[-1]
    texts = [f"{statistics.median(truths):,.0f}", f"{statistics.median(over):.1f} %", f"{p95:.1f} %"]
    return [name, corpus, f"{len(bounds):,}", str(below), *texts]


def rows() -> Iterator[list[str]]:
    """Each family with its own vocabulary, then the same requests bounded by their bytes."""
    found = corpora()
    for name, model, truth in families():
        truths = {c: [truth(chat_truth.body_of(r, model)) for r in runs] for c, runs in found.items()}
        for corpus, runs in found.items():
            yield row(name, corpus, asyncio.run(bounds_of(runs, model)), truths[corpus])
        for corpus, runs in found.items():
            by_bytes = asyncio.run(bounds_of(runs, model, by_bytes=True))
            yield row(f"bytes ({name})", corpus, by_bytes, truths[corpus])


def asked_rows(path: Path) -> Iterator[list[str]]:
    """What a real model says that it read of a sample of the requests."""
    random.seed(77)
    with server(path) as client:
        found = corpora()
        for corpus, size in ASKED.items():
            short = [
                r for r in found[corpus] if sum(len(message.text) for message in r.messages) < MOST_CHARACTERS
            ]
            sample = random.sample(short, size)
            truths = [prompt_tokens(client, chat_truth.body_of(job_run, SERVED)) for job_run in sample]
            yield row("bytes (SmolLM2, llama.cpp)", corpus, asyncio.run(bounds_of(sample, SERVED)), truths)


def prompt_tokens(client: httpx.Client, body: dict[str, Any]) -> int:
    """The model's own count of the request; one token of an answer is enough."""
    changed = {**body, "stream": False, "max_tokens": 1}
    del changed["stream_options"]
    reply = client.post("/v1/chat/completions", json=changed).raise_for_status().json()
    return int(reply["usage"]["prompt_tokens"])


@contextmanager
def server(path: Path) -> Iterator[httpx.Client]:
    """llama.cpp's server in this process."""
    import xllamacpp  # noqa: PLC0415 - needed by this part alone

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(path), 8192, 1
    params.hostnames, params.port, params.cpuparams.n_threads = ["127.0.0.1"], 0, 1
    running = xllamacpp.Server(params)
    with httpx.Client(base_url=running.listening_address, timeout=300) as client:
        yield client


def microseconds() -> Iterator[list[str]]:
    """The time that a bound takes, once its vocabulary is loaded."""
    intents = corpora()["intents"]
    for name, model, _truth in families():
        bounds = InputBounds(vocabularies.load([model]))
        for by, counting in ((name, bounds), ("bytes", InputBounds({}))):
            began = time.perf_counter()
            asyncio.run(_all(counting, intents, model))
            yield [by, f"{1e6 * (time.perf_counter() - began) / len(intents):.0f}"]


async def _all(bounds: InputBounds, runs: Sequence[JobRun], model: Deployment) -> None:
    for job_run in runs:
        await bounds.of(job_run, [model])


def run(model: Path | None = None) -> str:
    """The tables: the truth is the baseline."""
    if not TEXTS.is_dir():
        return f"Bound on input tokens: not run, there are no texts at {TEXTS}\n"
    head = ["counted by", "requests", "how many", "below the truth (0)", "truth, median"]
    head += [f"over it, median (≤ {MOST_OVER} % for texts by vocabulary)", "p95"]
    found = [head, *rows(), *(asked_rows(model) if model else ())]
    times = [["counted by", "µs a request"], *microseconds()]
    return table("Bound on input tokens", found) + "\n" + table("Time of a bound for an intent", times)


if __name__ == "__main__":
    print(run(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
