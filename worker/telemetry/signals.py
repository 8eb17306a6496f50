"""Signals: what an operator is told at once, as a log line, an event for Celery's monitors, and a Prometheus metric."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from worker.errors import ConfigError
from worker.telemetry.deployments import DeploymentSignals

logger = logging.getLogger(__name__)


class Dispatcher(Protocol):
    """Celery's event dispatcher; `send` blocks."""

    def send(self, type: str, **fields: object) -> object:  # noqa: A002 - Celery's name
        """Send one event."""
        ...


class Signals:
    """One worker's. Without a dispatcher or a metrics address that part falls away."""

    def __init__(self) -> None:
        self.dispatcher: Dispatcher | None = None  # set with every connection of Celery's
        self._registry = CollectorRegistry()
        self._soft_limits = Counter(
            "fairlane_budget_soft_limits",
            "How often what was spent in a budget's window has reached this percentage of its limit",
            ["scope", "percent"],
            registry=self._registry,
        )
        self._retries = Counter(
            "fairlane_retries",
            "Retries asked of tenants' retry budgets, by who makes them, and whether they were paid for",
            ["by", "outcome"],
            registry=self._registry,
        )
        self.deployments = DeploymentSignals(self._registry, self._event)
        self._routing_number = Gauge(
            "fairlane_routing_number",
            "The number of the routing.yaml with which new jobs begin here; it grows by one with each change",
            registry=self._registry,
        )
        self._routing_refused = Counter(
            "fairlane_routing_refused",
            "How often a routing.yaml was refused here, so that the one before stayed",
            registry=self._registry,
        )
        self._sending: set[asyncio.Task[object]] = set()
        self._server: object = None

    def soft_limit(self, *, window: str, scope: str, percent: int) -> None:
        """A window has reached a soft limit. Call it on the event loop."""
        logger.warning("budget soft limit: %d %% of the limit of %s is spent", percent, window)
        self._soft_limits.labels(scope, str(percent)).inc()
        self._event("fairlane-budget-soft-limit", {"window": window, "scope": scope, "percent": percent})

    def retry(self, by: str, is_paid: bool) -> None:
        """The retry budget of a tenant was asked."""
        self._retries.labels(by, "paid" if is_paid else "refused").inc()

    def routing_number(self, number: int) -> None:
        """The number of the routing.yaml with which new jobs begin."""
        self._routing_number.set(number)

    def routing_changed(self, *, version: str, number: int) -> None:
        """New jobs begin with another routing.yaml. Call it on the event loop."""
        self.routing_number(number)
        self.deployments.forget()
        self._event("fairlane-routing-changed", {"version": version, "number": number})

    def routing_refused(self, sentence: str) -> None:
        """A routing.yaml was refused; the one before stays. Call it on the event loop."""
        self._routing_refused.inc()
        self._event("fairlane-routing-refused", {"why": sentence})

    def _event(self, name: str, fields: dict[str, object]) -> None:
        if self.dispatcher is None:
            return
        sending = asyncio.create_task(self._send(name, fields))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def _send(self, name: str, fields: dict[str, object]) -> None:
        """Whoever watches is told where that can be done: no job waits for it, and none fails by it."""
        dispatcher = self.dispatcher
        try:
            if dispatcher:
                await asyncio.to_thread(lambda: dispatcher.send(name, **fields))
        except Exception as error:  # noqa: BLE001 - a monitor that cannot be told is no reason to stop
            logger.warning("the event %s was not sent: %s", name, type(error).__name__)

    def open(self, dispatcher: Dispatcher | None, metrics_address: str | None) -> None:
        """Send events through this dispatcher, and answer Prometheus at host:port. Raises ConfigError."""
        self.dispatcher = dispatcher
        if metrics_address:
            self._serve(metrics_address)

    def _serve(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        try:
            self._server, _thread = start_http_server(int(port), host or "127.0.0.1", registry=self._registry)
        except (ValueError, OverflowError, OSError) as error:
            raise ConfigError(
                f"FAIRLANE_METRICS_ADDRESS '{address}' cannot be served ({error}): write a free host:port"
            ) from error

    def close(self) -> None:
        """Stop answering."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()  # type: ignore[attr-defined]  # a WSGIServer
            server.server_close()  # type: ignore[attr-defined]
