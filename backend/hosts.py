"""Names that a request may call this machine by, and the token that others than this machine send.

A page from elsewhere reaches it under a name of its own (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
import re

MIN_TOKEN = 16  # characters
APP_TOKEN = "EM_TOKEN"  # environment: the app's token
BEHIND = "EM_DOOR"  # environment: set where the app's pages are behind that token
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


def token_refused(variable: str, token: str, *, local: bool) -> str | None:
    """Why nobody may serve with this token, which the environment's `variable` holds; None where it is good.

    What this machine alone can reach (`local`) may be without one.
    """
    if not token and not local:
        return (
            f"who serves other machines sets a token in {variable}, which they send: "
            'python -c "import secrets; print(secrets.token_urlsafe())" makes one'
        )
    if token and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        return f"the token in {variable} must be at least {MIN_TOKEN} ASCII characters without spaces"
    return None


def same_token(given: str, token: str) -> bool:
    """Whether they are the same, in a time that does not tell how far they agree."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())
