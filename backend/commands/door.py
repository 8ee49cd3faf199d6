"""The app behind a token: what Streamlit runs in the place of streamlit_app.py where the app has one.

Nothing is said without it, neither a page nor a file nor a socket. A browser trades it once, by a form or by ?token= in
an address, for a cookie that does not hold it; a program sends it as Authorization: Bearer. It refuses to know pages.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import anyio
from markupsafe import Markup
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.starlette import App

from backend.hosts import APP_TOKEN, BEHIND, same_token

COOKIE = "em_door"
LASTING = 30 * 24 * 3600  # seconds
OPEN = ("/_stcore/health",)  # whether the app is there
MOST_BODY = 4096  # bytes of a form
PAUSE = 0.5  # seconds that a wrong token takes
_PAGE = Markup(
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Sign in</title><style>:root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;"
    "max-width:22rem;margin:18vh auto;padding:0 1rem}}input,button{{font:inherit;padding:.5rem .7rem;width:100%;"
    "box-sizing:border-box;margin:.3rem 0}}</style><h1>Sign in</h1><form method=post><label for=token>The token of "
    "this app</label><input id=token name=token type=password autocomplete=current-password required autofocus>"
    "<button>Sign in</button></form><p role=alert>{}</p></html>"
)


class Door:
    """Lets in who has the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token
        self._cookie = hmac.new(token.encode(), b"the door of the app", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what may enter; ask the rest for the token."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN or self._known(HTTPConnection(scope)):
            answer: ASGIApp = self._traded(Request(scope)) or self._app if scope["type"] == "http" else self._app
            await answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await (await self._asked(Request(scope, receive)))(scope, receive, send)

    def _known(self, connection: HTTPConnection) -> bool:
        kind, _, given = connection.headers.get("authorization", "").partition(" ")
        bears = kind.lower() == "bearer" and same_token(given.strip(), self._token)
        return bears or same_token(connection.cookies.get(COOKIE, ""), self._cookie)

    def _traded(self, request: Request) -> Response | None:
        """Away from an address that holds the token, so that it is in no link that is passed on."""
        return self._let_in(request) if same_token(request.query_params.get("token", ""), self._token) else None

    async def _asked(self, request: Request) -> Response:
        if request.method == "GET" and (traded := self._traded(request)):
            return traded
        said = ""
        if request.method == "POST" or "token" in request.query_params:
            if request.method == "POST" and same_token(await _form_token(request), self._token):
                return self._let_in(request)
            await anyio.sleep(PAUSE)
            said = "That is not the token of this app."
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "WWW-Authenticate": "Bearer"}
        return HTMLResponse(_PAGE.format(said), 401, headers)

    def _let_in(self, request: Request) -> Response:
        """The same address without the token, and the cookie."""
        query = [pair for pair in parse_qsl(request.url.query, keep_blank_values=True) if pair[0] != "token"]
        path = "/" + request.url.path.lstrip("/\\")  # two slashes would be another site
        answer = RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)
        answer.headers["Cache-Control"], answer.headers["Referrer-Policy"] = "no-store", "no-referrer"
        secure = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
        answer.set_cookie(COOKIE, self._cookie, LASTING, httponly=True, samesite="lax", secure=secure)
        return answer


async def _form_token(request: Request) -> str:
    """The token of the form; nothing of a body that is too long or no form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            return ""
    return dict(parse_qsl(body.decode(errors="replace"))).get("token", "").strip()


def main() -> None:
    """Serve the app with the token of the environment, and Streamlit's options as one JSON object."""
    os.environ[BEHIND] = "1"
    script = Path(__file__).resolve().parents[2] / "streamlit_app.py"
    App(script, middleware=[Middleware(Door, token=os.environ[APP_TOKEN])]).run(config=json.loads(sys.argv[1]))


if __name__ == "__main__":
    main()
