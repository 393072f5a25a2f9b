"""Addresses that are never called: link-local ones, where clouds answer any program on a machine with that machine's credentials."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, Final

# Of clouds whose metadata is not at a link-local address: Alibaba, Azure, Oracle, AWS over IPv6.
METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"))
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class RefusedAddress(OSError):
    """A name stands for an address that is never called."""


def is_refused(host: str) -> bool:
    """Whether a host is such an address, however it is written; a name says nothing before it is resolved."""
    found = _address(host)
    if found is None:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inside = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inside = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
        if inside is not None:
            found = inside
    return found.is_link_local or found in METADATA


def open_socket(info: Any) -> socket.socket:
    """Open the socket for one resolved address (aiohttp's `socket_factory`): between this look and the call no name is resolved again.

    Raises:
        RefusedAddress: It is never called.
    """
    family, kind, protocol, _, address = info
    if is_refused(address[0]):
        raise RefusedAddress("Link-local and metadata addresses are never called.")
    return socket.socket(family, kind, protocol)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.split("%", 1)[0])
    except ValueError:
        pass
    try:  # also 2852039166, 0xa9fea9fe and 169.254.43518, which resolvers take
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host.isascii() and " " not in host else None
    except (OSError, ValueError):
        return None
