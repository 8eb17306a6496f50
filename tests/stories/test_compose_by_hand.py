"""docker-compose.yml's commands as plain processes, on a real PostgreSQL and a real Valkey: jobs go through."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from producer_sdk import Fleet
from producer_sdk.settings import FleetSettings
from tests.servers import Postgres, Valkey, wait_until
from worker.embedded.demo.twin_books import read_twin_books
from worker.embedded.ports import free_port
from worker.embedded.processes import Child
from worker.ledger.ledger import AttemptLine, Ledger

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


class ByHand:
    """The services of ours, each started with compose's own words."""

    def __init__(self, folder: Path, *, broker_url: str, ledger_url: str) -> None:
        self.folder = folder
        self.twin_url = f"http://127.0.0.1:{free_port()}"
        self.flower_port = free_port()
        told = dict.fromkeys(COMPOSE["services"]["worker"]["environment"], "")
        self.env = (
            os.environ
            | told
            | {
                "FAIRLANE_HOME": str(folder),
                "FAIRLANE_BROKER_URL": broker_url,
                "FAIRLANE_LEDGER_URL": ledger_url,
                "FAIRLANE_ROUTING": str(ROOT / "routing.yaml"),
                "FAIRLANE_LOCAL_URL": self.twin_url,
                "FAIRLANE_SLOTS": "20",
            }
        )
        self.ledger_url, self.broker_url = ledger_url, broker_url

    def argv(self, words: list[str]) -> list[str]:
        assert words[0] == "fairlane"
        swapped = [str(self.flower_port) if word == "5555" else word for word in words[1:]]
        return [sys.executable, "-m", "worker.cli", *swapped]

    def finishes(self, words: list[str]) -> None:
        ran = subprocess.run(
            self.argv(words), env=self.env, capture_output=True, text=True, timeout=90, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def child(self, name: str, words: list[str]) -> Child:
        one = Child(name, self.argv(words), env=self.env, log=self.folder / f"{name}.log", grace_s=45)
        one.start()
        return one


@pytest.fixture
def by_hand(own_valkey: Valkey, postgres: Postgres, tmp_path: Path) -> Iterator[ByHand]:
    services = COMPOSE["services"]
    hand = ByHand(tmp_path, broker_url=own_valkey.broker_url, ledger_url=postgres.new_database())
    hand.finishes(services["migrate"]["command"])
    with ExitStack() as stack:  # every child is waited for, and killed if it does not end
        twin = ["fairlane", "twin", "--port", hand.twin_url.rpartition(":")[2]]
        replicas = services["worker"]["deploy"]["replicas"]
        commands = {"twin": twin, "flower": services["flower"]["command"]}
        commands |= {f"worker-{number}": services["worker"]["command"] for number in range(replicas)}
        children = []
        for name, words in commands.items():
            children.append(hand.child(name, words))
            stack.callback(children[-1].wait_for_end)
        yield hand
        for one in reversed(children):
            one.ask_to_end()


def test_jobs_go_through_and_every_health_check_passes(by_hand: ByHand) -> None:
    with Fleet(FleetSettings(broker_url=by_hand.broker_url)) as fleet:
        jobs = [
            {"tenant": "acme", "task": "classify_intent", "messages": f"Where is parcel {number}?"}
            for number in range(20)
        ]
        results = [handle.wait(timeout=60) for handle in fleet.submit_many(jobs)]
    assert {result.status for result in results} == {"succeeded"}
    lines = {line.id: line.cost_pico for line in asyncio.run(attempt_lines(by_hand.ledger_url))}
    assert lines == {attempt: line.cost_pico for attempt, line in read_twin_books(by_hand.twin_url).items()}
    assert len(lines) == 20
    by_hand.finishes(COMPOSE["services"]["worker"]["healthcheck"]["test"][1:])
    check = COMPOSE["services"]["flower"]["healthcheck"]["test"][3].replace("5555", str(by_hand.flower_port))
    wait_until(
        lambda: subprocess.run([sys.executable, "-c", check], check=False, timeout=20).returncode == 0,
        what="Flower",
    )


async def attempt_lines(url: str) -> list[AttemptLine]:
    ledger = Ledger(url)
    ledger.start()
    try:
        return await ledger.attempt_lines()
    finally:
        await ledger.close()
