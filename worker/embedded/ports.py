"""Free ports of this machine, and waiting until something listens on one."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from worker.errors import FleetDown

LOOPBACK = "127.0.0.1"


def free_port(preferred: int = 0) -> int:
    """`preferred` when it is free, else any free port of the loopback interface."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise FleetDown("no port is free on this machine: end something that listens on one")


def wait_until_listens(port: int, *, what: str, check: Callable[[], None], within_s: float = 60.0) -> None:
    """Wait until something accepts connections on the port; `check` may raise to give up earlier."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        check()
        try:
            socket.create_connection((LOOPBACK, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise FleetDown(f"{what} did not listen on port {port} within {within_s:g} s: see its log in the home")
