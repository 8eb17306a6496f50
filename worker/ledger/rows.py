"""Rows of the ledger as values, made of what the steps speak. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, overload
from uuid import UUID

from pydantic_core import ValidationError, from_json, to_json

from producer_sdk.contract import JobResult, created_at, to_usd
from worker.errors import LedgerUnavailable
from worker.job_run import Answer, Attempt, JobRun
from worker.ledger.records import AttemptState, Settlement

MOST_PICO = 4 * 10**18  # four million dollars: sums of two are exact in 64 bits
MOST_TOKENS = 2**31 - 1  # the seed's INTEGER
MOST_TEXT = 256
_OWN_KEY = '"own_key":true'  # as to_json writes it; no text of a job can hold it unescaped
HIT_NAMESPACE = UUID("6f1b2c9e-3f0a-5d44-9a51-fa1e1a9e0002")


@dataclass(frozen=True)
class AttemptRow:
    """One row of the journal. `origin` is JSON; None in a tombstone, which is a row of an attempt that never was."""

    id: UUID
    state: AttemptState
    created_at: datetime
    job_id: UUID | None = None
    tenant: str | None = None
    tag: str | None = None
    epoch: int = 0
    worst_pico: int = 0
    cost_pico: int = 0
    windows: tuple[str, ...] = ()
    mirrored_epoch: int | None = None
    over_reserved: bool = False
    settled_at: datetime | None = None
    origin: str | None = None
    batch_id: UUID | None = None

    @property
    def own_key(self) -> bool:
        """Whether the call was made with its tenant's own key."""
        return _OWN_KEY in (self.origin or "")


@dataclass(frozen=True)
class JobRow:
    """One row of llm_jobs. `result` is a JobResult while it is new, its JSON once it was read."""

    job_id: UUID
    tenant: str = ""
    task: str = ""
    message: bytes | None = None
    fleet: str = ""
    status: str | None = None
    result: JobResult | str | None = None
    created_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    finished_at: datetime | None = None
    batch_id: UUID | None = None
    run_id: str | None = None
    story: str | None = None

    def standing(self) -> JobResult | LedgerUnavailable | None:
        """The final result, if the job has ended; see `read_result`."""
        return read_result(self.result) if isinstance(self.result, str) else self.result


def read_result(text: str) -> JobResult | LedgerUnavailable:
    """A stored result. While a fleet is upgraded, an older worker leaves what it cannot read to a newer one."""
    try:
        return JobResult.model_validate_json(text)
    except ValidationError:
        return LedgerUnavailable("the job was ended by a newer version: upgrade this worker")


def attempt_row(attempt: Attempt, *, worst_pico: int) -> AttemptRow:
    """The journal's row of an attempt that is about to be called."""
    job_run, call = attempt.job_run, attempt.call
    job = job_run.job
    origin = {
        "feature_name": plain(job.feature),
        "model_id": plain(call.deployment.model),
        "attempt": attempt.number,
        "provider": call.deployment.provider.name,
        "deployment": call.deployment.name,
        "task": job.task,
        "run_id": plain(job.run_id),
        "prompt_version": plain(job.prompt_version),
        "rate_card_id": call.card.id,
        "routing_version": job_run.routing.version,
        **({"own_key": True} if call.own_key else {}),
    }
    return AttemptRow(
        id=attempt.id,
        state="in_flight",
        created_at=attempt.created_at,
        job_id=job.job_id,
        tenant=job.tenant,
        tag=job_run.lease.tag,
        epoch=attempt.epoch,
        worst_pico=_amount(worst_pico),
        windows=attempt.windows,
        origin=to_json(origin).decode(),
        batch_id=attempt.batch_id,
    )


def tombstone(attempt_id: UUID, *, now: datetime) -> AttemptRow:
    """The row that refuses an attempt which was never journalled."""
    return AttemptRow(attempt_id, "void", created_at(attempt_id), mirrored_epoch=0, settled_at=now)


def job_row(job_run: JobRun, *, now: datetime, story: str) -> JobRow:
    """The row of a job that has begun, with its message as it came."""
    job = job_run.job
    message = job_run.message or None
    return JobRow(
        job.job_id,
        job.tenant,
        job.task,
        message,
        fleet=job_run.fleet,
        created_at=now,
        batch_id=job_run.batch_id,
        run_id=plain(job.run_id or job.parent_run_id),
        story=story,
    )


def event_values(row: AttemptRow, settlement: Settlement) -> dict[str, Any]:
    """The usage row of a settled attempt: what its journal row says of the call, and how it ended."""
    origin: Mapping[str, Any] = from_json(row.origin or "{}")
    usage = settlement.usage
    return {
        "id": row.id,
        "tenant_id": row.tenant,
        "created_at": row.created_at,
        "job_id": row.job_id,
        **origin,
        "model_id": plain(settlement.model) or origin.get("model_id"),
        "rate_card_id": settlement.rate_card_id or origin.get("rate_card_id"),
        "input_tokens": _tokens(usage.input_tokens),
        "output_tokens": _tokens(usage.output_tokens),
        "cache_read_tokens": _tokens(usage.cache_read_tokens),
        "cache_write_tokens": _tokens(usage.cache_write_tokens),
        "reasoning_tokens": _tokens(usage.reasoning_tokens),
        "cost_usd": to_usd(row.cost_pico),
        "saved_usd": to_usd(_amount(settlement.saved_pico)),
        "latency_ms": None if settlement.latency_ms is None else _tokens(settlement.latency_ms),
        "status": row.state,
        "cache": "provider" if usage.cache_read_tokens else "none",
        "error_code": plain(settlement.error_code),
        "windows": row.windows,
        "own_key": row.own_key,
        "list_usd": _list_usd(row, settlement),
    }


def hit_values(job_run: JobRun, answer: Answer, *, now: datetime) -> dict[str, Any]:
    """The usage row of a job that a cache answered: nothing was billed, `saved_usd` is what a call had cost."""
    job = job_run.job
    return {
        "id": uuid.uuid5(HIT_NAMESPACE, str(job.job_id)),
        "tenant_id": job.tenant,
        "created_at": now,
        "job_id": job.job_id,
        "feature_name": plain(job.feature),
        "model_id": plain(answer.model),
        "attempt": None,
        "provider": plain(answer.provider),
        "deployment": plain(answer.deployment),
        "task": job.task,
        "run_id": plain(job.run_id),
        "prompt_version": plain(job.prompt_version),
        "rate_card_id": None,
        "routing_version": job_run.routing.version,
        "input_tokens": 0,
        "output_tokens": 0,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "cost_usd": to_usd(0),
        "saved_usd": to_usd(_amount(answer.saved_pico)),
        "latency_ms": _tokens(answer.latency_ms),
        "status": "settled",
        "cache": answer.cache,
        "error_code": None,
        "windows": (),
        "own_key": False,
        "list_usd": None,
    }


def _list_usd(row: AttemptRow, settlement: Settlement) -> Decimal | None:
    """What a call with the tenant's own key cost its tenant: at list, or as a provider's export says later."""
    if not row.own_key or row.state == "uncertain":
        return None
    known = settlement.cost_pico if settlement.list_pico is None else settlement.list_pico
    return to_usd(_amount(known))


def _amount(pico: int) -> int:
    return max(0, min(pico, MOST_PICO))


def _tokens(number: int) -> int:
    return max(0, min(number, MOST_TOKENS))


@overload
def plain(text: str) -> str: ...
@overload
def plain(text: str | None) -> str | None: ...
def plain(text: str | None) -> str | None:
    """What every database can store, whatever a producer or a provider has sent."""
    if text is None:
        return None
    return text[:MOST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
