"""What a delivery's end tells the lanes."""

from __future__ import annotations

import pytest

from producer_sdk.contract import AttemptSummary, JobResult, Usage, uuid7
from worker.delivery import used_tokens


def attempt(status: str, read: int, written: int) -> AttemptSummary:
    return AttemptSummary(
        attempt_id=uuid7(),
        number=1,
        provider="p",
        deployment="p/m",
        model="m",
        status=status,
        usage=Usage(input_tokens=read, output_tokens=written),
    )


@pytest.mark.parametrize(
    ("attempts", "used"),
    [
        ([], (0, 0)),  # answered from a cache, or refused: no provider was asked for anything
        ([("settled", 100, 20)], (100, 20)),
        ([("failed", 100, 0), ("settled", 100, 20)], (200, 20)),
        ([("uncertain", 0, 0), ("settled", 100, 20)], None),  # the estimate stands
    ],
)
def test_the_tokens_that_providers_were_asked_for(
    attempts: list[tuple[str, int, int]], used: tuple[int, int] | None
) -> None:
    result = JobResult(job_id=uuid7(), status="succeeded", attempts=[attempt(*each) for each in attempts])
    assert used_tokens(result) == used
