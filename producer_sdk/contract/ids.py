"""Identities: UUIDv7 for new jobs and attempts, UUIDv5 for a job with an idempotency key."""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime

_NAMESPACE = uuid.UUID("6f1b2c9e-3f0a-5d44-9a51-fa1e1a9e0001")


def uuid7() -> uuid.UUID:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, then randomness."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def created_at(identity: uuid.UUID) -> datetime:
    """The millisecond that a UUIDv7 carries, in UTC."""
    return datetime.fromtimestamp((identity.int >> 80) / 1000, UTC)


def replay_id(job_id: uuid.UUID) -> uuid.UUID:
    """The one job that replays this one: a replay that is repeated is the same job."""
    return uuid.uuid5(job_id, "replay")


def job_id_for_key(tenant: str, idempotency_key: str) -> uuid.UUID:
    """The job that this tenant means by this key: the same key is the same job, for ever."""
    return uuid.uuid5(_NAMESPACE, f"{len(tenant)}:{tenant}:{idempotency_key}")
