"""Names that a request may call this machine by.

A page from elsewhere reaches it under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a Host header (name or address, with or without a port) means this machine."""
    try:
        return _is_loopback(named(host))
    except ValueError:
        return False


def named(host: str) -> str:
    """The name or address in a Host header, without its port, in small letters. Raises ValueError on what is none."""
    return urlsplit(f"//{host}").hostname or ""


def bracketed(address: str) -> str:
    """An address as URLs and Host headers write it."""
    return f"[{address}]" if ":" in address else address


def _is_loopback(name: str) -> bool:
    return name == "localhost" or ipaddress.ip_address(name).is_loopback
