"""A provider that is down beside one that is not, and a Retry-After of all: calls in vain, and jobs in time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import redis

from benchmarks.budget_burst import worker
from benchmarks.lane_rig import blocking, wait_for_workers
from benchmarks.money_rig import DISK, database, scratch, worker_settings
from benchmarks.rig import table, valkey
from benchmarks.twin import Twin, open_twin
from producer_sdk import Fleet
from producer_sdk.contract import Job, Message
from tests.servers import Valkey, wait_until

JOBS, WARM_UP, DEADLINE_S, LATENCY_MS = 1000, 40, 120, 10_000
PER_MIN, DRAINED, RETRY_AFTER_S = 1200, 300, 5
HEALTH = "fairlane:{health}:deployment:"
FIRST, SECOND = "twin/twin-small", "other/twin-large"
ROUTING = f"""
providers:
  twin: {{dialect: openai, base_url: "http://127.0.0.1:1/v1", base_url_env: FAIRLANE_LOCAL_URL}}
  other: {{dialect: anthropic, base_url: "http://127.0.0.1:1", base_url_env: FAIRLANE_LOCAL_URL}}
aliases:
  small:
    - {{provider: twin, model: twin-small, context_tokens: 9000, max_output_tokens: 99,
       price: {{input: 1, output: 1}}}}
  large:
    - {{provider: other, model: twin-large, context_tokens: 9000, max_output_tokens: 99,
       price: {{input: 1, output: 1}}}}
tasks:
  ask: {{default: small, fallback: large, max_latency_ms: {LATENCY_MS}}}
tiers:
  free: {{max_output_tokens: 64, concurrency: 200}}
  limited: {{max_output_tokens: 64, concurrency: 200, requests_per_min: {PER_MIN}, burst_s: 1}}
tenants: {{acme: free, globex: limited}}
"""
WAYS: dict[str, Mapping[str, object]] = {
    "503": {"status": 503},
    "429 without Retry-After": {"status": 429},
    "500 after 300 ms": {"status": 500, "latency_ms": 300},
    "the connection is cut": {"drop": True},
    "hangs": {"hang": True},
}


@dataclass(frozen=True)
class Bench:
    """A fleet of one worker, and its provider."""

    server: Valkey
    client: redis.Redis
    twin: Twin
    fleet: Fleet

    def run(self, count: int, tenant: str, what: str) -> tuple[int, int]:
        """So many jobs to their end: how many were answered in their time, and the longest latency in ms."""
        deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_S)
        texts = [f"Where is {what} number {number}?" for number in range(count)]
        messages = [[Message(role="user", content=text)] for text in texts]
        asked = [Job(tenant=tenant, task="ask", messages=one, deadline=deadline) for one in messages]
        ends = [handle.wait(DEADLINE_S) for handle in self.fleet.submit_many(asked)]
        answered = [end for end in ends if end.status == "succeeded"]
        return len(answered), max(end.latency_ms for end in ends)

    def is_open(self) -> bool:
        """Whether the first one's breaker is open."""
        return bool(self.client.hexists(HEALTH + FIRST, "open_until"))

    def cool_until(self) -> list[int]:
        """Until when (ms) each cools down."""
        found = [self.client.hget(HEALTH + name, "cool_until") for name in (FIRST, SECOND)]
        return [int(until) for until in found if until]


@contextmanager
def bench() -> Iterator[Bench]:
    """All of it, new."""
    with (
        scratch(where=DISK) as folder,
        valkey("everysec") as server,
        open_twin(folder) as twin,
        database("SQLite", folder) as url,
    ):
        routing = folder / "routing.yaml"
        routing.write_text(ROUTING)
        settings = worker_settings(server, ledger_url=url, routing=routing, home=folder)
        with worker(settings, twin), Fleet(settings.fleet) as fleet, blocking(server) as client:
            wait_for_workers(server, 1)
            yield Bench(server, client, twin, fleet)


def down(way: Mapping[str, object]) -> list[str]:
    """A provider that fails in this way: cells."""
    with bench() as one:
        one.twin.misbehave({"match": {"model": "twin-small"}, **way})
        one.run(WARM_UP, "acme", "parcel")
        before = len(one.twin.calls())
        began = time.monotonic()
        answered, latency_ms = one.run(JOBS, "acme", "letter")
        took_s = time.monotonic() - began
        calls = one.twin.calls()[before:]
    in_vain = sum(call["model"] == "twin-small" for call in calls)
    return [f"{in_vain}", f"{len(calls) / JOBS:.3f}", f"{answered}", f"{latency_ms}", f"{took_s:.1f}"]


def drain() -> list[str]:
    """Every deployment says 429 with a Retry-After once; then all is well: cells."""
    with bench() as one:
        one.twin.misbehave({"status": 429, "retry_after": RETRY_AFTER_S})
        deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_S)
        texts = [f"Where is card number {number}?" for number in range(DRAINED)]
        messages = [[Message(role="user", content=text)] for text in texts]
        handles = one.fleet.submit_many(
            [Job(tenant="globex", task="ask", messages=said, deadline=deadline) for said in messages]
        )
        wait_until(lambda: len(one.cool_until()) == 2, what="both cool-downs")
        time.sleep(0.5)
        over_s = min(one.cool_until()) / 1000
        one.twin.misbehave()
        ends = [handle.wait(DEADLINE_S) for handle in handles]
        served = [float(str(call["started"])) for call in one.twin.calls() if call["status"] == 200]
    failed = sum(end.status != "succeeded" for end in ends)
    allowed = PER_MIN / 60 * (max(served) - over_s)
    return [f"{len(served)}", f"{min(served) - over_s:+.2f}", f"{len(served) / allowed:.2f}", f"{failed}"]


def run() -> str:
    """Two tables."""
    head = ["the provider", "calls of it in vain", "calls ÷ jobs (≤ 1.05)", f"answered (of {JOBS})"]
    rows = [[*head, f"longest latency, ms (≤ {LATENCY_MS})", "s"]]
    rows += [[name, *down(way)] for name, way in WAYS.items()]
    first = table(f"A provider is down, with a fallback: {JOBS} jobs after {WARM_UP} others", rows)
    head = [
        "calls answered",
        "first one after the Retry-After, s",
        "÷ what is allowed (≥ 0.95)",
        "jobs failed (0)",
    ]
    title = (
        f"{DRAINED} jobs after 429 with Retry-After {RETRY_AFTER_S} s of every deployment, {PER_MIN} a minute"
    )
    return first + "\n" + table(title, [head, drain()])


if __name__ == "__main__":
    print(run())
