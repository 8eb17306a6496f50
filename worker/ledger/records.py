"""What the ledger is told and what it tells. Amounts are whole pico-dollars, times are UTC with their zone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from producer_sdk.contract import JobResult, Usage

SettledState = Literal["settled", "failed", "uncertain", "void"]
AttemptState = Literal["in_flight", "settled", "failed", "uncertain", "void"]
# Of its batch an attempt draws what it may cost; in these states it draws what it did cost.
RETURNING = frozenset({"failed", "void"})


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
    rate_card_id: str | None = None  # None: that of the model asked for
    list_pico: int | None = None  # what a call with the tenant's own key cost its tenant, at list


@dataclass(frozen=True)
class KnownJob:
    """What SQL knows of a job: its final result if it has one, and its attempts of earlier deliveries."""

    final: JobResult | None = None
    unresolved: int = 0
    attempts: int = 0
    spent_pico: int = 0
    story: str | None = field(
        default=None, repr=False, compare=False
    )  # of a job that has begun and not ended


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
    batch_id: UUID | None = None


@dataclass(frozen=True)
class SettledAttempt:
    """An attempt that SQL has settled at this amount, and that Redis has not confirmed."""

    id: UUID
    amount_pico: int
    windows: tuple[str, ...]
    settled_at: datetime
    state: AttemptState

    @property
    def returns_share(self) -> bool:
        """Whether what it did not use is its batch's again: its line still needs an answer."""
        return self.state in RETURNING


@dataclass(frozen=True)
class Batch:
    """A batch that has reserved its sum in these windows, for so many lines."""

    id: UUID
    tenant: str
    reserved_pico: int
    lines: int
    windows: tuple[str, ...]
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class OpenBatch:
    """What an open batch holds in each of its windows: what its lines have not drawn."""

    id: UUID
    tenant: str
    reserved_pico: int
    drawn_pico: int
    windows: tuple[str, ...]

    @property
    def left_pico(self) -> int:
        """What it holds. A provider that billed more than the worst case cannot make it less than nothing."""
        return max(0, self.reserved_pico - self.drawn_pico)


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
    batches: list[OpenBatch] = field(default_factory=list)
    overrides: Overrides = field(default_factory=Overrides)


@dataclass(frozen=True)
class RoutingVersion:
    """One routing.yaml of a fleet; the one with the highest number is in force."""

    number: int
    version: str
    published_by: str
    created_at: datetime


@dataclass(frozen=True)
class RoutingWorker:
    """Which version a worker has, and what is wrong with the file that it has refused (None: nothing)."""

    worker: str
    version: str
    refused: str | None
    seen_at: datetime
