"""TCP passes both ways byte for byte, half-close and reset included, over IPv4, IPv6 and Unix sockets (A1, A19)."""

import hashlib
import itertools
import os
import random
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


def blocks(seed, size):
    """The same random bytes for the same seed, a MiB at a time."""
    source = random.Random(seed)
    return (source.randbytes(MIB) for _ in range(size // MIB))


def digest(parts):
    out = hashlib.sha256()
    for part in parts:
        out.update(part)
    return out.hexdigest()


def received(sock):
    return iter(lambda: sock.recv(MIB), b"")


def both_ways(proxy, origin, size):
    """Random bytes at once both ways; then the client sends FIN, and the origin 1 MiB more after it has seen that."""
    def script(conn):
        more = threading.Thread(target=lambda: [conn.send(block) for block in blocks("down", size)])
        more.start()
        seen.append(digest(received(conn.sock)))
        more.join()
        conn.send(data)

    seen, data = [], os.urandom(MIB)
    with proxy(CONFIG, app=origin(script).address).connect("v4", timeout=600) as client:
        sender = threading.Thread(target=lambda: ([client.send(block) for block in blocks("up", size)], client.shut_write()))
        sender.start()
        mine = digest(received(client.sock))
        sender.join()
    assert mine == digest(itertools.chain(blocks("down", size), [data]))
    assert seen == [digest(blocks("up", size))]


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
