import pytest

from backend.hosts import bracketed, is_loopback, named


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1:8600",
        "127.8.8.8",
        "[::1]:80",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:80",
        "[::0001]",
    ],
)
def test_loopback_in_all_its_spellings(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example:80",
        "10.0.0.1",
        "[::1",
        "localhost.evil",
        "0.0.0.0",
        "[::]:80",
        "::1",
        "[::1].evil.example",
        "[::1]evil.example",
        "localhost:80:evil",
        "localhost:evil",
        "127.0.0.1:80.evil.example",
        "127.0.0.1:123456",
        "localhost.",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f.1",
        "evil.example#@127.0.0.1",
        "user@localhost",
        "localhost,evil.example",
        "localhost evil",
        "localhost\0",
        "[::1%lo]",
        "ⓛocalhost",
        "127.0.0.256",
    ],
)
def test_all_else_is_foreign(host):
    assert not is_loopback(host)


def test_a_host_is_named_without_its_port():
    assert [named(host) for host in ("Lab.Example:8501", "[::1]:8501", "10.0.0.1")] == [
        "lab.example",
        "::1",
        "10.0.0.1",
    ]
    assert [bracketed(address) for address in ("::1", "127.0.0.1")] == ["[::1]", "127.0.0.1"]
