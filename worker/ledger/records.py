"""What the ledger is told and what it tells. Amounts are whole pico-dollars, times are UTC with their zone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from producer_sdk.contract import JobResult, Usage

SettledState = Literal["settled", "failed", "uncertain", "void"]
AttemptState = Literal["in_flight", "settled", "failed", "uncertain", "void"]


@dataclass(frozen=True)
class Settlement:
    """How an attempt ended. `settled` was answered, `failed` was not and its cost is known, `uncertain` costs its
    worst case because nobody knows, `void` was never sent."""

    state: SettledState
    cost_pico: int
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    latency_ms: int | None = None
    error_code: str | None = None
    saved_pico: int = 0
    over_reserved: bool = False


@dataclass(frozen=True)
class KnownJob:
    """What SQL knows of a job: its final result if it has one, and its attempts of earlier deliveries."""

    final: JobResult | None = None
    unresolved: int = 0
    attempts: int = 0
    spent_pico: int = 0


@dataclass(frozen=True)
class OpenJob:
    """A job that has begun and not ended, with its message as it came."""

    job_id: UUID
    message: bytes = field(repr=False)


@dataclass(frozen=True)
class OpenAttempt:
    """An attempt in flight, with the worst case that its windows hold."""

    id: UUID
    tenant: str
    tag: str
    worst_pico: int
    windows: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True)
class SettledAttempt:
    """An attempt that SQL has settled at this amount, and that Redis has not confirmed."""

    id: UUID
    amount_pico: int
    windows: tuple[str, ...]
    settled_at: datetime


@dataclass(frozen=True)
class LimitChange:
    """What an operator has changed: a scope's limit (None: routing.yaml's again), or one window's top-up."""

    id: UUID
    kind: Literal["set", "top_up"]
    name: str
    amount_pico: int | None
    reason: str
    created_at: datetime


@dataclass(frozen=True)
class Overrides:
    """What holds beside routing.yaml: limits by scope, and what was added to windows. `version` only grows."""

    version: int = 0
    limits: dict[str, int] = field(default_factory=dict)
    top_ups: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RebuildSums:
    """What every window stands at under a new epoch."""

    epoch: int
    settled: dict[str, int]
    holds: list[OpenAttempt]
    overrides: Overrides = field(default_factory=Overrides)
