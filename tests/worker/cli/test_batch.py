"""`fairlane batch run` over real lanes: a file of jobs, a file of results, and what failed once more."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from producer_sdk.contract import Job, JobResult
from tests.producer_sdk.fake_worker import echo, working
from tests.servers import Valkey
from worker.cli.batch_file import read_jobs, read_results, write_results
from worker.cli.main import cli

Run = Callable[..., Result]
FOR = ("--tenant", "acme", "--task", "classify")


@pytest.fixture
def run(valkey: Valkey, namespace: str) -> Run:
    def run(*words: object) -> Result:
        env = {"FAIRLANE_BROKER_URL": valkey.broker_url, "FAIRLANE_NAMESPACE": namespace}
        return CliRunner().invoke(cli, ["batch", "run", "--timeout", "20", *map(str, words)], env=env)

    return run


def jobs_in(folder: Path, *lines: object) -> Path:
    path = folder / "jobs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def results_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Recovering:
    """A provider that is up again after the first round; remembers the jobs."""

    def __init__(self) -> None:
        self.is_up = False
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> JobResult:
        self.jobs.append(job)
        if self.is_up and job.messages[-1].text == "fail":
            return JobResult(job_id=job.job_id, status="succeeded", text="at last")
        return echo(job)


def test_each_line_gets_its_result_and_only_what_failed_is_run_again(
    run: Run, valkey: Valkey, namespace: str, tmp_path: Path
) -> None:
    once = {"messages": "one", "idempotency_key": "k"}
    lines = [once, {"messages": "fail"}, {"messages": "reject", "tenant": "globex"}, once]
    done, answer = tmp_path / "done.jsonl", Recovering()
    with working(valkey, namespace, answer):
        first = run(jobs_in(tmp_path, *lines), "--results", done, *FOR, "--json")
        assert first.exit_code == 1, first.output
        ends = {"succeeded": 2, "provider_unavailable": 1, "policy_denied": 1}
        told = json.loads(first.stdout)
        assert told["ends"] == ends
        assert set(told["why"]) == {"provider_unavailable", "policy_denied"}
        was = results_of(done)
        assert [line["job"]["lane"] for line in was] == ["batch"] * 4
        answer.is_up, answer.jobs = True, []
        again = run("--retry-failed", done, "--code", "provider_unavailable")
        assert again.exit_code == 1, "the refused one stays refused"
        assert f"       1  policy_denied: {told['why']['policy_denied']}\n" in again.stdout
        now = results_of(done)
    assert [job.metadata for job in answer.jobs] == [{"replay_of": was[1]["job"]["job_id"]}]
    assert [line["result"]["status"] for line in now] == ["succeeded", "succeeded", "rejected", "succeeded"]
    assert (now[0], now[2], now[3]) == (was[0], was[2], was[3])
    assert stat.S_IMODE(done.stat().st_mode) == 0o600, "prompts and answers are in it"


def test_a_line_that_has_not_ended_in_time_is_waited_for_and_not_run_twice(
    run: Run, valkey: Valkey, namespace: str, tmp_path: Path
) -> None:
    done = tmp_path / "done.jsonl"
    early = run(jobs_in(tmp_path, {"messages": "one"}), "--results", done, *FOR, "--timeout", "0.2")
    assert (early.exit_code, results_of(done)[0]["result"]) == (6, None)
    with working(valkey, namespace) as worker:
        assert run("--retry-failed", done).exit_code == 0
    assert worker.done == [results_of(done)[0]["job"]["job_id"]]


def test_a_replay_that_is_repeated_is_the_same_job(
    run: Run, valkey: Valkey, namespace: str, tmp_path: Path
) -> None:
    done, answer = tmp_path / "done.jsonl", Recovering()
    with working(valkey, namespace, answer):
        run(jobs_in(tmp_path, {"messages": "fail"}), "--results", done, *FOR)
        killed = done.read_text()
        answer.is_up, answer.jobs = True, []
        assert run("--retry-failed", done).exit_code == 0
        done.write_text(killed)  # as if the command had been killed before it wrote
        assert run("--retry-failed", done).exit_code == 0
    assert len(answer.jobs) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: this is not JSON"),
        ("[1]", "line 1: a line must be a JSON object"),
        ("", "is empty"),
        ('{"messages": "a"}\n{"messages": "b", "lanes": 1}', "line 2: job.lanes"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_submitted(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(text)
    refused = run(path, "--results", tmp_path / "done.jsonl", *FOR)
    assert refused.exit_code == 3
    assert said in refused.stderr


def test_what_is_asked_for_must_be_clear(run: Run, tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, {"messages": "one"})
    assert (
        run().exit_code
        == run(jobs).exit_code
        == run("--retry-failed", jobs, "--results", jobs).exit_code
        == 2
    )
    assert "exists" in run(jobs, "--results", jobs, *FOR).stderr, "no results are lost"
    assert 'is {"job"' in run("--retry-failed", jobs).stderr


def test_words_that_hold_what_unicode_calls_a_line_end_stay_one_line(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    text = "one\u2028two\u2029three\u0085four"
    path.write_text(json.dumps({"messages": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    [line] = read_jobs(path, {"tenant": "acme", "task": "classify"})
    assert line.job.messages[0].text == text
    write_results(path, [line])
    assert read_results(path) == [line]
