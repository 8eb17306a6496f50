"""What a producer asks of the fleet itself: control jobs, whose one message is a question in JSON.

A worker answers them with `JobResult.data`, for it knows the prices and the ledger. No routing.yaml names their tasks.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from producer_sdk.contract.job import Frozen, Job

RESERVE = "fairlane.reserve"
CONFIRM = "fairlane.confirm"
RELEASE = "fairlane.release"
USAGE = "fairlane.usage"
CONTROL_PREFIX = "fairlane."
MOST_LINES = 1000
MOST_PIECES = 20_000
LONGEST_RESERVE_S = 30 * 86_400
UsageDimension = Literal["feature", "task", "model", "provider", "day", "prompt_version", "run"]


Seconds = Annotated[int, Field(gt=0, le=LONGEST_RESERVE_S)]


def pieces(job: Job) -> int:
    """Of how many texts a job is made."""
    return len(job.messages) + len(job.documents) + len(job.inputs)


class ReserveBatch(Frozen):
    """Hold the sum of what these jobs of one tenant may cost, for so long. The control job's id names the batch.

    Ask for minutes, put the lines, and confirm: what a producer that dies meanwhile has held is free again soon.
    """

    lines: Annotated[list[Job], Field(min_length=1, max_length=MOST_LINES)]
    for_s: Seconds

    @model_validator(mode="after")
    def _can_be_priced(self) -> ReserveBatch:
        """All of it is read at once, while other jobs wait."""
        if sum(pieces(line) for line in self.lines) > MOST_PIECES:
            raise ValueError(
                f"together the lines should have at most {MOST_PIECES} messages, documents and inputs"
            )
        return self


class BatchReserved(Frozen):
    """The sum is held until then. 0 USD: no budget limits the tenant, so there is nothing to hold."""

    batch_id: UUID
    lines: int
    reserved_usd: Decimal
    expires_at: AwareDatetime


class ConfirmBatches(Frozen):
    """Of each batch, how many lines their lanes have accepted: when those have ended, or after `for_s`, it ends too."""

    batches: Annotated[dict[UUID, Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=MOST_LINES)]
    for_s: Seconds


class ReleaseBatches(Frozen):
    """These batches end now; one that is not there yet never begins."""

    batches: Annotated[list[UUID], Field(min_length=1, max_length=MOST_LINES)]


class UsageQuestion(Frozen):
    """The usage of the job's tenant, by these dimensions; days are in UTC, `before` is not in it.

    Without `since`: from the first of this month on.
    """

    by: Annotated[list[UsageDimension], Field(max_length=7)] = []
    since: date | None = None
    before: date | None = None


class UsageLine(Frozen):
    """What one group has used. `attempts` are provider calls, `cache_hits` what the fleet answered without one."""

    group: dict[UsageDimension, str]
    attempts: int
    cache_hits: int
    uncertain: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cost_usd: Decimal
    saved_usd: Decimal


class UsageReport(Frozen):
    """A tenant's usage, for its own billing page: the dearest line first, then the sum of all."""

    tenant: str
    since: date
    before: date | None
    lines: list[UsageLine]
    total: UsageLine
