"""llama.cpp's server as a process of the fleet: its command, and waiting until it has loaded its model."""

from __future__ import annotations

import http.client
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path

from worker.embedded.ports import LOOPBACK
from worker.errors import FleetDown
from worker.routing_file import Deployment, RoutingFile

MODEL = "smollm2-135m"  # the name by which routing.yaml calls it, and by which it answers
START_S = 120.0
ASK_S = 2.0


def server_command(model: Path, port: int, *, threads: int) -> list[str]:
    """The server's command line."""
    command = [sys.executable, "-m", "worker.embedded.local_model", "--model", str(model)]
    return [*command, "--port", str(port), "--threads", str(threads)]


def check_installed() -> None:
    """Raise FleetDown when the extra is not installed here."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise FleetDown("the local model's server is not installed: pip install 'fairlane[local]'")


def local_deployments(routing: RoutingFile) -> list[Deployment]:
    """Those that the local model answers. Raises FleetDown when there are none: nothing would be answered."""
    found = [
        one for one in routing.deployments().values() if one.model == MODEL and one.provider.base_url_env
    ]
    if not found:
        raise FleetDown(
            f"routing.yaml has no deployment of the model {MODEL} at a provider with base_url_env: "
            "FAIRLANE_LOCAL_URL: add one to an alias, as the routing.yaml in the package has it"
        )
    return found


def wait_until_loaded(port: int, *, check: Callable[[], None], within_s: float = START_S) -> None:
    """Wait until it answers that it is ready; `check` may raise to give up earlier. Raises FleetDown."""
    end = time.monotonic() + within_s
    while not is_ready(port):
        check()
        if time.monotonic() > end:
            raise FleetDown(
                f"the local model was not loaded within {within_s:g} s: see local-model.log in the home's logs"
            )
        time.sleep(0.05)


def is_ready(port: int) -> bool:
    """Whether the server says that its model is loaded."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ASK_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
