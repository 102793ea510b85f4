"""A way that leads back to this proxy ends fast with its cause, and not by using up sockets (A18)."""

import json
import socket
import time

import pytest

from harness.wait import on_time

WAYS = {"itself": ("127.0.0.1", "127.0.0.1"), "one": ("127.0.0.1", "[::1]"), "two": ("[::1]", "127.0.0.1"), "wild": ("0.0.0.0", "127.0.0.1")}


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture(params=["http", "tcp"])
def one(proxy, request):
    """Each listener leads to its cluster: `itself` and `wild` back to themselves, `one` and `two` to each other."""
    ports = {name: free_port() for name in ("itself", "one", "wild")}
    ports["two"] = ports["one"]
    listeners, clusters = [], []
    for name, (bind, to) in WAYS.items():
        listeners.append({"name": name, "bind": f"{bind}:{ports[name]}", "protocol": request.param, "cluster": name})
        clusters.append({"name": name, "endpoints": [f"{to}:{ports[name]}"]})
    one = proxy(json.dumps({"admin": "unix:$dir/admin.sock", "listeners": listeners, "clusters": clusters}))
    one.addresses["wild"] = f"127.0.0.1:{ports['wild']}"
    one.protocol = request.param
    return one


def test_each_ends_fast(one):
    def ask(way):
        start = time.monotonic()
        if one.protocol == "http":
            reply = one.get(listener=way)
            assert (reply.status, reply.get(b"x-fastproxy-error")) == (508, b"loop") and b"loop" in reply.body
        else:
            with one.connect(way) as client:
                assert client.rest() == b""
        return time.monotonic() - start

    for way in WAYS:
        on_time(lambda: ask(way), 0, 0.05)
    assert one.fds < 100 and one.metric("fastproxy_errors_total", cause="loop")
