"""Stalled, slow, vanishing and greedy ends cost bounded memory and their own connection only."""

import hashlib
import os
import threading
import time

import pytest

from harness import pace, serve, wait_for
from harness.client import request
from harness.origin import OK

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
MIB = 2**20


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_10_mb_by_hash_both_ways(proxy, origin, framing):
    data = os.urandom(10 * MIB)
    chunked = b"".join(b"%x\r\n" % len(part) + part + b"\r\n" for part in (data[i:i + 50001] for i in range(0, len(data), 50001))) + b"0\r\n\r\n"
    head = b"Content-Length: %d\r\n\r\n" % len(data) + data if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n" + chunked
    app = origin(serve(lambda message, conn: b"HTTP/1.1 200 OK\r\n" + head), keep=False)
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + head)
        reply = client.response()
    assert hashlib.sha256(reply.body).digest() == hashlib.sha256(app.requests[0].body).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("framing", ["Content-Length: 50", "Transfer-Encoding: chunked"])
def test_streams_both_ways_at_once_without_waiting(proxy, origin, framing):
    chunked = "chunked" in framing

    def script(conn):
        conn.head()
        conn.send(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % framing.encode())
        for i in range(50):
            conn.reader.until(letter(i))
            conn.send(b"1\r\n%s\r\n" % letter(i) if chunked else letter(i))
        conn.send(b"0\r\n\r\n" if chunked else b"")
        conn.drain()

    def letter(i):
        return b"%c" % (ord("g") + i % 20)

    with proxy(CONFIG, app=origin(script).address).connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % framing.encode())
        client.reader.until(b"\r\n\r\n")
        for i in range(50):
            client.send(b"1\r\n%s\r\n" % letter(i) if chunked else letter(i))
            client.reader.until(letter(i))


def slow_upload(proxy, origin, size, rate=None):
    """rate: bytes per second that the origin reads; None: it starts only after the sender is stuck."""
    go, total = threading.Event(), [0]

    def script(conn):
        conn.head()
        go.wait(600)
        start, total[0] = time.monotonic(), len(conn.reader.held)
        while total[0] < size:
            data = conn.sock.recv(MIB)
            assert data, "cut"
            total[0] += len(data)
            rate and pace(max(0, total[0] / rate - (time.monotonic() - start)))
        conn.send(OK)

    one = proxy(CONFIG, app=origin(script, keep=False, receive_bytes=65536).address)
    before, block, sent = one.rss_bytes, bytes(MIB), [0]

    def upload(client):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        while sent[0] < size and client.send(block):
            sent[0] += MIB

    with one.connect(timeout=7200) as client:
        thread = threading.Thread(target=upload, args=(client,), daemon=True)
        thread.start()
        peak = 0
        if rate:
            go.set()
        else:
            last = -1
            while sent[0] != last:
                last = sent[0]
                pace(0.3)
            assert last < size, "nothing pushed back"
        while thread.is_alive():
            peak = max(peak, one.rss_bytes)
            go.set()
            pace(0.5 if rate else 0.02)
        assert client.response().status == 200
    assert total[0] == size
    print(f"{size / MIB:g} MiB, RSS grew by {(peak - before) / MIB:.2f} MiB")
    assert peak - before < 16 * MIB


def test_slow_reader_pushes_back(proxy, origin):
    slow_upload(proxy, origin, 128 * MIB)


@pytest.mark.soak
def test_5_gib_to_a_slow_reader(proxy, origin):
    """85 minutes at full size."""
    slow_upload(proxy, origin, int(os.environ.get("FASTPROXY_SOAK_UPLOAD_MIB", "5120")) * MIB, MIB)


def test_a_client_that_does_not_read_pushes_back(proxy, origin):
    sent = [0]

    def script(conn):
        conn.head()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 * MIB))
        for _ in range(256):
            conn.send(bytes(MIB))
            sent[0] += 1

    one = proxy(CONFIG, app=origin(script).address)
    before = one.rss_bytes
    with one.connect(receive_bytes=65536) as client:
        client.send(request())
        last = -1
        while sent[0] != last or last == 0:
            last = sent[0]
            pace(0.3)
        assert last < 256 and one.rss_bytes - before < 16 * MIB
        with one.connect() as other:
            other.send(request())
            assert other.reader.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("body", [b"Content-Length: 100\r\n\r\nabc", b"\r\n"], ids=["in body", "waiting"])
def test_client_abort_reaches_the_upstream(proxy, origin, how, body):
    app = origin(lambda conn: (conn.head(), conn.drain()))
    one = proxy(CONFIG, app=app.address)
    client = one.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + body)
    app.wait_requests(1)
    client.abort() if how == "abort" else client.sock.close()
    wait_for(lambda: app.conns[0].finished, 1, "the abort is passed on at once")


def test_trickle_both_ways(proxy, origin):
    def script(conn):
        conn.request()
        for i in range(len(OK)):
            conn.send(OK[i:i + 1])
            pace(0.0005)

    with proxy(CONFIG, app=origin(script).address).connect() as client:
        client.send_bytewise(request("POST", "/", body=b"hello"))
        assert client.response().body == b"ok\n"


def test_running_out_of_fds_pauses_and_recovers(proxy, origin):
    one = proxy(CONFIG, app=origin().address, nofile=64)
    clients = [one.connect() for _ in range(120)]
    for client in clients[:5]:
        client.send(request())
    wait_for(lambda: one.fds >= 55, what="the fds are used up")
    for client in clients:
        client.sock.close()

    def served():
        try:
            return one.get().status == 200
        except (OSError, EOFError):
            return False

    wait_for(served, 10, "it serves again")
    assert one.process.poll() is None


def test_an_upstream_that_resets_or_dies(proxy, origin):
    app = origin(lambda conn: (conn.head(), conn.reset()))
    one = proxy(CONFIG, app=app.address)
    for method in ("GET", "POST"):
        reply = one.get(method=method)
        assert (reply.status, reply.get(b"x-fastproxy-error")) == (502, b"upstream_reset")
    app.close()
    assert one.get().status == 503
