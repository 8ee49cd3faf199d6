"""The app's door: nothing without the token, and the token nowhere it could be passed on from."""

import http.cookies
import os
import signal
import subprocess
import sys

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from backend.commands import door
from backend.commands.door import COOKIE, MOST_BODY, Door
from tests.browser.conftest import free_port
from tests.commands.test_launch import fetch

TOKEN = "a-token-of-some-length"


async def _hello(request):
    return PlainTextResponse(f"hello {request.url.query}")


async def _socket(websocket):
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setattr(door, "PAUSE", 0.0)
    routes = [
        Route("/_stcore/health", _hello),
        Route("/{path:path}", _hello, methods=["GET", "POST", "PUT"]),
        WebSocketRoute("/_stcore/stream", _socket),
    ]
    with TestClient(Door(Starlette(routes=routes), TOKEN), follow_redirects=False) as made:
        yield made


@pytest.mark.parametrize("path", ["/", "/live?live_seed=3", "/media/x.csv", "/_stcore/host-config", "//evil.test/"])
def test_nothing_is_said_without_the_token(client, path):
    for method in ("GET", "PUT", "HEAD"):
        reply = client.request(method, path)
        assert reply.status_code == 401
        assert "hello" not in reply.text
        assert "set-cookie" not in reply.headers
    assert client.get("/_stcore/health").text == "hello "


def test_a_socket_is_closed_to_who_has_no_cookie(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/_stcore/stream"):
        pass
    client.get("/", params={"token": TOKEN})
    with client.websocket_connect("/_stcore/stream") as socket:
        assert socket.receive_text() == "hello"


def test_an_address_with_the_token_becomes_one_without_it(client):
    reply = client.get(f"/live?live_seed=3&token={TOKEN}&live_prompt=a%26b")
    assert (reply.status_code, reply.headers["location"]) == (303, "/live?live_seed=3&live_prompt=a%26b")
    assert reply.headers["referrer-policy"] == "no-referrer"
    cookie = http.cookies.SimpleCookie(reply.headers["set-cookie"])[COOKIE]
    assert TOKEN not in cookie.value
    assert cookie["httponly"]
    assert cookie["samesite"] == "lax"
    assert not cookie["secure"]
    assert client.get(reply.headers["location"]).text == "hello live_seed=3&live_prompt=a%26b"
    again = client.get(f"/live?token={TOKEN}")  # who is in is led away from it, too
    assert again.headers["location"] == "/live"


def test_the_cookie_is_for_tls_alone_behind_a_proxy_that_has_it(client):
    reply = client.get(f"/?token={TOKEN}", headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in reply.headers["set-cookie"]


def test_the_form_signs_in_where_one_was_and_never_to_another_site(client):
    asked = client.get("/live?live_seed=3")
    assert "type=password" in asked.text
    reply = client.post("/live?live_seed=3", data={"token": f" {TOKEN} "})
    assert (reply.status_code, reply.headers["location"]) == (303, "/live?live_seed=3")
    client.cookies.clear()
    assert client.post("http://testserver//evil.test/x", data={"token": TOKEN}).headers["location"] == "/evil.test/x"


@pytest.mark.parametrize("given", ["", "wrong", TOKEN[:-1], TOKEN + "x", "ü" * 16, "\ud800"])
def test_another_token_is_refused(client, given):
    assert client.post("/", data={"token": given.encode(errors="replace")}).status_code == 401
    if given.isascii():
        assert client.get("/", params={"token": given}).status_code == 401
        assert client.get("/", headers={"Authorization": f"Bearer {given}"}).status_code == 401
        assert client.get("/", headers={"Cookie": f"{COOKIE}={given}"}).status_code == 401
    assert client.get("/", headers={"Cookie": f"{COOKIE}={TOKEN}"}).status_code == 401, "the cookie is not the token"


def test_a_program_sends_it_as_a_bearer(client):
    assert client.get("/x", headers={"Authorization": f"Bearer {TOKEN}"}).text == "hello "
    assert client.get("/x", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401


def test_a_form_that_is_too_long_is_not_read(client):
    assert client.post("/", content=b"x" * MOST_BODY + b"&token=" + TOKEN.encode()).status_code == 401


def test_the_app_for_real_behind_its_token(tmp_path):
    """The launcher, Streamlit and the door, without a worker."""
    port = free_port()
    code = (
        "import sys; from backend.commands.launch import launch\n"
        f"sys.exit(launch('none', None, {{}}, '127.0.0.1', {port}, {TOKEN!r}))"
    )
    environment = {**os.environ, "EM_STUDIES": str(tmp_path), "EM_CACHE": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout.readline().startswith(f"Open http://127.0.0.1:{port}")
        assert process.stdout.readline() == "Sign in with the token in EM_TOKEN.\n"
        url = f"http://127.0.0.1:{port}"
        assert fetch(url, "/_stcore/health")[0] == 200
        for path in ("/", "/live", "/_stcore/host-config", "/static/index.html"):
            status, body = fetch(url, path)
            assert status == 401
            assert b"Sign in" in body
        assert fetch(url, f"/live?token={TOKEN}")[0] == 303
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
