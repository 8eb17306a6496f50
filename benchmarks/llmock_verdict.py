"""500 jobs through a worker against llmock with its faults on, and llmock's own verdict on how they were handled."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.lane_rig import wait_for_workers
from benchmarks.llmock_server import PACKAGE, Llmock, llmock
from benchmarks.money_rig import database, scratch, worker_settings
from benchmarks.rig import process, python, table, valkey
from benchmarks.throwaway import NotHere
from producer_sdk import Fleet
from producer_sdk.contract import GenerationParams, Job, Message
from producer_sdk.errors import JobEnded
from worker.settings import WorkerSettings

JOBS, SLOTS, WAIT_S = 500, 60, 180
# What each request may meet by chance. Errors come with the Retry-After of a second that it gives 429, 503 and 529.
FAULTS = ("429=0.10", "500=0.04", "503=0.04", "529=0.03", "400=0.02", "401=0.01", "408=0.01", "404=0.01")
STREAM_FAULTS = ("disconnect=0.03", "malformed=0.03", "stall=0.01")
# What every first attempt of a wave meets. A truncated stream is here, never by chance: see `RESULTS.md`.
SCRIPTED: tuple[tuple[int, dict[str, Any]], ...] = (
    (25, {"type": "stream_fault", "kind": "truncate", "after_chunks": 3}),
    (25, {"type": "stream_fault", "kind": "truncate", "after_chunks": 1}),
    (25, {"type": "stream_fault", "kind": "disconnect", "after_chunks": 2}),
    (25, {"type": "fail", "status": 429, "retry_after": 2.5}),
    (25, {"type": "fail", "status": 503, "retry_after": 2}),
    (5, {"type": "fail", "status": 429, "code": "insufficient_quota"}),
)
WITH_FALLBACK = 60
LEAST_GAP_S = 0.05  # below it, llmock calls a wait none
DIALECTS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4"}
CHANCE = "chance"
ROUTING = """
providers:
  openai: {{dialect: openai, base_url: "{url}/v1"}}
  anthropic: {{dialect: anthropic, base_url: "{url}/anthropic"}}
aliases:
{aliases}
tasks:
{tasks}
  ask_either: {{default: openai_chance, fallback: anthropic_chance, max_latency_ms: 12000}}
tiers:
  bench: {{concurrency: 1000, retries_per_min: 100000}}
tenants:
  acme: {{tier: bench}}
"""
ALIAS = """  {name}:
    - {{provider: {provider}, model: {model}, context_tokens: 32000, max_output_tokens: 4096,
       price: {{input: 1, output: 2}}}}"""
TASK = "  ask_{name}: {{default: {name}, max_latency_ms: 12000}}"


def routing(url: str) -> str:
    """A model of each dialect for each wave, and one for what follows them.

    A wave's calls must come together, so none meets the limit of calls at once that the fleet learned from another's.
    """
    names = [*(f"wave{number}" for number in range(len(SCRIPTED))), CHANCE]
    pairs = [(provider, model, name) for provider, model in DIALECTS.items() for name in names]
    aliases = [
        ALIAS.format(name=f"{provider}_{name}", provider=provider, model=f"{model}-{name}")
        for provider, model, name in pairs
    ]
    tasks = [TASK.format(name=f"{provider}_{name}") for provider, _model, name in pairs]
    return ROUTING.format(url=url, aliases="\n".join(aliases), tasks="\n".join(tasks))


def jobs(task: str, count: int, *, beginning: int) -> list[Job]:
    """So many, each with a question of its own."""
    params = GenerationParams(max_output_tokens=200)
    return [
        Job(
            tenant="acme",
            task=task,
            messages=[Message(role="user", content=f"Please say something about number {number}.")],
            params=params,
        )
        for number in range(beginning, beginning + count)
    ]


@contextlib.contextmanager
def worker(settings: WorkerSettings) -> Iterator[None]:
    """A worker process."""
    environ = settings.to_env() | {
        "CELERY_CUSTOM_WORKER_POOL": "worker.pool:LoopPool",
        "FAIRLANE_SLOTS": str(SLOTS),
    }
    command = python("celery", "-A", "worker.main", "worker", "--pool", "custom", "-c", str(SLOTS))
    command += ["-l", "WARNING", "--without-gossip", "--without-mingle"]
    with process(command, environ, settings.home / "worker.log"):
        yield


@dataclass
class Ended:
    """How each job ended, by its question: `succeeded`, or the error's code and reason; and the answers' texts.

    `put_off`: those of them whose deployment took no other call while they had time left.
    """

    how: dict[str, str] = field(default_factory=dict)
    put_off: set[str] = field(default_factory=set)
    texts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def halves(self) -> int:
        """Answers that are not the text that llmock always gives as this model."""
        return sum(texts.total() - max(texts.values()) for texts in self.texts.values())

    def add(self, fleet: Fleet, wanted: list[Job]) -> None:
        """Submit these and wait until all have ended."""
        for job, handle in zip(wanted, fleet.submit_many(wanted), strict=True):
            question = _question(job.messages[0].text)
            try:
                answer = handle.result(timeout=WAIT_S)
                self.texts[answer.deployment or ""][answer.text or ""] += 1
                self.how[question] = "succeeded"
            except JobEnded as error:
                self.how[question] = f"{error.error.code} ({error.error.reason})" if error.error else "?"
                if error.error and "no other attempt:" in error.error.message:
                    self.put_off.add(question)


@dataclass(frozen=True)
class Judged:
    """How the jobs ended, llmock's verdict as data and as it prints it, and every request that it served."""

    ended: Ended
    verdict: dict[str, Any]
    text: str
    served: list[dict[str, Any]]

    def reason(self, finding: dict[str, Any]) -> str:
        """What this finding's rule has seen; `unjustified` where it may be right."""
        named = [next(one for one in self.served if one["seq"] == seq) for seq in finding["requests"]]
        last = named[-1]
        question = _question(json.dumps(last["body"]))
        same = [one for one in self.served if _question(json.dumps(one["body"])) == question]
        later = [one for one in same if one["seq"] > last["seq"]]
        earlier = [
            one for one in same if one["seq"] < last["seq"] and one["fingerprint"] == last["fingerprint"]
        ]
        again = any(one["fingerprint"] == last["fingerprint"] for one in later)
        elsewhere = any(one["path"] != last["path"] for one in later)
        how = self.ended.how[question]
        code = finding["code"]
        if code == "malformed_chunk_ignored" and again:
            return "the answer was refused and the call repeated, which llmock took for a call of its own"
        if code == "malformed_chunk_ignored" and elsewhere:
            return "the answer was refused and the call went on at its task's fallback, by another path"
        if code == "malformed_chunk_ignored" and _failed(how):
            return f"the answer was refused, and the job ended {how}"
        if code == "gave_up" and elsewhere:
            return "the call went on at its task's fallback, by another path"
        if code == "gave_up" and last["fault"] == "scenario:429" and "quota" in how:
            return f"the 429's code is insufficient_quota, to wait is of no use: the job ended {how}"
        if code == "gave_up" and any("malformed" in str(one["fault"]) for one in earlier) and _failed(how):
            return f"it was the one retry of a malformed answer, which llmock took for a good one: it ended {how}"
        if code == "gave_up" and question in self.ended.put_off:
            return f"its deployment took no other call while the job had time left: it ended {how}"
        gaps = [after["started_at"] - before["ended_at"] for before, after in itertools.pairwise(named)]
        if code == "no_backoff" and min(gaps) >= LEAST_GAP_S:
            return (
                "each wait was drawn from 0 to 1 s, or was for a cool-down: by chance none was a tenth longer"
            )
        return "unjustified"


def _failed(how: str) -> bool:
    return how != "succeeded"


def _question(text: str) -> str:
    found = re.search(r"about number \d+", text)
    return found[0] if found else ""


def waves(fleet: Fleet, upstream: Llmock) -> Ended:
    """The jobs: in waves whose first attempts all meet the same fault, then the rest by chance alone.

    A wave's requests are held for a second each, so that all its first attempts have come before any is repeated.
    """
    ended = Ended()
    sent = 0
    for number, (wave, behaviour) in enumerate(SCRIPTED):
        for dialect in DIALECTS:
            upstream.script({"type": "delay", "seconds": 1, "times": wave}, {**behaviour, "times": wave})
            ended.add(fleet, jobs(f"ask_{dialect}_wave{number}", wave, beginning=sent))
            sent += wave
    upstream.script()
    alone = (JOBS - sent - WITH_FALLBACK) // 2
    for dialect in DIALECTS:
        ended.add(fleet, jobs(f"ask_{dialect}_{CHANCE}", alone, beginning=sent))
        sent += alone
    ended.add(fleet, jobs("ask_either", WITH_FALLBACK, beginning=sent))
    sent += WITH_FALLBACK
    assert sent == JOBS
    return ended


def judged(folder: Path) -> Judged:
    """The run itself. Raises NotHere."""
    chances = [word for rate in FAULTS for word in ("--error-rate", rate)]
    chances += [word for rate in STREAM_FAULTS for word in ("--stream-fault", rate)]
    with (
        llmock(folder, [*chances, "--stream-stall-seconds", "60", "--response-style", "static"]) as upstream,
        valkey("everysec") as server,
        database("SQLite", folder) as url,
    ):
        path = folder / "routing.yaml"
        path.write_text(routing(upstream.url))
        settings = worker_settings(server, ledger_url=url, routing=path, home=folder)
        with worker(settings), Fleet(settings.fleet) as fleet:
            wait_for_workers(server, 1)
            ended = waves(fleet, upstream)
            return Judged(ended, upstream.verdict(), upstream.verdict_text(), upstream.requests())


def report(found: Judged) -> str:
    """How the jobs ended, what was served, why each warning is none, and the verdict as llmock prints it."""
    statuses = Counter(str(one["status"]) for one in found.served)
    faults = Counter(str(one["fault"]).partition("@")[0] for one in found.served if one["fault"])
    reasons = Counter((one["code"], found.reason(one)) for one in found.verdict["findings"])
    rows = [["what", "how many"]]
    rows += [
        [f"jobs that ended {name}", f"{count}"]
        for name, count in Counter(found.ended.how.values()).most_common()
    ]
    rows += [["answers that are not whole (0)", f"{found.ended.halves}"]]
    rows += [[f"requests answered {status}", f"{count}"] for status, count in sorted(statuses.items())]
    rows += [[f"fault {name}", f"{count}"] for name, count in sorted(faults.items())]
    rows += [[f"{code}: {reason}", f"{count}"] for (code, reason), count in sorted(reasons.items())]
    return table(f"{JOBS} jobs against {PACKAGE} with its faults on", rows) + f"\n```text\n{found.text}```\n"


def run() -> str:
    """The report, or why there is none."""
    with scratch() as folder:
        try:
            found = judged(folder)
        except NotHere as reason:
            return f"### {PACKAGE}'s verdict\n\nnot run: {reason}\n"
    if found.verdict["calls"] < JOBS:
        return f"### {PACKAGE}'s verdict\n\nvoid: it saw {found.verdict['calls']} calls of {JOBS}\n"
    return report(found)


if __name__ == "__main__":
    print(run())
