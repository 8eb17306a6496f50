"""The one HTTP client of a worker process: httpx over aiohttp's pool."""

from __future__ import annotations

import resource

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from worker.settings import WorkerSettings

MOST_CONNECTIONS = 4_000
# A call that reuses a connection just as the server closes it may or may not have been billed, so that an idle one is
# closed by us, before the shortest-lived servers (Node's, uvicorn's and llama.cpp's: 5 s) would.
KEEPALIVE_S = 4.0
# The longest silence inside an answer; models that think are silent for minutes. The attempt's own timeout is shorter.
READ_S = 600.0
WRITE_S = 60.0
DNS_TTL_S = 60
_SPARE_FILES = 256


def open_client(
    settings: WorkerSettings, *, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """The client; `transport` replaces the network, for benchmarks and for tests without one.

    Nothing of one call reaches another: no cookies, no redirects, no credentials from the environment.
    """
    if transport is None:
        transport = _over_aiohttp()
        allow_open_files(MOST_CONNECTIONS + _SPARE_FILES)
    # Waiting for a free connection (`pool`) has no timeout of its own: it would look like a failure to connect.
    timeout = httpx.Timeout(connect=settings.connect_timeout_s, read=READ_S, write=WRITE_S, pool=None)
    return httpx.AsyncClient(
        transport=transport,
        timeout=timeout,
        headers={"user-agent": "fairlane", "accept-encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


def allow_open_files(number: int) -> None:
    """Raise this process's soft limit of open files to `number`, as far as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _over_aiohttp() -> AiohttpTransport:
    context = httpx.create_ssl_context(trust_env=False)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=MOST_CONNECTIONS, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=DNS_TTL_S, ssl=context
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return AiohttpTransport(verify=context, client=session)
