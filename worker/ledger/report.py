"""ReportUsage: a tenant's own usage, for the product that asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import cast

from producer_sdk.contract import to_usd
from producer_sdk.contract.control import UsageDimension, UsageLine, UsageQuestion, UsageReport
from worker.errors import HandBack, LedgerUnavailable
from worker.job_run import JobRun
from worker.ledger.ledger import Ledger
from worker.ledger.queries import Dimension, Span, UsageRow

MOST_LINES = 5000


class ReportUsage:
    """Answers the control job `fairlane.usage`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def answer(self, job_run: JobRun, question: UsageQuestion) -> UsageReport:
        """The dearest 5,000 lines, and the sum of all."""
        tenant = job_run.known_tenant().name
        span = Span(tenant, _midnight(question.since), _midnight(question.before))
        by = list(dict.fromkeys(question.by))
        try:
            rows = await self._ledger.usage(cast("Sequence[Dimension]", by), span=span) if by else []
            [total] = await self._ledger.usage((), span=span)
        except LedgerUnavailable as error:
            raise HandBack("the ledger is away", delay_ms=1000) from error
        return UsageReport(
            tenant=tenant,
            since=question.since,
            before=question.before,
            lines=[_line(row) for row in rows[:MOST_LINES]],
            total=_line(total),
        )


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None


def _line(row: UsageRow) -> UsageLine:
    return UsageLine(
        group={cast("UsageDimension", name): value for name, value in row.group.items()},
        attempts=row.attempts,
        cache_hits=row.hits,
        uncertain=row.uncertain,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cache_read_tokens=row.cache_read_tokens,
        cost_usd=to_usd(row.cost_pico),
        saved_usd=to_usd(row.saved_pico),
    )
