"""TensorZero as `budget_burst` runs it: an environment of its own, its configuration, its gateway over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from benchmarks import throwaway
from benchmarks.lane_rig import blocking
from benchmarks.rig import valkey
from benchmarks.throwaway import NotHere
from tests.servers import Valkey, wait_until
from worker.embedded.ports import free_port
from worker.embedded.twin.prices import TWIN_PRICES

VERSION = "2026.6.0"
PACKAGE = f"tensorzero=={VERSION}"
NOT_CORRECTED = "actual cost is not available"
START_S, CALL_S = 60, 60
CONFIG = """
[gateway]
disable_pseudonymous_usage_analytics = true

[rate_limiting]
enabled = true
backend = "valkey"
default_cost = {default_cost}

[[rate_limiting.rules]]
{limit}
always = true
scope = [{{ tag_key = "tenant", tag_value = "tensorzero::each" }}]

[models.twin]
routing = ["twin"]

[models.twin.providers.twin]
type = "openai"
model_name = "{model}"
api_base = "{upstream}/"
api_key_location = "none"
cost = [
  {{ pointer = "/usage/prompt_tokens", cost_per_million = {input_price}, required = true }},
  {{ pointer = "/usage/completion_tokens", cost_per_million = {output_price}, required = true }},
]
"""


def install(folder: Path) -> Path:
    """The Python of a new environment with the package. Raises NotHere."""
    return throwaway.install(folder, PACKAGE) / "python"


def configuration(upstream: str, *, model: str, limit: str, default_cost: float) -> str:
    """Its configuration, with the twin's own prices; `limit` is the rule's one line."""
    price = TWIN_PRICES[model]
    return CONFIG.format(
        limit=limit,
        default_cost=default_cost,
        model=model,
        upstream=upstream,
        input_price=price.input / 10**6,
        output_price=price.output / 10**6,
    )


@contextmanager
def gateway(python: Path, config: str, *, folder: Path, log: Path) -> Iterator[str]:
    """Its OpenAI base URL, with a Valkey of its own. Raises NotHere."""
    path = folder / "tensorzero.toml"
    path.write_text(config)
    script = Path(__file__).with_name("tensorzero_gateway.py")
    with valkey("always") as server, log.open("ab") as out:
        command = [str(python), str(script), str(path), _listening(server)]
        child = subprocess.Popen(command, stdout=out, stderr=out, env=throwaway.environ())
        try:
            yield _url(child, log)
        finally:
            child.kill()
            child.wait(20)


def _listening(server: Valkey) -> str:
    """The URL of a port for it: its client takes no unix socket."""
    port = free_port()
    with blocking(server) as client:
        client.config_set("bind", "127.0.0.1")
        client.config_set("port", port)
    return f"redis://127.0.0.1:{port}"


def _url(child: subprocess.Popen[bytes], log: Path) -> str:
    """What `tensorzero_gateway.py` has printed between the lines of the gateway's log."""

    def printed() -> list[str]:
        return [line for line in log.read_text(errors="replace").splitlines() if line.startswith('{"url"')]

    with suppress(AssertionError):
        wait_until(lambda: child.poll() is not None or printed(), within_s=START_S)
    if not printed():
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise NotHere(f"{PACKAGE} does not start: {' '.join(last)[:200]}")
    return str(json.loads(printed()[0])["url"])


async def ask(client: httpx.AsyncClient, url: str, *, message: str, max_tokens: int) -> bool:
    """One call of the tenant acme; False when its limit refused it."""
    body: Mapping[str, object] = {
        "model": "tensorzero::model_name::twin",
        "messages": [{"role": "user", "content": message}],
        "max_tokens": max_tokens,
        "tensorzero::tags": {"tenant": "acme"},
    }
    reply = await client.post(f"{url}/chat/completions", json=body)
    assert reply.status_code in (200, 429), reply.text[:200]
    return reply.status_code == 200


async def burst(url: str, messages: list[str], *, max_tokens: int) -> int:
    """All of them at once; how many were admitted."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=CALL_S, limits=limits) as client:
        calls = (ask(client, url, message=message, max_tokens=max_tokens) for message in messages)
        return sum(await asyncio.gather(*calls))


async def rest(url: str, messages: list[str], *, max_tokens: int) -> int:
    """One by one, until one is refused; how many were admitted."""
    async with httpx.AsyncClient(timeout=CALL_S) as client:
        for count, message in enumerate(messages):
            if not await ask(client, url, message=message, max_tokens=max_tokens):
                return count
    return len(messages)
