"""What stands before the turns: the static run of messages that a provider may cache, and the system's prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from producer_sdk.contract import Message


def static_prefix(messages: Sequence[Message]) -> list[Message]:
    """The static messages that nothing dynamic precedes: one behind a dynamic one would never be found again."""
    return list(takewhile(lambda message: message.cache_key is not None, messages))


def system_as_user(messages: Sequence[Message]) -> int:
    """The system message that begins the turns, where no user does: the last one before them; -1 for none."""
    spoken = next((place for place, one in enumerate(messages) if one.role != "system"), len(messages))
    return spoken - 1 if spoken == len(messages) or messages[spoken].role == "assistant" else -1
