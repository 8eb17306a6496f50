"""One job of the lanes' model."""

from __future__ import annotations

from dataclasses import dataclass

from producer_sdk.contract.envelope import LaneEntry

BACK = 2.0**50


@dataclass
class Row:
    """One job."""

    entry: LaneEntry
    put: int
    spot: float = 0
    state: str = ""
    since: int = 0  # delayed: due; closing: not before
    tag: str = ""
    flow: str = ""
    charged: float = 0
    lease_end: int = 0
    last: str = ""
    lost: int = 0
    is_back: bool = False
    stop: str | None = None
    cancelled: bool = False

    @property
    def place(self) -> tuple[float, str]:
        """Lowest first."""
        return self.spot - BACK * self.is_back, self.entry.job_id
