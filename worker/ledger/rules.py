"""How rows of the journal may change: each function answers with the row as it must be after. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from worker.ledger.records import Settlement
from worker.ledger.rows import MOST_PICO, AttemptRow

HAVE_EVENT = frozenset({"settled", "failed", "uncertain"})


def refusal(present: AttemptRow | None, wanted: AttemptRow, *, epoch: int) -> str | None:
    """Why the journal refuses `wanted`, or None: it may be written, or is there already (a repeat).

    A repeat stands whatever the epoch: a rebuild that came between has counted it.
    """
    if present is not None:
        is_repeat = present.state == "in_flight" and present.tag == wanted.tag
        return None if is_repeat else f"its row is {present.state}"
    if wanted.windows and wanted.epoch != epoch:
        return f"it was admitted by the books of epoch {wanted.epoch}, and {epoch} is in force"
    return None


def settled(row: AttemptRow, settlement: Settlement, *, now: datetime) -> AttemptRow:
    """The row after a settlement. A first one always counts; a second only where the first did not know the cost.

    `uncertain` costs the worst case; `void`, and what a tenant's own key pays for, nothing, whatever it says.
    """
    is_late = row.state == "uncertain" and settlement.state != "uncertain"
    if row.state != "in_flight" and not is_late:
        return row
    return replace(
        row,
        state=settlement.state,
        cost_pico=_cost(row, settlement),
        over_reserved=settlement.over_reserved or (settlement.cost_pico > row.worst_pico and not row.own_key),
        settled_at=now,
        mirrored_epoch=None if row.windows else 0,
    )


def _cost(row: AttemptRow, settlement: Settlement) -> int:
    if settlement.state == "uncertain":
        return row.worst_pico
    if settlement.state == "void" or row.own_key:
        return 0
    return max(0, min(settlement.cost_pico, MOST_PICO))


def mirrored(row: AttemptRow, *, epoch: int, amount_pico: int, in_force: int) -> AttemptRow:
    """The row after Redis has confirmed an amount; unchanged where the amount or the epoch has passed."""
    if row.state == "in_flight" or row.cost_pico != amount_pico or epoch != in_force:
        return row
    return replace(row, mirrored_epoch=epoch)
