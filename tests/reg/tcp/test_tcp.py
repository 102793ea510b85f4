"""TCP passes both ways byte for byte, half-close and reset included, over IPv4, IPv6 and Unix sockets (A1, A19)."""

import hashlib
import os
import threading

import pytest

from harness import wait_for

CONFIG = """
listeners:
  - {name: v4, bind: "127.0.0.1:0", protocol: tcp, cluster: app}
  - {name: v6, bind: "[::1]:0", protocol: tcp, cluster: app}
  - {name: ux, bind: "unix:$dir/l.sock", protocol: tcp, cluster: app}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
MIB = 2**20


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
@pytest.mark.parametrize("listener", ["v4", "v6", "ux"])
def test_one_mib_after_fin_both_ways(proxy, origin, listener, kind):
    data = os.urandom(MIB)

    def script(conn):
        conn.drain()
        conn.send(hashlib.sha256(conn.received).digest() + data)

    with proxy(CONFIG, app=origin(script, kind=kind).address).connect(listener) as client:
        client.send(data)
        client.shut_write()
        assert client.rest() == hashlib.sha256(data).digest() + data


def test_upstream_fin_first(proxy, origin):
    def script(conn):
        conn.send(b"bye")
        conn.shut_write()
        conn.drain()

    app, data = origin(script), os.urandom(MIB)
    with proxy(CONFIG, app=app.address).connect("v4") as client:
        assert client.rest() == b"bye"
        client.send(data)
        client.shut_write()
        wait_for(lambda: app.conns[0].finished)
        assert bytes(app.conns[0].received) == data


def both_ways(proxy, origin, size):
    block, n = os.urandom(MIB), size // MIB

    def script(conn):
        writer = threading.Thread(target=lambda: ([conn.send(block) for _ in range(n)], conn.shut_write()))
        writer.start()
        while data := conn.sock.recv(MIB):
            digest.update(data)
        writer.join()
        done.set()

    digest, done = hashlib.sha256(), threading.Event()
    with proxy(CONFIG, app=origin(script).address).connect("v4", timeout=600) as client:
        threading.Thread(target=lambda: ([client.send(block) for _ in range(n)], client.shut_write())).start()
        mine = hashlib.sha256()
        while data := client.sock.recv(MIB):
            mine.update(data)
        assert done.wait(600)
    wanted = hashlib.sha256()
    for _ in range(n):
        wanted.update(block)
    assert mine.digest() == digest.digest() == wanted.digest()


def test_32_mib_each_way_at_once(proxy, origin):
    both_ways(proxy, origin, 32 * MIB)


@pytest.mark.soak
def test_1_gib_each_way_at_once(proxy, origin):
    both_ways(proxy, origin, 1024 * MIB)


def test_abort_is_passed_on(proxy, origin):
    app = origin(lambda conn: conn.drain())
    client = proxy(CONFIG, app=app.address).connect("v4")
    client.send(b"x")
    wait_for(lambda: app.received == b"x")
    client.abort()
    wait_for(lambda: app.conns[0].finished)
