"""The admin service: who may do what, and that its own clients cannot hurt it (I9)."""

import asyncio
import logging
import os
import stat

import pytest
import uvloop
from stand_in import Proxy

from fastproxy.model.written import redact
from fastproxy.proxy import admin
from fastproxy.proxy.admin import Admin, is_address


def call(*raw, bind=None, kind="admin", proxy=None, between=0.0, tmp="/tmp", run_on=asyncio.run):
    """The answers to raw bytes sent one after the other on one connection: (all bytes received, the proxy)."""
    proxy = proxy or Proxy()

    async def run():
        service = Admin(proxy, kind).open(bind or f"unix:{tmp}/admin.sock")
        await service.start()
        try:
            name, _, port = service.address.rpartition(":")
            reader, writer = await (asyncio.open_unix_connection(service.address[5:]) if service.address.startswith("unix:")
                                    else asyncio.open_connection(name, int(port)))
            for text in raw:
                writer.write(text)
                await asyncio.sleep(between)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            return answer.decode()
        finally:
            await service.close()

    return run_on(run())


@pytest.fixture
def ask(tmp_path):
    def ask(method, path, *lines, body=b"", host="localhost", **options):
        head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, *([f"Content-Length: {len(body)}"] if body else []), "", ""])
        return call(head.encode() + body, tmp=tmp_path, **options)
    return ask


@pytest.mark.parametrize("path, expected", [("/ready", "ready\n"), ("/live", "live\n"), ("/metrics", "fastproxy_build_info{"),
                                            ("/stats", '"uptime_seconds"'), ("/config", '"config"'), ("/clusters", '"app"')])
def test_paths(ask, path, expected):
    answer = ask("GET", path)
    assert answer.startswith("HTTP/1.1 200 ") and expected in answer


@pytest.mark.parametrize("run_on", [asyncio.run, uvloop.run])
def test_a_large_answer_is_whole(ask, run_on):
    """Around what a socket holds, to a client that wants the connection closed behind it."""
    for routes in range(100, 1000, 50):
        head, _, body = ask("GET", "/stats", "Connection: close", proxy=Proxy(routes), between=0.02, run_on=run_on).partition("\r\n\r\n")
        assert f"content-length: {len(body.encode())}\r\n" in head
    assert len(body) > 400_000


def test_head_has_no_body(ask):
    answer = ask("HEAD", "/live")
    assert answer.startswith("HTTP/1.1 200 ") and answer.endswith("\r\n\r\n") and "content-length: 5" in answer


def test_wrong_method_and_path(ask):
    assert ask("GET", "/drain").startswith("HTTP/1.1 405 ") and "allow: POST" in ask("GET", "/logging?level=debug")
    assert "allow: GET, HEAD" in ask("POST", "/ready")
    assert ask("GET", "/nothing").startswith("HTTP/1.1 404 ")


def test_drain_and_ready(ask):
    proxy = Proxy()
    assert ask("POST", "/drain", proxy=proxy).startswith("HTTP/1.1 202 ")
    assert proxy.draining and proxy.running.core.drained == 1
    assert ask("GET", "/ready", proxy=proxy).startswith("HTTP/1.1 503 ")


@pytest.mark.parametrize("path", ["/ready", "/stats", "/metrics", "/clusters"])
def test_asked_behind_the_end(ask, path):
    """The proxy ends before its admin address does."""
    proxy = Proxy()
    proxy.running = None
    assert ask("GET", path, proxy=proxy).startswith("HTTP/1.1 503 ")


def test_socket_is_private_and_goes_away(tmp_path):
    async def run():
        service = Admin(Proxy(), "admin").open(f"unix:{tmp_path}/admin.sock")
        await service.start()
        mode = stat.S_IMODE(os.stat(tmp_path / "admin.sock").st_mode)
        await service.close()
        return mode
    assert asyncio.run(run()) == 0o600
    assert not list(tmp_path.iterdir())


TCP = "127.0.0.1:0"
GUARD = "X-Fastproxy-Admin: 1"


@pytest.mark.parametrize("host, status", [("127.0.0.1:9901", 200), ("[::1]:9901", 200), ("localhost", 200), ("attacker.example", 403),
                                          ("127.0.0.1.attacker.example", 403)])
def test_host_on_tcp(ask, host, status):
    assert ask("GET", "/config", host=host, bind=TCP).startswith(f"HTTP/1.1 {status} ")


def test_changing_calls_on_tcp_need_the_header(ask):
    proxy = Proxy()
    assert ask("POST", "/drain", bind=TCP, proxy=proxy).startswith("HTTP/1.1 403 ") and not proxy.draining
    assert ask("POST", "/drain", GUARD, host="attacker.example", bind=TCP, proxy=proxy).startswith("HTTP/1.1 403 ") and not proxy.draining
    assert ask("POST", "/drain", GUARD, bind=TCP, proxy=proxy).startswith("HTTP/1.1 202 ") and proxy.draining


def test_metrics_address_is_read_only(ask):
    assert ask("GET", "/metrics", bind=TCP, kind="metrics", host="prometheus.example").startswith("HTTP/1.1 200 ")
    for path in ("/config", "/stats", "/drain"):
        assert ask("POST", path, GUARD, bind=TCP, kind="metrics").startswith("HTTP/1.1 404 ")


def test_pipelined_requests_are_answered_in_order(tmp_path):
    answer = call(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /ready HTTP/1.1\r\nHost: a\r\n\r\n", tmp=tmp_path)
    assert answer.index("live\n") < answer.index("ready\n")


@pytest.mark.parametrize("raw, status", [
    (b"nonsense\r\n\r\n", 400), (b"GET /live HTTP/1.1\r\n\r\n", 400), (b"GET /live HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40000, 431),
    (b"POST /drain HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000, 413)])
def test_bad_and_oversized_requests(tmp_path, raw, status):
    proxy = Proxy()
    assert call(raw, tmp=tmp_path, proxy=proxy).startswith(f"HTTP/1.1 {status} ") and not proxy.draining


def test_a_silent_client_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(admin, "REQUEST_TIMEOUT_S", 0.05)
    assert call(b"GET /li", tmp=tmp_path, between=0.2) == ""


def test_connections_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(admin, "CONNECTIONS", 2)

    async def run():
        service = Admin(Proxy(), "admin").open(f"unix:{tmp_path}/admin.sock")
        await service.start()
        held = [await asyncio.open_unix_connection(f"{tmp_path}/admin.sock") for _ in range(3)]
        assert await asyncio.wait_for(held[2][0].read(), 5) == b""
        held[0][1].write(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await held[0][0].read(9)) == b"HTTP/1.1 "
        for _, writer in held:
            writer.close()
        await service.close()
    asyncio.run(run())


def test_log_level_of_one_component_returns_after_its_ttl(tmp_path):
    async def run():
        service = Admin(Proxy(), "admin").open(f"unix:{tmp_path}/admin.sock")
        await service.start()
        try:
            _, _, text, _ = service.logging({"component": "config", "level": "debug", "ttl": "1s"}, b"")
            logger = logging.getLogger("fastproxy.config")
            assert logger.level == logging.DEBUG and logging.getLogger("fastproxy.process").level == logging.NOTSET
            await asyncio.sleep(1.1)
            assert logger.level == logging.NOTSET
        finally:
            await service.close()
    asyncio.run(run())


def test_levels_are_shown(ask):
    assert '"config": {\n  "level": "' in ask("GET", "/logging")


def test_bad_level(ask):
    assert ask("POST", "/logging?component=config&level=loud").startswith("HTTP/1.1 400 ")
    assert ask("POST", "/logging?component=heart&level=debug").startswith("HTTP/1.1 400 ")
    assert ask("POST", "/logging?level=debug&ttl=soon").startswith("HTTP/1.1 400 ")


def test_secrets_are_redacted():
    config = {"tls": {"cert": "c.pem", "key": "k.pem"}, "request_headers": {"set": {"Authorization": "Bearer s3"}, "add": {"x-api-key": ["s3", "s3"], "via": ["a"]}},
              "routes": [{"name": "token", "match": {"headers": {"x-token": {"exact": "s3"}}}}], "workers": 1}
    shown = redact(config)
    assert "s3" not in str(shown) and "k.pem" not in str(shown)
    assert shown["tls"]["cert"] == "c.pem" and shown["routes"][0]["name"] == "token" and shown["request_headers"]["add"]["via"] == ["a"]


def test_addresses():
    assert all(map(is_address, ("127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "LOCALHOST:1")))
    assert not any(map(is_address, ("", "a", "a:80", "127.0.0.1.nip.example", "::1.example")))
