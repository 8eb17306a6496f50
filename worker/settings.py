"""The worker's settings: the one place that reads the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from producer_sdk.settings import FleetSettings, default_home
from worker.errors import ConfigError


@dataclass(frozen=True)
class WorkerSettings:
    """One worker process. Times are seconds."""

    fleet: FleetSettings
    ledger_url: str
    routing_path: Path
    home: Path
    worker_name: str
    slots: int = 200
    take_batch: int = 32
    lease_s: float = 45.0
    delivery_cap: int = 5
    soft_limit_s: float = 300.0
    hard_limit_s: float = 330.0
    shutdown_grace_s: float = 20.0
    watchdog_s: float = 30.0
    ledger_timeout_s: float = 10.0
    connect_timeout_s: float = 10.0
    local_url: str | None = None
    metrics_address: str | None = None
    uses_keys: bool = True

    @property
    def beat_s(self) -> float:
        """How often a worker says which deliveries it holds."""
        return self.lease_s / 3

    @classmethod
    def from_env(cls, *, home: Path | None = None) -> WorkerSettings:
        """Read FAIRLANE_* variables; `home` goes before FAIRLANE_HOME.

        Raises ConfigError with the variable's name and what would be right.
        """
        home = home.absolute() if home else default_home()
        return cls(
            fleet=FleetSettings.from_env(home=home),
            ledger_url=os.environ.get("FAIRLANE_LEDGER_URL") or f"sqlite:///{home / 'ledger.sqlite'}",
            routing_path=find_routing(os.environ.get("FAIRLANE_ROUTING")),
            home=home,
            worker_name=os.environ.get("FAIRLANE_WORKER_NAME") or f"{socket.gethostname()}-{os.getpid()}",
            slots=int(_number("FAIRLANE_SLOTS", 200)),
            take_batch=int(_number("FAIRLANE_TAKE_BATCH", 32)),
            lease_s=_number("FAIRLANE_LEASE_S", 45.0),
            delivery_cap=int(_number("FAIRLANE_DELIVERY_CAP", 5)),
            soft_limit_s=_number("FAIRLANE_SOFT_LIMIT_S", 300.0),
            hard_limit_s=_number("FAIRLANE_HARD_LIMIT_S", 330.0),
            shutdown_grace_s=_number("FAIRLANE_SHUTDOWN_GRACE_S", 20.0),
            watchdog_s=_number("FAIRLANE_WATCHDOG_S", 30.0),
            ledger_timeout_s=_number("FAIRLANE_LEDGER_TIMEOUT_S", 10.0),
            connect_timeout_s=_number("FAIRLANE_CONNECT_TIMEOUT_S", 10.0),
            local_url=local_url(),
            metrics_address=os.environ.get("FAIRLANE_METRICS_ADDRESS") or None,
            uses_keys=_on("FAIRLANE_PROVIDER_KEYS"),
        )

    def to_env(self, *, without: Collection[str] = ()) -> dict[str, str]:
        """The environment in which a child process reads these settings; `without` leaves out variables."""
        own = {
            "FAIRLANE_HOME": self.home,
            "FAIRLANE_BROKER_URL": self.fleet.broker_url,
            "FAIRLANE_NAMESPACE": self.fleet.namespace,
            "FAIRLANE_RESULT_TTL_S": self.fleet.result_ttl_s,
            "FAIRLANE_LANE_SHARDS": self.fleet.lane_shards,
            "FAIRLANE_BROKER_TIMEOUT_S": f"{self.fleet.broker_timeout_s:g}",
            "FAIRLANE_PRODUCER_KEY": (self.fleet.producer_key or b"").decode(),
            "FAIRLANE_LEDGER_URL": self.ledger_url,
            "FAIRLANE_ROUTING": self.routing_path,
            "FAIRLANE_WORKER_NAME": self.worker_name,
            "FAIRLANE_SLOTS": self.slots,
            "FAIRLANE_TAKE_BATCH": self.take_batch,
            "FAIRLANE_LEASE_S": self.lease_s,
            "FAIRLANE_DELIVERY_CAP": self.delivery_cap,
            "FAIRLANE_SOFT_LIMIT_S": self.soft_limit_s,
            "FAIRLANE_HARD_LIMIT_S": self.hard_limit_s,
            "FAIRLANE_SHUTDOWN_GRACE_S": self.shutdown_grace_s,
            "FAIRLANE_WATCHDOG_S": self.watchdog_s,
            "FAIRLANE_LEDGER_TIMEOUT_S": self.ledger_timeout_s,
            "FAIRLANE_CONNECT_TIMEOUT_S": self.connect_timeout_s,
            "FAIRLANE_LOCAL_URL": self.local_url or "",
            "FAIRLANE_METRICS_ADDRESS": self.metrics_address or "",
            "FAIRLANE_PROVIDER_KEYS": "on" if self.uses_keys else "off",
        }
        inherited = {name: value for name, value in os.environ.items() if name not in without}
        return inherited | {name: str(value) for name, value in own.items()}


def local_url() -> str | None:
    """Where the local model or the twin is."""
    return os.environ.get("FAIRLANE_LOCAL_URL") or None


def find_routing(path: str | None = None) -> Path:
    """FAIRLANE_ROUTING, else ./routing.yaml, else the one that comes with the package."""
    if path:
        return Path(path)
    package = Path(__file__).parent
    for candidate in (Path("routing.yaml"), package / "routing.yaml", package.parent / "routing.yaml"):
        if candidate.is_file():
            return candidate
    raise ConfigError("no routing.yaml found: set FAIRLANE_ROUTING to its path")


def key_variable(name: str) -> str | None:
    """What an environment variable that routing.yaml names holds."""
    return os.environ.get(name) or None


def _on(name: str) -> bool:
    text = os.environ.get(name) or "on"
    if text not in ("on", "off"):
        raise ConfigError(f"{name} must be on or off")
    return text == "on"


def _number(name: str, default: float) -> float:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise ConfigError(f"{name} must be a number above 0, for example {default:g}")
    return value
