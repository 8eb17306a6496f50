"""What the budget's store is told and what it answers. Amounts are whole pico-dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from worker.budget.rules import WindowLimit


@dataclass(frozen=True)
class SoftLimit:
    """What is settled in this window has reached so many percent of its limit, for the first time."""

    window: WindowLimit
    percent: int


@dataclass(frozen=True)
class Reserved:
    """The amount is held in every window, by the books of this epoch.

    `covered`: the batch's windows that an attempt is charged to; none where it draws from no batch.
    """

    epoch: int
    covered: tuple[str, ...] = ()
    soft: tuple[SoftLimit, ...] = ()


@dataclass(frozen=True)
class Refused:
    """This window has no room; nothing is held."""

    window: WindowLimit
    settled_pico: int
    held_pico: int
    soft: tuple[SoftLimit, ...] = ()


@dataclass(frozen=True)
class NeedsRebuild:
    """There are no books, or they were written before the server's last start."""


@dataclass(frozen=True)
class ClockApart:
    """The attempt's id was made this far from Redis' time: the worker's clock is wrong."""

    apart_ms: int


@dataclass(frozen=True)
class Settled:
    """The windows of this epoch hold the amount."""

    epoch: int


@dataclass(frozen=True)
class Unknown:
    """The books of this epoch (0: none) do not know the attempt; nothing has changed."""

    epoch: int


@dataclass(frozen=True)
class BatchName:
    """A batch is its tenant's: a line of another tenant finds none under its id."""

    tenant: str
    id: UUID

    def __str__(self) -> str:
        return f"{self.tenant}/{self.id}"

    @classmethod
    def parse(cls, text: str) -> BatchName:
        """From Redis."""
        tenant, _, batch_id = text.rpartition("/")
        return cls(tenant, UUID(batch_id))


@dataclass(frozen=True)
class Hold:
    """One attempt's hold, as SQL knows it: at most `amount_pico` in each of its windows."""

    attempt_id: UUID
    amount_pico: int
    windows: tuple[str, ...]
    batch: BatchName | None = None


@dataclass(frozen=True)
class BatchHold:
    """An open batch, as SQL knows it: what it holds in each of its windows is what its lines have not drawn."""

    name: BatchName
    total_pico: int
    drawn_pico: int
    windows: tuple[str, ...]

    @property
    def left_pico(self) -> int:
        """What it holds."""
        return self.total_pico - self.drawn_pico


@dataclass(frozen=True)
class LimitChanges:
    """What operators have changed, at one version: limits by scope, and what was added to windows."""

    version: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    top_ups: Mapping[str, int] = field(default_factory=dict)

    def fields(self) -> dict[str, int]:
        """As Redis keeps them."""
        limits = {f"set:{scope}": amount for scope, amount in self.limits.items()}
        return limits | {f"top:{window}": amount for window, amount in self.top_ups.items()}


UNCHANGED = LimitChanges()


@dataclass(frozen=True)
class Standing:
    """What windows stand at in one epoch (None: there are no books): settled and held pico-dollars."""

    epoch: int | None
    windows: dict[str, tuple[int, int]]
