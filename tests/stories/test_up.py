"""`fairlane up`: one command, a whole fleet; it is ended by a signal and leaves nothing running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult

from tests.servers import wait_until

FAIRLANE = [sys.executable, "-m", "worker.cli"]


class Up:
    """A running `fairlane up` on a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        inherited = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        self.env = {
            **inherited,
            "FAIRLANE_HOME": str(home),
            "FLOWER_UNAUTHENTICATED_API": "true",
            "FAIRLANE_LEASE_S": "3",
            "FAIRLANE_LANE_SHARDS": "3",
        }
        command = [*FAIRLANE, "up", "--workers", "2", "--json"]
        with (home / "up.out").open("wb") as out, (home / "up.err").open("wb") as err:
            self.process = subprocess.Popen(command, env=self.env, stdout=out, stderr=err)
        self.facts: dict[str, Any] = json.loads(wait_until(self.said, within_s=60, what="the fleet"))

    def said(self) -> str:
        assert self.process.poll() is None, (self.home / "up.err").read_text()
        said = (self.home / "up.out").read_text()
        return said if said.endswith("\n") else ""

    def fairlane(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*FAIRLANE, *words], env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )

    def pids(self) -> dict[int, str]:
        return {
            int(pid): command
            for pid, command in json.loads((self.home / "processes.json").read_text()).items()
        }

    def submit(self, text: str) -> dict[str, Any]:
        words = ("submit", "--tenant", "acme", "--task", "classify_intent", "--json", text)
        ran = self.fairlane(*words)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        running = Up(Path(folder))
        yield running
        if running.process.poll() is None:
            running.process.terminate()
        running.process.wait(60)


def test_a_job_of_ones_own_goes_through_from_the_command_line(up: Up) -> None:
    assert up.facts["twin_url"]
    result = up.submit("Where is my parcel?")
    assert (result["status"], result["model"]) == ("succeeded", "twin-small")


def test_plain_celery_finds_the_result_under_the_jobs_id(up: Up) -> None:
    job_id = up.submit("What does delivery cost?")["job_id"]
    app = Celery(broker=up.facts["broker_url"], backend=up.facts["broker_url"])
    with app.connection():
        assert AsyncResult(job_id, app=app).get(timeout=10)["status"] == "succeeded"


def test_flower_lists_the_task_with_its_tenant_and_never_its_prompt(up: Up) -> None:
    def listed() -> dict[str, Any] | None:
        """Events from before Flower began to listen are not shown, so a job is submitted each time."""
        job_id = up.submit("A very private question")["job_id"]
        with urllib.request.urlopen(f"{up.facts['flower_url']}/api/tasks", timeout=10) as reply:
            tasks: dict[str, dict[str, Any]] = json.load(reply)
        return tasks.get(job_id) or next(iter(tasks.values()), None)

    task = wait_until(listed, within_s=60, what="Flower's list")
    assert task["name"] == "fairlane.run_job"
    assert "'tenant': 'acme'" in task["kwargs"]
    assert "'task': 'classify_intent'" in task["kwargs"]
    assert "private question" not in json.dumps(task)


def test_flowers_pages_of_broker_and_workers_open_over_the_unix_socket(up: Up) -> None:
    for page in ("/broker", "/workers", "/metrics"):
        with urllib.request.urlopen(f"{up.facts['flower_url']}{page}", timeout=10) as reply:
            assert reply.status == 200


def test_doctor_finds_nothing_wrong_with_it(up: Up) -> None:
    ran = up.fairlane("doctor", "--json")
    assert ran.returncode == 0, ran.stdout


def test_lanes_and_usage_show_what_has_happened(up: Up) -> None:
    up.submit("Is the blue one in stock?")
    assert json.loads(up.fairlane("lanes", "--json").stdout)["counts"]["dead"] == 0
    [acme] = json.loads(up.fairlane("usage", "--by", "tenant", "--json").stdout)["rows"]
    assert acme["tenant"] == "acme"
    assert acme["attempts"] >= 1


def test_a_second_fleet_on_the_same_home_is_refused(up: Up) -> None:
    refused = up.fairlane("up")
    assert (refused.returncode, refused.stdout) == (5, "")
    assert "already up" in refused.stderr


def test_a_worker_that_is_killed_is_replaced_and_jobs_go_on(up: Up) -> None:
    before = up.pids()
    for pid, command in before.items():
        if "worker.main worker" in command:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(up.pids().keys() - before.keys()) == 2, what="two new workers")
    assert up.submit("Cancel my order please")["status"] == "succeeded"


def test_the_broker_may_be_killed_too(up: Up) -> None:
    before = up.pids()
    [broker] = [pid for pid, command in before.items() if "valkey-server" in command]
    os.kill(broker, signal.SIGKILL)
    wait_until(lambda: up.pids().keys() - before.keys(), what="a new broker")
    assert up.submit("I want my money back")["status"] == "succeeded"


def test_sigterm_ends_every_process_that_it_started(up: Up) -> None:
    pids = up.pids()
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert not (up.home / "processes.json").exists()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{up.facts['flower_url']}/healthcheck", timeout=5)
