"""Which messages a provider may keep in its prompt cache: the leading run of those with a cache key."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from producer_sdk.contract import Message


def static_prefix(messages: Sequence[Message]) -> list[Message]:
    """The static messages that nothing dynamic precedes: one behind a dynamic one would never be found again."""
    return list(takewhile(lambda message: message.cache_key is not None, messages))
