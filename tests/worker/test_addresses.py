"""Addresses where no provider is, in every spelling, and that those of local models are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.good_routing_file import GOOD, NO_PROVIDER, replaced
from worker.addresses import is_refused, refused_host
from worker.routing_load import check, load

REFUSED = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.23",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "2852039166",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "025177524776",
    "169.254.43518",
    "169.16689662",
    "１６９．２５４．１６９．２５４",
    "169。254。169。254",
    "169%2e254.169.254",
    "169.254.169.254.",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fd00:ec2::254]",
    "[FD00:EC2::254]",
    "[fd20:ce::254]",
    "[::ffff:169.254.169.254]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "metadata.google.internal",
    "METADATA.google.internal.",
    "metadata",
    "instance-data.ec2.internal",
]
ALLOWED = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "0.0.0.0",
    "10.0.0.7",
    "192.168.1.20",
    "172.17.0.1",
    "[fd12:3456::1]",
    "host.docker.internal",
    "api.openai.com",
    "169.254.example.org",
    "metadata.example.org",
    "ollama",
    "169.253.1.1",
    "[::ffff:10.0.0.7]",
    "2130706433",
]


@pytest.mark.parametrize("host", REFUSED)
@pytest.mark.parametrize("around", ["http://{}", "https://{}/v1", "http://{}:8000/v1"])
def test_a_host_that_is_link_local_or_a_metadata_service_is_known_in_every_spelling(host: str, around: str):
    assert refused_host(around.format(host))


@pytest.mark.parametrize("host", ALLOWED)
def test_loopback_private_networks_and_names_are_allowed(host: str):
    assert refused_host(f"http://{host}:8000/v1") is None


@given(st.ip_addresses(network="169.254.0.0/16"), st.sampled_from(["{}", "::ffff:{}", "::{}"]))
def test_every_link_local_address_is_refused_however_it_is_wrapped(address: object, wrapped: str):
    assert is_refused(wrapped.format(address))


@given(st.text(max_size=40))
def test_any_text_can_be_asked_about(text: str):
    refused_host(text)
    refused_host(f"http://{text}/v1")


def test_a_provider_may_say_that_it_is_there(tmp_path: Path):
    path = tmp_path / "routing.yaml"
    url = "http://169.254.7.7/v1"
    path.write_text(replaced("https://api.openai.com/v1", f"{url}, allow_link_local: true"))
    assert check(path) == []
    assert load(path).providers["openai"].allow_link_local
    assert not load(path).providers["local"].allow_link_local


def test_the_environments_address_is_checked_where_the_file_names_it(tmp_path: Path):
    path = tmp_path / "routing.yaml"
    path.write_text(GOOD)
    assert check(path, local_url="http://127.0.0.1:8080") == []
    assert check(path, local_url="http://0xA9FEA9FE/") == [
        f"routing.yaml:3:42: providers.local.base_url_env: '0xa9fea9fe' {NO_PROVIDER}"
    ]
    path.write_text(replaced("base_url_env: F", "allow_link_local: true, base_url_env: F"))
    assert check(path, local_url="http://169.254.169.254") == []
