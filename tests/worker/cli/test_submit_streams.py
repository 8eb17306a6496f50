"""`fairlane submit --stream`: the answer on stdout as it comes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.producer_sdk.fake_worker import working
from tests.servers import Valkey
from worker.cli.main import cli

ASK = ("submit", "--tenant", "acme", "--task", "classify", "--stream")


@pytest.fixture
def worker(valkey: Valkey, namespace: str) -> Iterator[None]:
    with working(valkey, namespace):
        yield


def run(valkey: Valkey, namespace: str, *words: str) -> Result:
    env = {"FAIRLANE_BROKER_URL": valkey.broker_url, "FAIRLANE_NAMESPACE": namespace}
    return CliRunner().invoke(cli, [*ASK, *words], env=env)


def test_the_answer_is_printed_once(valkey: Valkey, namespace: str, worker: None) -> None:
    printed = run(valkey, namespace, "hello")
    assert (printed.exit_code, printed.stdout) == (0, "echo: hello\n")
    assert "USD" in printed.stderr


def test_with_json_each_event_is_a_line(valkey: Valkey, namespace: str, worker: None) -> None:
    events = [json.loads(line) for line in run(valkey, namespace, "--json", "hello").stdout.splitlines()]
    assert [event["kind"] for event in events] == ["begin", "text", "end"]
    assert events[1]["text"] == "echo: hello"


def test_a_job_without_an_answer_says_why(valkey: Valkey, namespace: str, worker: None) -> None:
    printed = run(valkey, namespace, "reject")
    assert (printed.exit_code, printed.stdout) == (1, "")
    assert "policy_denied" in printed.stderr


def test_streaming_without_waiting_is_a_wrong_command_line(valkey: Valkey, namespace: str) -> None:
    assert run(valkey, namespace, "--no-wait", "hello").exit_code == 2


def test_a_job_that_is_not_even_accepted_is_told_in_json_too(
    valkey: Valkey, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "chat.json").write_text('{"role": "user"}')
    refused = run(valkey, namespace, "--json", "--messages", str(tmp_path / "chat.json"))
    assert (refused.exit_code, json.loads(refused.stdout)["error"]["code"]) == (1, "invalid_job")


def test_an_answer_that_is_not_there_in_time_names_its_job(valkey: Valkey, namespace: str) -> None:
    late = run(valkey, namespace, "--timeout", "0.3", "hello")
    assert late.exit_code == 6
    assert re.search(r"within 0.3 s: the job goes on, `fairlane explain [0-9a-f-]{36}` says", late.stderr)
