"""Where the fleet is, from the environment; the one translator between Celery's and redis-py's URLs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from producer_sdk.errors import SettingsError

LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes on Linux, 103 on macOS


def default_home() -> Path:
    """The embedded fleet's folder: FAIRLANE_HOME, else ~/.fairlane."""
    return Path(os.environ.get("FAIRLANE_HOME") or Path.home() / ".fairlane").absolute()


def broker_socket(home: Path) -> Path:
    """The embedded broker's socket: in its home, or in a short folder where that is too long."""
    path = home / "broker.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fairlane-{os.getuid()}" / f"{name}.sock"


def embedded_url(home: Path) -> str:
    """The embedded broker's URL, in Celery's notation."""
    return f"redis+socket://{broker_socket(home)}"


@dataclass(frozen=True)
class FleetSettings:
    """What a producer needs to know. `broker_url` is in Celery's notation (redis://, redis+socket://).

    `lane_shards` is how many parts the lanes have, one number for the whole fleet; `broker_timeout_s` is for how long
    the SDK tries to reach the broker before BrokerUnavailable.
    """

    broker_url: str
    namespace: str = "fairlane"
    producer_key: bytes | None = field(default=None, repr=False)
    result_ttl_s: int = 86_400
    lane_shards: int = 1
    broker_timeout_s: float = 5.0

    @classmethod
    def from_env(cls, *, home: Path | None = None) -> FleetSettings:
        """FAIRLANE_BROKER_URL, FAIRLANE_NAMESPACE, FAIRLANE_PRODUCER_KEY, FAIRLANE_RESULT_TTL_S,
        FAIRLANE_LANE_SHARDS, FAIRLANE_BROKER_TIMEOUT_S.

        Without a broker URL it is the embedded broker of `home` (FAIRLANE_HOME where left out).
        """
        url = os.environ.get("FAIRLANE_BROKER_URL") or embedded_url(home or default_home())
        key = os.environ.get("FAIRLANE_PRODUCER_KEY")
        return cls(
            broker_url=celery_url(url),
            namespace=os.environ.get("FAIRLANE_NAMESPACE") or "fairlane",
            producer_key=key.encode() if key else None,
            result_ttl_s=_whole("FAIRLANE_RESULT_TTL_S", 86_400, least=1),
            lane_shards=_whole("FAIRLANE_LANE_SHARDS", 1, least=1, most=1024),
            broker_timeout_s=_seconds("FAIRLANE_BROKER_TIMEOUT_S", 5.0),
        )


def _whole(name: str, default: int, *, least: int, most: int = 10**9) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingsError(f"{name} must be a whole number from {least} to {most}, for example {default}")
    return int(text)


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 10**9:
        raise SettingsError(f"{name} must be a number of seconds above 0, for example {default:g}")
    return value


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
