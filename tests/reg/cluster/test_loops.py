"""A way that leads back to this proxy ends fast with its cause, and not by using up sockets (A18)."""

import socket
import time

import pytest

from harness.wait import on_time

HTTP = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "$bind1", protocol: http, routes: [{cluster: two}]}
  - {name: other, bind: "$bind2", protocol: http, routes: [{cluster: one}]}
clusters:
  - {name: one, endpoints: ["$to1"]}
  - {name: two, endpoints: ["$to2"]}
"""
TCP = HTTP.replace("http, routes: [{cluster: two}]", "tcp, cluster: two").replace("http, routes: [{cluster: one}]", "tcp, cluster: one")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ways():
    a, b = free_port(), free_port()
    return {"itself": (f"127.0.0.1:{a}", f"127.0.0.1:{b}", f"127.0.0.1:{b}", f"127.0.0.1:{a}"), "each other": (f"127.0.0.1:{a}", f"[::1]:{b}", f"127.0.0.1:{a}", f"[::1]:{b}"),
            "by the wildcard": (f"0.0.0.0:{a}", f"0.0.0.0:{b}", f"127.0.0.1:{a}", f"127.0.0.1:{b}")}


@pytest.mark.parametrize("way", ways())
def test_http(proxy, way):
    bind1, bind2, to1, to2 = ways()[way]
    one = proxy(HTTP, bind1=bind1, bind2=bind2, to1=to1, to2=to2)
    one.addresses["web"] = one.addresses["web"].replace("0.0.0.0", "127.0.0.1")

    def ask():
        start = time.monotonic()
        reply = one.get()
        assert (reply.status, reply.get(b"x-fastproxy-error")) == (508, b"loop") and b"loop" in reply.body
        return time.monotonic() - start

    on_time(ask, 0, 0.05)
    assert one.fds < 100 and one.metric("fastproxy_errors_total", cause="loop")


@pytest.mark.parametrize("way", ways())
def test_tcp(proxy, way):
    bind1, bind2, to1, to2 = ways()[way]
    one = proxy(TCP, bind1=bind1, bind2=bind2, to1=to1, to2=to2)
    one.addresses["web"] = one.addresses["web"].replace("0.0.0.0", "127.0.0.1")

    def ask():
        start = time.monotonic()
        try:
            with one.connect() as client:
                assert client.rest() == b""
        except ConnectionResetError:
            pass  # so fast that connect() has seen the end
        return time.monotonic() - start

    on_time(ask, 0, 0.05)
    assert one.fds < 100 and one.metric("fastproxy_errors_total", cause="loop")
