"""A process may die, and a reply may be lost, at every boundary of a life; a recording run makes the list."""

import pytest

from tests.chaos.crash_matrix import LIVES, Life, record_own, strike_each
from tests.chaos.crossings import Mode
from tests.chaos.stage import Stage

MODES = (Mode.DIES_BEFORE, Mode.DIES_AFTER, Mode.REPEATS, Mode.GIVES_UP)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
async def test_wherever_a_life_is_struck_its_job_ends_once_and_every_call_is_booked(
    stage: Stage, life: Life, mode: Mode
) -> None:
    at = await record_own(stage, life)
    struck = await strike_each(stage, life, mode, at)
    assert not struck.faults, "\n".join(struck.faults)
    assert struck.cases == len(at) > 5
    assert struck.not_met < struck.cases / 5
