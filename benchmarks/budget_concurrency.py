"""A window after 10,000 attempts of random cost by four processes, with a limit that fits a third of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import redis.asyncio

from benchmarks.budget_worker import JOBS_A_ROUND, SLOTS, sizes
from benchmarks.lane_rig import lane_valkey
from benchmarks.money_rig import Kind, database, scratch, worker_settings
from benchmarks.rig import ROUTING, python, table
from producer_sdk.contract import usd_text
from tests.servers import Valkey
from worker.budget import rules
from worker.budget.store import BudgetStore
from worker.ledger.ledger import Ledger
from worker.routing_load import load
from worker.settings import WorkerSettings

PROCESSES, ROUNDS, LOOK_EVERY_S = 4, 10, 0.2
ATTEMPTS = PROCESSES * ROUNDS * JOBS_A_ROUND
PATIENCE_S = 120


def demand_pico() -> int:
    """What all of them would cost."""
    return sum(
        size.cost_pico for n in range(PROCESSES) for number in range(ROUNDS) for size in sizes(n, number)
    )


def write_limited(folder: Path, limit_pico: int) -> Path:
    """The benchmarks' routing.yaml with a month's budget for its tenants."""
    path = folder / "routing.yaml"
    budget = f"max_output_tokens: 8192, monthly_budget_usd: {usd_text(limit_pico)}"
    whole = ROUTING.replace("max_output_tokens: 1024, daily_budget_usd: 1000000", budget)
    path.write_text(whole.replace("max_output_tokens: 4096", "max_output_tokens: 8192"))
    return path


@dataclass
class Books:
    """The ledger and Redis, as this process sees them."""

    ledger: Ledger
    store: BudgetStore
    window: str
    most_pico: int = 0

    async def sql(self) -> tuple[int, int]:
        """Settled and uncertain, and in flight at its worst case: SQL's count of the window."""
        sums = await self.ledger.window_sums(since=datetime.now(UTC) - timedelta(days=2))
        held = sum(hold.worst_pico for hold in sums.holds if self.window in hold.windows)
        return sums.settled.get(self.window, 0), held

    async def look(self, limit_pico: int) -> None:
        """SQL's and Redis' counts never pass the limit."""
        counts = [sum(await self.sql()), sum(await self.store.window(self.window))]
        self.most_pico = max(self.most_pico, *counts)
        assert self.most_pico <= limit_pico, (counts, limit_pico)


@contextlib.asynccontextmanager
async def opened(server: Valkey, settings: WorkerSettings) -> AsyncIterator[Books]:
    """Both, for looking at."""
    tenant = load(settings.routing_path).tenants["acme"]
    (window,) = rules.windows(tenant, datetime.now(UTC))
    client, ledger = redis.asyncio.Redis(unix_socket_path=str(server.socket)), Ledger(settings.ledger_url)
    ledger.start()
    try:
        yield Books(ledger, BudgetStore(client), window.name)
    finally:
        await ledger.close()
        await client.aclose()


@contextlib.contextmanager
def workers(settings: WorkerSettings) -> Iterator[list[subprocess.Popen[bytes]]]:
    """PROCESSES of `budget_worker`."""
    with contextlib.ExitStack() as stack, (settings.home / "workers.log").open("ab") as log:
        children = []
        for number in range(PROCESSES):
            child = subprocess.Popen(
                python("benchmarks.budget_worker", str(number)),
                env=settings.to_env(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            stack.callback(child.wait, 20)
            stack.callback(child.kill)
            children.append(child)
        yield children


async def answers(children: list[subprocess.Popen[bytes]]) -> list[Any]:
    """The next line of each."""
    reads = [asyncio.to_thread(child.stdout.readline) for child in children if child.stdout]
    return [json.loads(line) for line in await asyncio.wait_for(asyncio.gather(*reads), PATIENCE_S)]


@dataclass
class Played:
    """What became of the attempts."""

    outcomes: Counter[str] = field(default_factory=Counter)
    billed_pico: int = 0
    most_pico: int = 0
    sql_pico: int = 0
    redis_pico: int = 0
    seconds: float = 0.0


async def play(server: Valkey, settings: WorkerSettings, limit_pico: int) -> Played:
    """Every round; the counts are looked at all the while, and after each round, when nothing is in flight."""
    played = Played()
    async with opened(server, settings) as books:
        with workers(settings) as children:
            assert await answers(children) == ["ready"] * PROCESSES
            began = time.perf_counter()
            for number in range(ROUNDS):
                for child in children:
                    assert child.stdin
                    child.stdin.write(b"%d\n" % number)
                    child.stdin.flush()
                answering = asyncio.ensure_future(answers(children))
                while not answering.done():
                    await books.look(limit_pico)
                    await asyncio.wait({answering}, timeout=LOOK_EVERY_S)
                told = answering.result()
                for outcomes, _billed in told:
                    played.outcomes.update(outcomes)
                played.billed_pico = sum(billed for _outcomes, billed in told)
                await books.look(limit_pico)
                played.sql_pico, in_flight = await books.sql()
                played.redis_pico, held = await books.store.window(books.window)
                assert (in_flight, held) == (0, 0)
            played.seconds = time.perf_counter() - began
        played.most_pico = books.most_pico
    assert played.sql_pico == played.redis_pico == played.billed_pico, played
    return played


def row(kind: Kind, server: Valkey, demand: int) -> list[str]:
    """A ledger's row."""
    limit = demand // 3
    with scratch() as folder, database(kind, folder, fsync=False) as url:
        settings = worker_settings(server, ledger_url=url, routing=write_limited(folder, limit), home=folder)
        played = asyncio.run(play(server, settings, limit))
    ended = played.outcomes
    assert ended.total() == ATTEMPTS, ended
    refused = {name: ended[f"budget_exceeded: {name}"] for name in ("in_flight", "window_spent")}
    others = ATTEMPTS - ended["succeeded"] - sum(refused.values())
    amounts = [limit, played.most_pico, played.sql_pico, played.redis_pico, played.billed_pico]
    counts = [ended["succeeded"], *refused.values(), others]
    return [
        kind,
        *(f"{count:,}" for count in counts),
        *(f"{pico / 1e12:.6f}" for pico in amounts),
        f"{played.sql_pico / limit:.3%}",
        f"{ATTEMPTS / played.seconds:,.0f}",
    ]


def run() -> str:
    """The table, a ledger a row."""
    head = ["ledger", "admitted", "refused: in flight", "refused: spent", "anything else (0)", "limit, USD"]
    head += ["most counted at any look (≤ limit)", "SQL at the end", "Redis", "provider's bill"]
    head += ["used (≥ 97 %)", "attempts/s"]
    rows, demand = [head], demand_pico()
    kinds: tuple[Kind, ...] = ("PostgreSQL", "SQLite")
    for kind in kinds:
        with lane_valkey() as server:
            rows.append(row(kind, server, demand))
    title = f"{ATTEMPTS:,} attempts of random cost by {PROCESSES} processes of {SLOTS} slots"
    return table(f"{title}, all together {demand / 1e12:.6f} USD", rows)


if __name__ == "__main__":
    print(run())
