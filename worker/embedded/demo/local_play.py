"""Plays the demo with the local model: fewer and shorter jobs, real tokens, and the model server's own count."""

from __future__ import annotations

import asyncio
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from producer_sdk.client import Fleet
from producer_sdk.contract import Job, JobResult
from worker.embedded.demo.inputs import DemoInputs
from worker.embedded.demo.jobs import classify_jobs, rag_jobs
from worker.embedded.demo.play import WITHIN_S, demo_settings
from worker.embedded.demo.report import TenantReport, tenant_reports
from worker.embedded.demo.running import run_jobs
from worker.embedded.fleet import Commands, EmbeddedFleet, FleetShape
from worker.errors import FleetDown
from worker.ledger.ledger import Ledger

ROUTING = Path(__file__).with_name("local_routing.yaml")
MESSAGES, QUESTIONS, LONGEST_TEXT = 12, 3, 300
ASK_S = 10.0
_COUNTER = re.compile(r"^llamacpp:(prompt_tokens_total|tokens_predicted_total) (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Counted:
    """Tokens that a model has worked through: read (not those that it had cached), and written."""

    read: int
    written: int


@dataclass(frozen=True)
class LocalOutcome:
    """What the demo found. `right`: messages that got the label which people gave them, of `labelled` answered ones."""

    tenants: list[TenantReport]
    ledger: Counted
    server: Counted
    right: int
    labelled: int
    labels: int
    jobs_s: float

    @property
    def equal(self) -> bool:
        """Whether the ledger has every token that the server counted, and no other."""
        return self.ledger == self.server

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "tenants": [tenant.as_json() for tenant in self.tenants],
            "ledger": vars(self.ledger),
            "provider": vars(self.server),
            "equal": self.equal,
            "right": self.right,
            "labelled": self.labelled,
            "labels": self.labels,
            "jobs_s": self.jobs_s,
        }


def shortened(inputs: DemoInputs) -> DemoInputs:
    """As much as a small model on a small machine gets through while somebody watches."""
    documents = tuple(one.model_copy(update={"text": one.text[:LONGEST_TEXT]}) for one in inputs.documents)
    return DemoInputs(inputs.messages[:MESSAGES], inputs.questions[:QUESTIONS], documents)


def play_local(
    inputs: DemoInputs,
    *,
    home: Path,
    model: Path,
    commands: Commands,
    workers: int,
    on_result: Callable[[JobResult], None],
    clock: Callable[[], float],
) -> LocalOutcome:
    """Run every job against the model in this file. Raises FleetDown, ResultTimeout."""
    settings = replace(demo_settings(home), routing_path=ROUTING)
    asked = classify_jobs(inputs.messages)
    jobs = [*asked, *rag_jobs(inputs)]
    shape = FleetShape(workers=workers, flower_port=None, local_model=model)
    with EmbeddedFleet(settings, commands=commands, shape=shape) as fleet:
        started = clock()
        with Fleet(settings.fleet) as producer:
            results = run_jobs(producer, jobs, within_s=WITHIN_S, on_result=on_result, check=fleet.check)
        took = clock() - started
        server = counted(fleet.settings.local_url or "")
    categories = [message.category for message in inputs.messages]
    return LocalOutcome(
        tenants=tenant_reports(jobs, results),
        ledger=asyncio.run(in_ledger(settings.ledger_url)),
        server=server,
        right=sum(is_right(results[job.job_id], said) for job, said in zip(asked, categories, strict=True)),
        labelled=_answered(asked, results),
        labels=len(set(categories)),
        jobs_s=round(took, 1),
    )


def is_right(result: JobResult, label: str) -> bool:
    """Whether the answer is this label and nothing else."""
    return result.text.strip().strip(".\"'-* ").lower() == label.lower()


def counted(url: str) -> Counted:
    """What the server has counted itself. Raises FleetDown when it does not say."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=ASK_S) as reply:  # noqa: S310 - our own server
            found = dict(_COUNTER.findall(reply.read().decode()))
        return Counted(int(found["prompt_tokens_total"]), int(found["tokens_predicted_total"]))
    except (urllib.error.URLError, TimeoutError, ValueError, KeyError) as error:
        raise FleetDown(
            "the local model does not say what it has counted: see its log in the home"
        ) from error


async def in_ledger(url: str) -> Counted:
    """What the ledger has of it. Raises LedgerUnavailable."""
    ledger = Ledger(url)
    ledger.start()
    try:
        rows = await ledger.usage(())
    finally:
        await ledger.close()
    return Counted(
        sum(row.input_tokens - row.cache_read_tokens for row in rows), sum(row.output_tokens for row in rows)
    )


def _answered(jobs: list[Job], results: Mapping[UUID, JobResult]) -> int:
    return sum(results[job.job_id].status == "succeeded" for job in jobs)
