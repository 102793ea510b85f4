"""An upgrade happens only if the route allows it, the client asked and the upstream agreed; then bytes flow freely (A8)."""

import asyncio
import random
import time

import pytest

from harness import wait_for
from harness.client import request

CONFIG = """
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    timeouts: {stream_idle: 30s, idle: 300ms, head: 300ms}
    routes: [{match: {path_prefix: /none}, cluster: app, upgrades: []}, {match: {path_prefix: /two}, cluster: app, upgrades: [websocket, foo]}, {cluster: app, timeout: 500ms}]
clusters:
  - {name: app, endpoints: ["$app"], connect_timeout: 500ms, idle_timeout: 300ms}
"""
ASK = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


def echo(conn):
    conn.head()
    conn.send(SWITCH + b"first")
    while data := conn.reader.held or conn.more():
        conn.reader.held = b""
        conn.send(data)
    conn.send(b"last")


def test_tunnel_early_bytes_and_half_close(proxy, origin):
    with proxy(CONFIG, app=origin(echo).address).connect() as client:
        client.send(request("GET", "/ws", *ASK) + b"early")
        assert client.response().status == 101
        assert client.exactly(10) == b"firstearly"
        client.send(b"x" * 2**20)
        assert client.exactly(2**20) == b"x" * 2**20
        client.shut_write()
        assert client.rest() == b"last"


def test_a_reset_is_passed_on(proxy, origin):
    """What was cut must not look to the upstream as if it had ended."""
    from harness import wait_for
    from harness.client import request
    app = origin(echo)
    client = proxy(CONFIG, app=app.address).connect()
    client.send(request("GET", "/ws", *ASK))
    assert client.response().status == 101
    client.abort()
    wait_for(lambda: app.conns[0].finished)
    assert app.conns[0].reset_seen


@pytest.mark.parametrize("target, upgrade", [("/none", "websocket"), ("/", "foo")])
def test_not_allowed(proxy, origin, target, upgrade):
    app = origin()
    assert proxy(CONFIG, app=app.address).get(target, "Connection: upgrade", f"Upgrade: {upgrade}").status == 403
    assert not app.received


def test_h2c_never_passes(proxy, origin):
    app = origin()
    reply = proxy(CONFIG, app=app.address).get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    assert reply.status == 200
    assert b"h2c" not in app.received and b"HTTP2-Settings" not in app.received


def test_refused_by_the_upstream_stays_http(proxy, origin):
    app = origin()
    with proxy(CONFIG, app=app.address).connect() as client:
        assert client.get("/", *ASK).status == 200
        assert client.get("/after").status == 200


@pytest.mark.parametrize("target", ["/", "/none", "/two"])
def test_what_follows_a_declined_upgrade_is_no_request(proxy, origin, target):
    app = origin()
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(request("GET", target, *ASK) + request(target="/smuggled"))
        assert client.response().status == (403 if target == "/none" else 200)
        assert client.closed()
    assert b"/smuggled" not in app.received


@pytest.mark.parametrize("target, name", [("/", b"h2c"), ("/", b"foo"), ("/two", b"foo")])
def test_another_protocol_than_asked_is_502(proxy, origin, target, name):
    app = origin(lambda conn: (conn.head(), conn.send(SWITCH.replace(b"websocket", name)), conn.drain()))
    assert proxy(CONFIG, app=app.address).get(target, *ASK).status == 502


def test_a_reset_tunnel_is_a_reset_tunnel(proxy, origin):
    app = origin(lambda conn: (conn.head(), conn.send(SWITCH), conn.drain()))
    client = proxy(CONFIG, app=app.address).connect()
    client.send(request("GET", "/", *ASK))
    assert client.response().status == 101
    client.abort()
    wait_for(lambda: app.conns[0].finished, what="the end of the tunnel")
    assert app.conns[0].reset_seen


def frames(proxy, n, bursts, silence):
    """n echo frames of mixed size in order, in bursts with silence between them: no ping and no frame moves then."""
    websockets = pytest.importorskip("websockets")

    async def run():
        async def reply(link):
            async for message in link:
                await link.send(message)

        async with websockets.serve(reply, "127.0.0.1", 0, max_size=None, ping_interval=None) as origin:
            one = proxy(CONFIG, app="127.0.0.1:%d" % origin.sockets[0].getsockname()[1])
            async with websockets.connect(f"ws://{one.addresses['web']}/", max_size=None, ping_interval=None) as link:
                source, start = random.Random(1), time.monotonic()
                for i in range(n):
                    if i % (n // bursts) == 0:
                        await asyncio.sleep(silence)
                    data = bytes([i % 256]) * int(2 ** source.uniform(0, 15))
                    await link.send(data)
                    assert await link.recv() == data, i
                await asyncio.sleep(silence)
                await link.send("still here")
                assert await link.recv() == "still here"
                print(f"{n} frames over one socket in {time.monotonic() - start:.0f} s")

    asyncio.run(run())


def test_websocket_frames_past_the_idle_timeouts(proxy):
    frames(proxy, 1000, 2, 0.6)


@pytest.mark.soak
def test_websocket_10_minutes(proxy):
    frames(proxy, 10000, 24, 24)
