"""Requests for memory fail, in turn everywhere: the exchange at hand may end, the proxy goes on, and nothing is kept or lost."""

import threading
import time

import pytest

from harness import serve, wait_for
from harness.client import request
from harness.origin import OK
from harness.process import debug_build
from harness.wait import SCALE

CONFIG = """
admin: unix:$dir/admin.sock
workers: 2
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    routes:
      - {match: {path: /direct}, direct_response: {status: 200, body: "hello"}}
      - {match: {path: /moved}, redirect: {path: /there}}
      - {cluster: app}
  - {name: tcp, bind: "127.0.0.1:0", protocol: tcp, cluster: tcp}
clusters:
  - {name: app, endpoints: ["$app", "$other"]}
  - {name: tcp, endpoints: ["$tcp"]}
"""
BODY = bytes(range(256)) * 800          # more than one read, so that pipes are used as well
CHUNKED = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"
FAILS = (OSError, EOFError, ValueError, AssertionError, IndexError)


def reply(message, conn):
    if message.target == b"/switch":
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        conn.drain()
        return False
    if message.target == b"/slow":
        return b"HTTP/1.1 100 Continue\r\n\r\n" + OK
    if message.method == b"POST":
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(message.body) + message.body + b"\r\n0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


def get(one):
    with one.connect() as client:
        for _ in range(3):
            assert client.get().body == BODY


def pipelined(one):
    with one.connect() as client:
        client.send((request("GET", "/direct") + request("GET", "/moved") + request("GET", "/slow")) * 5)
        assert [client.response().status for _ in range(15)] == [200, 302, 200] * 5


def trickled(one):
    with one.connect() as client:
        client.send_at(request("GET", "/direct"), 10, 25)
        assert client.response().body == b"hello"


def post(one):
    with one.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert client.response().body == BODY
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED)
        assert client.response().body == BODY


def tunnel(one):
    with one.connect() as client:
        client.send(request("GET", "/switch", "Connection: upgrade", "Upgrade: websocket"))
        assert client.response().status == 101
        client.send(BODY)
        client.shut_write()
        assert client.rest() == b"hi"


def tcp(one):
    with one.connect("tcp") as client:
        client.send(BODY)
        client.shut_write()
        assert client.rest() == BODY


def aborted(one):
    with one.connect() as client:
        client.send(request())
        client.reader.until(b"\r\n\r\n")


EXCHANGES = (get, pipelined, trickled, post, tunnel, tcp, aborted)


@pytest.mark.skipif(not debug_build(), reason="for a build that can be made to run out of memory: make debug, or a sanitizer's")
@pytest.mark.parametrize("every", [1, 3, 12, 50])
def test_without_memory_it_refuses_and_goes_on(proxy, origin, every):
    def echo(conn):
        conn.drain()
        conn.send(conn.received)

    one = proxy(CONFIG, app=origin(serve(reply), keep=False).address, other=origin(serve(reply), keep=False, kind="unix").address,
                tcp=origin(echo).address, env={"FASTPROXY_FAIL_ALLOC": f"400-{4000 + 30 * every}/{every}"})
    failed, good = [], [0]

    def run(number):
        end = time.monotonic() + 60 * SCALE
        turn = number
        while good[0] < 100 and time.monotonic() < end:
            exchange = EXCHANGES[turn % len(EXCHANGES)]
            turn += 1
            try:
                exchange(one)
                good[0] += 1
            except FAILS:
                failed.append(exchange.__name__)
                good[0] = 0
            if turn % 20 == 0:
                one.hup()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert failed, "nothing failed: was memory short at all?"
    assert one.process.poll() is None, one.errors
    for exchange in EXCHANGES:
        exchange(one)
    wait_for(lambda: not any(worker["streams"] or worker["buffers"] for worker in one.stats()["workers"]), 10, "nothing is kept")
    assert one.stats()["errors"]["overload"]
