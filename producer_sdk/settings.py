"""Where the fleet is, from the environment; the one translator between Celery's and redis-py's URLs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from producer_sdk.errors import SettingsError

LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes on Linux, 103 on macOS


def default_home() -> Path:
    """The embedded fleet's folder: FAIRLANE_HOME, else ~/.fairlane."""
    return Path(os.environ.get("FAIRLANE_HOME") or Path.home() / ".fairlane").absolute()


def broker_socket(home: Path) -> Path:
    """The embedded broker's socket: in its home, or in a short folder of this user's when that is too long."""
    path = home / "broker.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fairlane-{os.getuid()}" / f"{name}.sock"


@dataclass(frozen=True)
class FleetSettings:
    """What a producer needs to know. `broker_url` is in Celery's notation (redis://, redis+socket://)."""

    broker_url: str
    namespace: str = "fairlane"
    producer_key: bytes | None = None
    result_ttl_s: int = 86_400

    @classmethod
    def from_env(cls) -> FleetSettings:
        """FAIRLANE_BROKER_URL, FAIRLANE_NAMESPACE, FAIRLANE_PRODUCER_KEY, FAIRLANE_RESULT_TTL_S."""
        url = os.environ.get("FAIRLANE_BROKER_URL") or f"redis+socket://{broker_socket(default_home())}"
        key = os.environ.get("FAIRLANE_PRODUCER_KEY")
        ttl = os.environ.get("FAIRLANE_RESULT_TTL_S", "86400")
        if not ttl.isdigit() or int(ttl) == 0:
            raise SettingsError("FAIRLANE_RESULT_TTL_S must be a whole number of seconds above 0")
        return cls(
            broker_url=celery_url(url),
            namespace=os.environ.get("FAIRLANE_NAMESPACE") or "fairlane",
            producer_key=key.encode() if key else None,
            result_ttl_s=int(ttl),
        )


def celery_url(url: str) -> str:
    """Celery's notation of a broker URL: a unix socket is redis+socket:///path."""
    if url.startswith("unix://"):
        return "redis+socket://" + url.removeprefix("unix://")
    return _checked(url)


def redis_url(url: str) -> str:
    """redis-py's notation of a broker URL: a unix socket is unix:///path, its database is ?db=."""
    if url.startswith("redis+socket://"):
        return "unix://" + url.removeprefix("redis+socket://").replace("virtual_host=", "db=")
    return _checked(url)


def _checked(url: str) -> str:
    if not url.startswith(("redis://", "rediss://", "redis+socket://", "unix://")):
        raise SettingsError(
            "the broker URL must start with redis://, rediss:// or redis+socket://, for example "
            "redis://localhost:6379/0"
        )
    return url
