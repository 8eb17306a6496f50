"""Rate-limit headers: what is used up, and until when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.providers.rate_headers import exhausted_s

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
OPENAI, ANTHROPIC = "x-ratelimit-{}-{}", "anthropic-ratelimit-{1}-{0}"


def headers(family: str, kind: str, remaining: str, reset: str) -> dict[str, str]:
    return {family.format("remaining", kind): remaining, family.format("reset", kind): reset}


@pytest.mark.parametrize(
    ("family", "remaining", "reset", "seconds"),
    [
        (OPENAI, "0", "1s", 1.0),
        (OPENAI, "0", "6m0s", 360.0),
        (OPENAI, "0", "1h2m3.5s", 3723.5),
        (OPENAI, "0", "120ms", 0.12),
        (OPENAI, "0", "2m59.56s", 179.56),
        (OPENAI, "0", "12.5", 12.5),
        (OPENAI, "-3", "1s", 1.0),
        (OPENAI, "1", "6m0s", None),
        (OPENAI, "0", "0s", None),
        (OPENAI, "0", "", None),
        (OPENAI, "0", "soon", None),
        (OPENAI, "", "1s", None),
        (OPENAI, "none", "1s", None),
        (OPENAI, "0", "9999d", 86_400.0),
        (ANTHROPIC, "0", "2026-11-24T12:00:30Z", 30.0),
        (ANTHROPIC, "0", "2026-11-24T12:00:30", 30.0),
        (ANTHROPIC, "0", "2026-11-24T11:59:00Z", None),
        (ANTHROPIC, "17", "2026-11-24T12:00:30Z", None),
    ],
)
def test_a_limit_with_nothing_left_says_until_when(family, remaining, reset, seconds):
    assert exhausted_s(headers(family, "requests", remaining, reset), now=NOW) == seconds


def test_the_longest_of_the_limits_with_nothing_left_counts():
    told = headers(OPENAI, "requests", "0", "2s") | headers(OPENAI, "tokens", "0", "40s")
    assert exhausted_s(told, now=NOW) == 40.0
    told |= headers(OPENAI, "tokens", "900", "40s")
    assert exhausted_s(told, now=NOW) == 2.0
    assert exhausted_s(headers(ANTHROPIC, "input-tokens", "0", "2026-11-24T12:01:00Z"), now=NOW) == 60.0
    assert exhausted_s({}, now=NOW) is None


@given(
    remaining=st.text(max_size=20), reset=st.text(max_size=40), family=st.sampled_from([OPENAI, ANTHROPIC])
)
def test_whatever_stands_there_nothing_breaks_and_no_wait_is_longer_than_a_day(remaining, reset, family):
    found = exhausted_s(headers(family, "tokens", remaining, reset), now=NOW)
    assert found is None or 0 < found <= 86_400
