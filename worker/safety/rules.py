"""Whether an untrusted text speaks to the model: rules over the folded text, window by window.

A strong rule stands on its own and is acted on by the tenant's tier; a weak one is only ever noted. The patterns are
in phrases.py, the figures in docs/safety.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from worker.safety import phrases
from worker.safety.normalise import SHOWN_HIDDEN_CHARACTERS, folded, looked_alike, visible

Channel = Literal["tool_result", "document"]
WINDOW = 4_096
OVERLAP = 512
MAX_SCANNED = 4_000_000


@dataclass(frozen=True)
class Rule:
    """One rule: its patterns, each with its hints; `channel` None means both channels."""

    name: str
    patterns: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]
    strong: bool
    channel: Channel | None = None

    def meets(self, plain: str) -> bool:
        """Whether a folded text meets the rule."""
        return any(
            any(hint in plain for hint in hints) and pattern.search(plain) for hints, pattern in self.patterns
        )


def _composed(text: str) -> str:
    """Folded text is NFKC, which writes some letters of Hindi and Thai in two characters."""
    return unicodedata.normalize("NFKC", text)


def _rule(
    name: str, said: tuple[phrases.Phrase, ...], *, strong: bool = True, channel: Channel | None = None
) -> Rule:
    patterns = tuple(
        (tuple(map(_composed, hints)), re.compile(_composed(pattern))) for hints, pattern in said
    )
    return Rule(name, patterns, strong, channel)


RULES: tuple[Rule, ...] = (
    _rule("override", phrases.OVERRIDE),
    _rule("override_elsewhere", phrases.OVERRIDE_ELSEWHERE),
    _rule("role_token", phrases.ROLE_TOKEN),
    _rule("new_orders", phrases.NEW_ORDERS),
    _rule("to_the_model", phrases.TO_THE_MODEL),
    _rule("exfiltration", phrases.EXFILTRATION),
    _rule("steering", phrases.STEERING, strong=False),
    _rule("urgent_orders", phrases.URGENT_ORDERS, strong=False),
    _rule("order_in_tool_result", phrases.ORDER_IN_TOOL_RESULT, strong=False, channel="tool_result"),
)


@dataclass(frozen=True)
class Verdict:
    """The names of the rules that a text meets."""

    strong: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()


def scan(text: str, channel: Channel) -> Verdict:
    """Which rules the text meets. Linear in the text; one over MAX_SCANNED characters is `too_long_to_scan`."""
    if len(text) > MAX_SCANNED:
        return Verdict(strong=("too_long_to_scan",))
    seen = visible(text)
    met = {"hidden_text"} if seen.hidden > SHOWN_HIDDEN_CHARACTERS else set()
    rules = [rule for rule in RULES if rule.channel in (None, channel)]
    for window in windows(seen.text):
        met.update(rule.name for rule in rules if rule.name not in met and rule.meets(window))
    weak = {rule.name for rule in rules if not rule.strong}
    return Verdict(strong=tuple(sorted(met - weak)), weak=tuple(sorted(met & weak)))


def windows(text: str) -> Iterator[str]:
    """The text folded in overlapping windows, and each one again where letters of two scripts meet in a word."""
    step = WINDOW - OVERLAP
    for start in range(0, max(1, len(text) - OVERLAP), step):
        plain = folded(text[start : start + WINDOW])
        yield plain
        alike = looked_alike(plain)
        if alike is not None:
            yield alike
