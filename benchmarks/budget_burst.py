"""The same burst against the same limit, on Fairlane and on TensorZero: what is admitted, and what is left after it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import tensorzero_peer
from benchmarks.lane_rig import wait_for_workers
from benchmarks.money_rig import DISK, database, scratch, worker_settings
from benchmarks.rig import process, python, table, valkey
from benchmarks.throwaway import NotHere
from benchmarks.twin import Twin, open_twin
from producer_sdk import Fleet, JobHandle, JobRejected
from producer_sdk.contract import GenerationParams, Job, Message
from worker.settings import WorkerSettings

BURST, LIMIT_USD, WORST_USD, FIT = 200, 1.0, 0.05, 20
MODEL, MAX_TOKENS, ANSWER_TOKENS = "twin-large", 3_300, 1_000
# Their own estimate is half the message's length and max_tokens.
LIMIT_TOKENS = FIT * (MAX_TOKENS + 50)
SLOW_MS, SETTLED_S, WAIT_S = 4_000, 2.0, 60
ROUTING = f"""
providers:
  twin: {{dialect: openai, base_url: "http://127.0.0.1:1/v1", base_url_env: FAIRLANE_LOCAL_URL}}
aliases:
  large:
    - {{provider: twin, model: {MODEL}, context_tokens: 32000, max_output_tokens: {MAX_TOKENS},
       price: {{input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}}}}
tasks:
  answer: {{default: large, max_output_tokens: {MAX_TOKENS}}}
tiers:
  bench: {{max_output_tokens: {MAX_TOKENS}, daily_budget_usd: {LIMIT_USD}, concurrency: 1000}}
tenants:
  acme: {{tier: bench}}
"""


HEAD = ["gateway", "limit", "admitted of the burst", "their true cost, USD", "admitted one by one afterwards"]
HEAD += ["their true cost, USD", "together (≤ 1)", "note"]


@dataclass(frozen=True)
class Burst:
    """What was admitted of the burst, and one by one after it, and what the twin billed for each."""

    admitted: int
    billed_usd: float
    rest: int
    rest_billed_usd: float
    note: str = ""


def messages(what: str, count: int) -> list[str]:
    """Different ones, so that nobody takes them for the same question asked again."""
    return [f"Please write about number {number} of the {what}." for number in range(count)]


def job(message: str) -> Job:
    """A job of the tenant acme."""
    said = [Message(role="user", content=message)]
    params = GenerationParams(max_output_tokens=MAX_TOKENS)
    return Job(tenant="acme", task="answer", messages=said, params=params)


def ours(twin: Twin) -> Burst:
    """Submitted together to a worker with more slots than that."""
    with scratch(where=DISK) as folder, valkey("always") as server, database("SQLite", folder) as url:
        routing = folder / "routing.yaml"
        routing.write_text(ROUTING)
        settings = worker_settings(server, ledger_url=url, routing=routing, home=folder)
        with worker(settings, twin), Fleet(settings.fleet) as fleet:
            wait_for_workers(server, 1)
            twin.begin_anew(output_tokens=ANSWER_TOKENS, latency_ms=SLOW_MS)
            handles = fleet.submit_many([job(message) for message in messages("burst", BURST)])
            ended = Counter(outcome(handle) for handle in handles)
            billed = twin.billed_usd()
            time.sleep(SETTLED_S)
            twin.begin_anew(output_tokens=ANSWER_TOKENS)
            rest = one_by_one(fleet)
            refused = {why: count for why, count in ended.items() if why}
            note = ", ".join(f"{count} refused as {why}" for why, count in refused.items())
            return Burst(ended[""], billed, rest, twin.billed_usd(), note)


def outcome(handle: JobHandle) -> str:
    """'' for an answer, else the reason of the refusal."""
    try:
        handle.result(timeout=WAIT_S)
    except JobRejected as rejected:
        return str(rejected.error.reason) if rejected.error else "?"
    return ""


def one_by_one(fleet: Fleet) -> int:
    """How many more are admitted, until one is refused."""
    for count, message in enumerate(messages("rest", BURST)):
        if outcome(fleet.submit_many([job(message)])[0]):
            return count
    return BURST


@contextlib.contextmanager
def worker(settings: WorkerSettings, twin: Twin) -> Iterator[None]:
    """A worker process."""
    slots = str(BURST + 50)
    environ = settings.to_env() | {
        "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool",
        "FAIRLANE_LOCAL_URL": f"{twin.url}/v1",
        "FAIRLANE_SLOTS": slots,
    }
    command = python("celery", "-A", "worker.main", "worker", "--pool", "custom", "-c", slots)
    command += ["-l", "WARNING", "--without-gossip", "--without-mingle"]
    with process(command, environ, settings.home / "worker.log"):
        yield


def peer(twin: Twin, interpreter: Path, limit: str) -> Burst:
    """The same through TensorZero's gateway, over HTTP."""
    with scratch(where=DISK) as folder:
        log = folder / "gateway.log"
        config = tensorzero_peer.configuration(
            f"{twin.url}/v1", model=MODEL, limit=limit, default_cost=WORST_USD
        )
        with tensorzero_peer.gateway(interpreter, config, folder=folder, log=log) as url:
            twin.begin_anew(output_tokens=ANSWER_TOKENS, latency_ms=SLOW_MS)
            sent = tensorzero_peer.burst(url, messages("burst", BURST), max_tokens=MAX_TOKENS)
            admitted = asyncio.run(sent)
            billed = twin.billed_usd()
            time.sleep(SETTLED_S)
            twin.begin_anew(output_tokens=ANSWER_TOKENS)
            rest = asyncio.run(tensorzero_peer.rest(url, messages("rest", BURST), max_tokens=MAX_TOKENS))
            left = log.read_text(errors="replace").count(tensorzero_peer.NOT_CORRECTED)
            note = f"its log says {left} times that a cost is not corrected" if left else ""
            return Burst(admitted, billed, rest, twin.billed_usd(), note)


def peer_rows(twin: Twin) -> list[list[str]]:
    """TensorZero's rows, or why there are none."""
    try:
        with scratch(where=DISK) as folder:
            interpreter = tensorzero_peer.install(folder)
            cost = peer(twin, interpreter, f"cost_per_day = {LIMIT_USD}")
            tokens = peer(twin, interpreter, f"tokens_per_day = {LIMIT_TOKENS}")
    except NotHere as reason:
        return [["TensorZero", f"not run: {reason}", *["–"] * (len(HEAD) - 2)]]
    name = f"TensorZero {tensorzero_peer.VERSION}"
    said = f"`cost_per_day = {LIMIT_USD}`, `default_cost = {WORST_USD}`"
    return [
        cells(name, said, cost),
        cells(name, f"`tokens_per_day = {LIMIT_TOKENS}` instead", tokens),
    ]


def cells(name: str, limit: str, burst: Burst) -> list[str]:
    """One row."""
    spent = burst.billed_usd + burst.rest_billed_usd
    counts = [f"{burst.admitted}", f"{burst.billed_usd:.4f}", f"{burst.rest}", f"{burst.rest_billed_usd:.4f}"]
    return [name, limit, *counts, f"{spent:.4f}", burst.note]


def run() -> str:
    """The table: a gateway and a kind of limit a row."""
    with scratch(where=DISK) as folder, open_twin(folder) as twin:
        mine = cells("Fairlane", f"`daily_budget_usd: {LIMIT_USD}`", ours(twin))
        rows = [HEAD, mine, *peer_rows(twin)]
    title = (
        f"{BURST} calls at once against a limit that fits {FIT} at their worst case of {WORST_USD:.2f} USD"
    )
    return table(title, rows)


if __name__ == "__main__":
    print(run())
