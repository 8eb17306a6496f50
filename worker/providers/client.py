"""The one HTTP client of a worker process: httpx over aiohttp's pool."""

from __future__ import annotations

import errno
import resource
import socket
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohappyeyeballs import AddrInfoType, SocketFactoryType
from httpx_aiohttp import AiohttpTransport

from worker.addresses import RefusedAddress, is_refused
from worker.routing_file import Provider, RoutingFile
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
    settings: WorkerSettings,
    routing: RoutingFile | None = None,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """The client; `transport` replaces the network, for benchmarks and for tests without one.

    Nothing of one call reaches another: no cookies, no redirects, no credentials from the environment. Only the hosts
    of `routing`'s providers that say so are called at link-local and metadata addresses.
    """
    mounts: dict[str, httpx.AsyncBaseTransport] = {}
    if transport is None:
        transport = _over_aiohttp(_guarded)
        hosts = _link_local_hosts(routing, settings.local_url) if routing else set()
        if hosts:
            mounts = dict.fromkeys((f"all://{host}" for host in hosts), _over_aiohttp())
        allow_open_files(MOST_CONNECTIONS + _SPARE_FILES)
    # Waiting for a free connection (`pool`) has no timeout of its own: it would look like a failure to connect.
    timeout = httpx.Timeout(connect=settings.connect_timeout_s, read=READ_S, write=WRITE_S, pool=None)
    return httpx.AsyncClient(
        transport=transport,
        mounts=mounts,
        timeout=timeout,
        headers={"user-agent": "fairlane", "accept-encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


class Clients:
    """A worker's clients: one for each set of hosts that may be called at link-local addresses, which hardly changes.

    A client of a routing.yaml that was replaced stays, for the calls under way on it; idle, it holds no connection.
    """

    def __init__(
        self, settings: WorkerSettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings, self._transport = settings, transport
        self._open: dict[frozenset[str], httpx.AsyncClient] = {}

    def of(self, routing: RoutingFile) -> httpx.AsyncClient:
        """The client of this routing's calls."""
        hosts = frozenset(_link_local_hosts(routing, self._settings.local_url))
        if hosts not in self._open:
            self._open[hosts] = open_client(self._settings, routing, transport=self._transport)
        return self._open[hosts]

    async def close(self) -> None:
        """Close all of them."""
        for client in self._open.values():
            await client.aclose()


def called_at(provider: Provider, local_url: str | None) -> str:
    """The base URL that this provider's calls go to."""
    return local_url if provider.base_url_env and local_url else provider.base_url


def allow_open_files(number: int) -> None:
    """Raise this process's soft limit of open files to `number`, as far as its hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _link_local_hosts(routing: RoutingFile, local_url: str | None) -> set[str]:
    allowed = [one for one in routing.providers.values() if one.allow_link_local]
    hosts = {urlsplit(called_at(one, local_url)).hostname or "" for one in allowed} - {""}
    return {f"[{host}]" if ":" in host else host for host in hosts}


def _guarded(found: AddrInfoType) -> socket.socket:
    """The socket for one address that a host has, whatever its name said before: nothing else can be connected to."""
    family, kind, protocol, _name, address = found
    if is_refused(str(address[0]).partition("%")[0]):
        raise RefusedAddress(errno.EACCES, "no provider is called at a link-local or metadata address")
    return socket.socket(family, kind, protocol)


def _over_aiohttp(socket_factory: SocketFactoryType | None = None) -> AiohttpTransport:
    context = httpx.create_ssl_context(trust_env=False)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=MOST_CONNECTIONS,
            keepalive_timeout=KEEPALIVE_S,
            ttl_dns_cache=DNS_TTL_S,
            ssl=context,
            socket_factory=socket_factory,
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return AiohttpTransport(verify=context, client=session)
