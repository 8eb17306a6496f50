"""The twin's prompt cache: which part of a prompt is read from it, which is written, by each dialect's rules."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from worker.embedded.twin.asked import Asked

LIFETIMES_S = {"5m": 300.0, "1h": 3600.0}
MINIMUM_TOKENS = 64


@dataclass(frozen=True)
class CacheCounts:
    """Tokens of one prompt that were read from the cache and written to it; `long` is part of `written`."""

    read: int = 0
    written: int = 0
    long: int = 0


class PromptCache:
    """Remembers prefixes by model and key. `minimum` is far under a real provider's 1,024, to suit small demos.

    anthropic: a prefix ends at a block with cache_control, is written at a premium and lives 5 minutes or an hour.
    openai: with a prompt_cache_key, prefixes end after every message, writing is free, they live 5 minutes.
    gemini: the same, without a key being asked for. Every read starts a prefix's life anew.
    """

    def __init__(self, *, minimum: int = MINIMUM_TOKENS) -> None:
        self.minimum = minimum
        self.reads = 0
        self.writes = 0
        self._skipped_s = 0.0
        self._until: dict[bytes, float] = {}

    def advance(self, seconds: float) -> None:
        """Let time pass for the cache alone."""
        self._skipped_s += seconds

    def reset(self) -> None:
        """Forget every prefix."""
        self._until.clear()
        self.reads = self.writes = 0

    def serve(self, asked: Asked) -> CacheCounts:
        """Look the prompt up and remember it; called when its answer begins, as providers do."""
        now = time.monotonic() + self._skipped_s
        ends = self._ends(asked)
        read = 0
        for key, tokens, lifetime in ends:
            if self._until.get(key, 0.0) > now:
                read = tokens
                self._until[key] = now + lifetime
        written = long = 0
        for key, tokens, lifetime in ends:
            if tokens > read:
                self._until[key] = now + lifetime
                long += (tokens - read - written) if lifetime > LIFETIMES_S["5m"] else 0
                written = tokens - read
        self.reads += read > 0
        self.writes += written > 0
        if asked.dialect != "anthropic":
            return CacheCounts(read=read)
        return CacheCounts(read=read, written=written, long=long)

    def _ends(self, asked: Asked) -> list[tuple[bytes, int, float]]:
        """Where a prefix may end: its key, its tokens and how long it lives, shortest first."""
        if asked.dialect == "openai" and not asked.cache_key:
            return []
        digest = hashlib.sha256(f"{asked.dialect}\0{asked.model}\0{asked.cache_key}".encode())
        tokens, ends = 0, []
        for segment in asked.segments:
            digest.update(b"\0" + segment.text.encode())
            tokens += segment.tokens
            ttl = segment.ttl if asked.dialect == "anthropic" else "5m"
            if ttl and tokens >= self.minimum:
                ends.append((digest.digest(), tokens, LIFETIMES_S[ttl]))
        return ends
