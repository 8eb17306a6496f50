"""Addresses where no provider is: link-local ones, and those where clouds hand out a machine's own credentials.

Loopback and private networks are no such addresses, for that is where local models are.
"""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from urllib.parse import unquote, urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Metadata services outside the link-local ranges: AWS, Google, Alibaba, Azure, Oracle.
_METADATA = tuple(
    ipaddress.ip_network(network)
    for network in ("fd00:ec2::/32", "fd20:ce::/32", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


class RefusedAddress(PermissionError):
    """A connection to such an address was not opened."""


def is_refused(address: str) -> bool:
    """Whether an IP address is link-local or a metadata service's, also where IPv6 only wraps it."""
    return any(
        one.is_link_local or any(one.version == net.version and one in net for net in _METADATA)
        for one in _with_wrapped(ipaddress.ip_address(address))
    )


def refused_host(url: str) -> str | None:
    """The host of a URL if it is a metadata service's name or such an address, however that is spelled; else None.

    Names are not looked up here: what one resolves to is looked at when a connection is opened.
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None  # no URL: nothing can be called there
    plain = unicodedata.normalize("NFKC", unquote(host)).lower().replace("。", ".").rstrip(".")
    if plain in _METADATA_NAMES:
        return host
    spelled = _address(plain)
    return host if spelled and is_refused(spelled) else None


def _address(host: str) -> str | None:
    """The address that a literal means to a C library: 2852039166, 0xA9FEA9FE and 0251.0376.43518 are addresses too."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _with_wrapped(address: Address) -> list[Address]:
    """The address and the IPv4 address inside it: mapped, compatible, NAT64, 6to4."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    inside = address.ipv4_mapped or address.sixtofour
    if inside is None and (address in _NAT64 or address in _COMPATIBLE):
        inside = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return [address, inside] if inside else [address]
