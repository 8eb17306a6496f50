"""The one client of a process: how many calls it can hold, and that nothing of one call reaches another."""

from __future__ import annotations

import resource

import httpx

from tests.worker.providers.attempts import settings
from worker.providers.client import MOST_CONNECTIONS, allow_open_files, open_client


async def test_the_client_keeps_to_the_settings_and_never_follows_or_borrows():
    async with open_client(settings(connect_timeout_s=3.0)) as client:
        assert client.timeout == httpx.Timeout(connect=3.0, read=600.0, write=60.0, pool=None)
        assert not client.follow_redirects
        assert not client.trust_env
        assert client.headers["accept-encoding"] == "identity"


async def test_the_network_can_be_replaced():
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, text="instant"))
    async with open_client(settings(), transport=transport) as client:
        assert (await client.get("http://nowhere.invalid")).text == "instant"


def test_the_limit_of_open_files_is_raised_and_never_lowered():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        allow_open_files(512)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512
        allow_open_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert MOST_CONNECTIONS >= 2000
