"""ReportUsage: a tenant's own usage, for the product that asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import cast

from producer_sdk.contract import ErrorCode, to_usd
from producer_sdk.contract.control import UsageDimension, UsageLine, UsageQuestion, UsageReport
from worker.errors import JobStopped, LedgerUnavailable
from worker.job_run import JobRun, utc_now
from worker.ledger.ledger import Ledger
from worker.ledger.queries import Dimension, Span, UsageRow

MOST_LINES = 5000


class ReportUsage:
    """Answers the control job `fairlane.usage`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def answer(self, job_run: JobRun, question: UsageQuestion) -> UsageReport:
        """The dearest 5,000 lines, and the sum of all. Raises JobStopped where that takes too long."""
        tenant, by = job_run.known_tenant().name, list(dict.fromkeys(question.by))
        since = question.since or utc_now().date().replace(day=1)
        span = Span(tenant, _midnight(since), _midnight(question.before) if question.before else None)
        dimensions = cast("Sequence[Dimension]", by)
        try:
            rows = await self._ledger.report(dimensions, span=span, limit=MOST_LINES) if by else []
            [total] = await self._ledger.report((), span=span, limit=1)
        except LedgerUnavailable as error:
            raise JobStopped.of(
                ErrorCode.DEADLINE_EXCEEDED,
                "the ledger has not summed this up in time: ask for fewer days, or by fewer dimensions",
            ) from error
        return UsageReport(
            tenant=tenant,
            since=since,
            before=question.before,
            lines=[_line(row) for row in rows],
            total=_line(total),
        )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


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
