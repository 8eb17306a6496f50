"""How fast a deployment answers, as the fleet's last calls have measured it, and what that foretells of a job."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ENOUGH_ANSWERS = 3  # fewer foretell nothing
STALE_S = 300.0  # what was measured before that foretells nothing either


@dataclass(frozen=True)
class Speed:
    """Means over a deployment's last answers, in which newer ones count for more.

    `first_ms` until an answer's first token came, `token_ms` for each one after it (None: no answer was long enough to
    tell), `output_tokens` of an answer. `answers` are in it, the last one `age_s` seconds ago.
    """

    answers: int
    first_ms: float
    token_ms: float | None
    output_tokens: float
    age_s: float

    @property
    def is_known(self) -> bool:
        """Whether it foretells anything."""
        return self.answers >= ENOUGH_ANSWERS and self.age_s <= STALE_S

    def predicted_ms(self, output_tokens: float) -> int:
        """How long an answer of so many tokens takes."""
        return round(self.first_ms + output_tokens * (self.token_ms or 0.0))


def expected_tokens(speeds: Iterable[Speed], *, at_most: int) -> float:
    """How long an answer will be: the mean of those measured, the same for all, so that only their speed compares."""
    known = [speed.output_tokens for speed in speeds if speed.is_known]
    return min(sum(known) / len(known), at_most) if known else at_most
