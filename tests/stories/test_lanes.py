"""What lanes are for: who waits for whom when there are more jobs than slots, and what a dying worker costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from producer_sdk import Fleet
from producer_sdk.handle import JobHandle
from tests.servers import wait_until
from tests.stories.conftest import ROOT, home_settings
from worker.cli.fleet_commands import fleet_commands
from worker.embedded.demo.play import key_names
from worker.embedded.fleet import EmbeddedFleet, FleetShape

SLOTS = 4
ANSWER_MS = 60
SLOW = "[a slow one]"
TENANTS = {
    "quiet": {"tier": "pro"},
    "noisy": {"tier": "pro"},
    "throttled": {"tier": "pro", "requests_per_min": 6, "burst_s": 2},
    "light": {"tier": "pro", "weight": 1},
    "heavy": {"tier": "pro", "weight": 3},
    "shallow": {"tier": "pro", "max_pending": 2},
}


@pytest.fixture(scope="module")
def limited() -> Iterator[EmbeddedFleet]:
    """One worker with four slots, tenants with limits, and a provider that takes its time."""
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        home = Path(folder)
        routing = yaml.safe_load((ROOT / "routing.yaml").read_text())
        routing["tenants"] = TENANTS
        routing["tasks"]["classify_intent"] |= {"cache_ttl_s": 0, "max_latency_ms": 60_000}
        (home / "routing.yaml").write_text(yaml.safe_dump(routing))
        settings = replace(home_settings(home), routing_path=home / "routing.yaml", slots=SLOTS)
        shape = FleetShape(workers=1, flower_port=None, with_twin=True, hidden=key_names(settings))
        with EmbeddedFleet(settings, commands=fleet_commands(), shape=shape) as fleet:
            rules = [{"match": {"contains": SLOW}, "latency_ms": 3000}, {"latency_ms": ANSWER_MS}]
            post(f"{fleet.settings.local_url}/twin/behave", rules)
            with Fleet(fleet.settings.fleet) as producer:  # an answer means the worker has told the limits
                [job] = submit(producer, "quiet", 1)
                job.result(timeout=60)
            yield fleet


@pytest.fixture
def fleet(limited: EmbeddedFleet) -> Iterator[Fleet]:
    with Fleet(limited.settings.fleet) as producer:
        yield producer


def post(url: str, value: Any) -> None:
    request = urllib.request.Request(url, json.dumps(value).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10):
        pass


def submit(fleet: Fleet, tenant: str, number: int, *, text: str = "Where is my parcel?") -> list[JobHandle]:
    jobs = [
        {"tenant": tenant, "task": "classify_intent", "messages": f"{text} {time.time_ns()} {n}"}
        for n in range(number)
    ]
    return fleet.submit_many(jobs)


def fairlane(limited: EmbeddedFleet, *words: str) -> dict[str, Any]:
    environment = os.environ | {"FAIRLANE_HOME": str(limited.home.path)}
    command = [sys.executable, "-m", "worker.cli", *words, "--json"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


def queue_of(limited: EmbeddedFleet, tenant: str) -> dict[str, Any]:
    queues = fairlane(limited, "lanes")["queues"]
    return next(one for one in queues if (one["tenant"], one["lane"]) == (tenant, "interactive"))


def test_a_quiet_tenant_is_not_kept_waiting(fleet: Fleet) -> None:
    flood = submit(fleet, "noisy", 300)
    wait_until(lambda: flood[SLOTS].status() == "succeeded", what="the flood under way")
    [job] = submit(fleet, "quiet", 1)
    job.result(timeout=30)
    answered = sum(handle.status() == "succeeded" for handle in flood)
    assert answered < 100, "it did not wait for the other's three hundred"
    for handle in flood:
        handle.cancel()
    for handle in flood:
        handle.wait(30)


def test_a_throttled_tenant_takes_no_slot(limited: EmbeddedFleet, fleet: Fleet) -> None:
    waiting = submit(fleet, "throttled", 10)
    waiting[0].result(timeout=30)

    def is_throttled() -> dict[str, Any] | None:
        queue = queue_of(limited, "throttled")
        return queue if queue["throttled_by"] and not queue["running"] else None

    queue = wait_until(is_throttled, what="a tenant whose allowance is used up")
    assert queue["throttled_by"] == "requests_per_min"
    assert queue["pending"] >= 8
    others = submit(fleet, "quiet", 3 * SLOTS)
    assert len(list(fleet.as_completed(others, timeout=30))) == 3 * SLOTS
    assert queue_of(limited, "throttled")["pending"] >= 6
    for handle in waiting:
        handle.cancel()


def test_weights_share_by_tokens(fleet: Fleet) -> None:
    both = [handle for tenant in ("light", "heavy") for handle in submit(fleet, tenant, 120)]
    tenant_of = {handle.job_id: ("light", "heavy")[at // 120] for at, handle in enumerate(both)}
    first = [handle for handle, _ in zip(fleet.as_completed(both, timeout=60), range(100), strict=False)]
    served = Counter(tenant_of[handle.job_id] for handle in first)
    assert 2 <= served["heavy"] / served["light"] <= 4
    for handle in both:
        handle.cancel()
    for handle in both:
        handle.wait(30)


def test_a_tenants_full_queue_is_refused_and_says_how_deep_it_is(fleet: Fleet) -> None:
    handles = submit(fleet, "shallow", 30)
    refused = [handle.error for handle in handles if handle.error]
    assert len(refused) >= 30 - 2 - 2 * SLOTS
    assert {error.code for error in refused} == {"queue_full"}
    assert "its cap is 2" in refused[0].message


def test_a_paused_tenants_jobs_wait_until_it_is_resumed(limited: EmbeddedFleet, fleet: Fleet) -> None:
    fairlane(limited, "lanes", "pause", "quiet", "--for", "10m", "--reason", "a test")
    [job] = submit(fleet, "quiet", 1)
    [other] = submit(fleet, "noisy", 1)
    other.result(timeout=30)
    assert job.status() == "pending"
    assert queue_of(limited, "quiet")["paused_for"] == "a test"
    assert fairlane(limited, "lanes", "resume", "quiet")["was_paused"]
    assert job.result(timeout=30).status == "succeeded"


def test_a_killed_workers_job_comes_back(limited: EmbeddedFleet, fleet: Fleet) -> None:
    [job] = submit(fleet, "quiet", 1, text=SLOW)
    wait_until(lambda: job.status() == "running", what="the job in a worker's hands")
    processes = json.loads((limited.home.path / "processes.json").read_text())
    [worker] = [int(pid) for pid, command in processes.items() if "worker.main worker" in command]
    os.kill(worker, signal.SIGKILL)
    assert job.result(timeout=60).status == "succeeded"
