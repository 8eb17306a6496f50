"""Signals: a soft limit is a log line, an event for Celery's monitors and a metric that Prometheus reads."""

from __future__ import annotations

import asyncio
import logging
import urllib.request

import pytest

from worker.embedded.ports import free_port
from worker.errors import ConfigError
from worker.telemetry.signals import Signals


class Monitor:
    """Stands for Celery's dispatcher."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.sent: list[tuple[str, dict[str, object]]] = []
        self.raises = raises

    def send(self, type: str, **fields: object) -> None:  # noqa: A002 - Celery's name
        self.sent.append((type, fields))
        if self.raises:
            raise self.raises


def reach(signals: Signals) -> None:
    signals.soft_limit(window="t:acme:d:2026-11-24", scope="t:acme:d", percent=80)


async def until_sent(monitor: Monitor) -> None:
    async with asyncio.timeout(5):
        while not monitor.sent:
            await asyncio.sleep(0.01)


async def test_a_soft_limit_is_logged_sent_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    signals, monitor, port = Signals(), Monitor(), free_port()
    signals.open(monitor, f"127.0.0.1:{port}")
    try:
        reach(signals)
        await until_sent(monitor)
        url = f"http://127.0.0.1:{port}/metrics"
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
    finally:
        signals.close()
    assert 'fairlane_budget_soft_limits_total{percent="80",scope="t:acme:d"} 1.0' in answer
    fields = {"window": "t:acme:d:2026-11-24", "scope": "t:acme:d", "percent": 80}
    assert monitor.sent == [("fairlane-budget-soft-limit", fields)]
    assert "80 % of the limit of t:acme:d:2026-11-24 is spent" in caplog.text


async def test_a_changed_routing_file_and_a_refused_one_are_sent_and_counted() -> None:
    signals, monitor, port = Signals(), Monitor(), free_port()
    signals.open(monitor, f"127.0.0.1:{port}")
    try:
        signals.routing_changed(version="0123456789ab", number=7)
        signals.routing_refused("routing.yaml:3:5: a mistake")
        async with asyncio.timeout(5):
            while len(monitor.sent) < 2:
                await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{port}/metrics"
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
    finally:
        signals.close()
    assert "fairlane_routing_number 7.0" in answer
    assert "fairlane_routing_refused_total 1.0" in answer
    assert sorted(monitor.sent) == [
        ("fairlane-routing-changed", {"version": "0123456789ab", "number": 7}),
        ("fairlane-routing-refused", {"why": "routing.yaml:3:5: a mistake"}),
    ]


async def test_a_monitor_that_cannot_be_told_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    signals, monitor = Signals(), Monitor(raises=ConnectionError("gone"))
    signals.open(monitor, None)
    reach(signals)
    await until_sent(monitor)
    async with asyncio.timeout(5):
        while "was not sent" not in caplog.text:
            await asyncio.sleep(0.01)
    signals.close()


@pytest.mark.parametrize("address", ["127.0.0.1:port", "127.0.0.1:99999", "nowhere"])
def test_an_address_that_cannot_be_served_says_so(address: str) -> None:
    with pytest.raises(ConfigError, match="FAIRLANE_METRICS_ADDRESS"):
        Signals().open(None, address)
