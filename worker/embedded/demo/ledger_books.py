"""The ledger's side of the books: one line for each attempt that has ended, whatever its end."""

from __future__ import annotations

import asyncio
from uuid import UUID

from worker.embedded.demo.twin_books import Line
from worker.ledger.ledger import Ledger


def read_ledger_books(url: str) -> dict[UUID, Line]:
    """Every attempt's row that cost something or says tokens, by attempt. Raises LedgerUnavailable."""
    return asyncio.run(_read(url))


async def _read(url: str) -> dict[UUID, Line]:
    ledger = Ledger(url)
    ledger.start()
    try:
        lines = await ledger.attempt_lines()
    finally:
        await ledger.close()
    return {
        line.id: Line(line.input_tokens + line.output_tokens, line.cost_pico)
        for line in lines
        if line.cost_pico or line.input_tokens or line.output_tokens
    }
