"""Who may ask: the names this worker answers to, the bearer token, the pages that may send, and how often.

Knows headers and clocks. On loopback there may be no token: then only this machine's own names are served, so that no
web page reaches the worker by renaming its own address. Every other address needs one.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.hosts import is_loopback, same_token
from backend.worker.refusals import host_of, refusal

KNOWN = 4096  # clients whose rate is remembered
OPEN = ("/health",)  # what may be asked without a token: whether the worker is there


@dataclass(frozen=True)
class Admission:
    """What a worker asks of its clients."""

    any_host: bool = False  # whether it is reached by other names than this machine's own
    token: str = ""
    rate: int = 0  # requests a minute of one client; 0: as many as it likes


class Access:
    """Refuses what a worker's admission does not allow."""

    def __init__(self, app: ASGIApp, admission: Admission, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._admission = admission
        self._clock = clock
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (requests, when)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed."""
        no = self._refused(Request(scope)) if scope["type"] == "http" else None
        await (no or self._app)(scope, receive, send)

    def _refused(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._admission.any_host and not is_loopback(host):
            no = "this worker serves its own machine only: start it with --host to open it to others"
            return refusal(request, 403, no)
        if origin is not None and not self._own(origin, host):
            return refusal(request, 403, "a page from elsewhere may not ask this worker")
        if self._admission.token and request.url.path not in OPEN and not self._known(request):
            return refusal(request, 401, "this worker needs its token: send Authorization: Bearer TOKEN")
        wait = self._wait(host_of(request)) if self._admission.rate else 0.0
        if wait:
            retry = math.ceil(wait)  # a second too early would be refused again
            rate = f"more than {self._admission.rate} requests a minute came from you: try again in {retry} seconds"
            return refusal(request, 429, rate, retry=retry)
        return None

    def _own(self, origin: str, host: str) -> bool:
        try:
            named = urlsplit(origin).netloc
        except ValueError:
            return False
        return named.lower() == host.lower() or (not self._admission.any_host and is_loopback(named))

    def _known(self, request: Request) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        return same_token(given.strip(), self._admission.token) and kind.lower() == "bearer"

    def _wait(self, client: str) -> float:
        """Seconds until this client may ask again: a bucket of a minute's requests that fills evenly."""
        now, rate = self._clock(), self._admission.rate
        spent, since = self._spent.pop(client, (0.0, now))
        spent = max(0.0, spent - (now - since) * rate / 60)
        over = spent + 1 - rate
        self._spent[client] = (spent if over > 0 else spent + 1, now)
        while len(self._spent) > KNOWN:
            self._spent.popitem(last=False)
        return over * 60 / rate if over > 0 else 0.0
