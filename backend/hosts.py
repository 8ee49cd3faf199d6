"""Names that a request may call this machine by.

A page from elsewhere reaches it under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s\[\]:/?#@,\\]+))(?::[0-9]{0,5})?", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether a Host header (name or address, with or without a port) means this machine."""
    try:
        return _is_loopback(named(host))
    except ValueError:
        return False


def named(host: str) -> str:
    """The name or address in a Host header, without its port, in small letters. Raises ValueError on what is none."""
    found = _HOST.fullmatch(host)
    if found is None:
        raise ValueError(f"{host[:80]!r} is no name or address with a port")
    return str(found[1] or found[2]).lower()


def bracketed(address: str) -> str:
    """An address as URLs and Host headers write it."""
    return f"[{address}]" if ":" in address else address


def _is_loopback(name: str) -> bool:
    return name == "localhost" or ipaddress.ip_address(name).is_loopback
