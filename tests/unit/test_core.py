"""`Core` turned by hand: what happens between a message and the next event, at a fork, and when nobody closes it."""

import ctypes
import gc
import os
import select
import signal
import socket
import sys
import threading
import time

import pytest

from fastproxy._core import Core
from fastproxy.model import load_dict
from fastproxy.proxy import listen
from fastproxy.proxy.compile import Slots
from fastproxy.proxy.parts import Parts
from harness import RawClient, serve
from harness.client import request
from harness.origin import OK

CONFIG = {"listeners": [{"name": "web", "bind": "127.0.0.1:0", "protocol": "http",
                         "routes": [{"direct_response": {"status": 200, "body": "hello"}}]}]}


class Bench:
    """A core without threads whose turns the test takes, and one listener that it can have."""

    def __init__(self, bind="127.0.0.1:0"):
        self.core = Core(workers=0)
        self.parts = Parts(self.core, Slots())
        (sock,), self.address = listen.open_sockets(bind)
        self.fd = sock.detach()
        self.core.start()

    def plan(self, config=CONFIG):
        model = load_dict(config)
        self.parts.apply(model, [(0, self.address)] * len(model.listeners))

    def listen(self):
        self.core.add_listener(0, [self.fd])

    def turn(self):
        while select.select([self.core.fileno()], [], [], 0.05)[0]:
            self.core.turn()

    def response(self, client):
        """What comes, with the core turned meanwhile."""
        self.turn()
        client.sock.settimeout(1)
        return client.response().body


@pytest.fixture
def bench():
    one = Bench()
    yield one
    one.core.close()


def test_a_listener_waits_for_its_plan(bench):
    """Sockets are opened before the plan that names them is there: who connects meanwhile is served then."""
    bench.listen()
    with RawClient(bench.address) as client:
        client.send(request())
        bench.turn()
        bench.plan()
        assert bench.response(client) == b"hello"


def test_who_was_queued_at_a_removed_listener_is_served(bench):
    bench.plan()
    bench.listen()
    bench.turn()
    bench.plan({"listeners": []})
    bench.core.remove_listener(0)       # both wait in the mailbox, before the listener's event
    with RawClient(bench.address) as client:
        client.send(request())
        assert bench.response(client) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        RawClient(bench.address)


def test_a_listener_that_comes_after_the_drain_refuses(bench):
    bench.plan()
    bench.core.drain()
    bench.turn()
    bench.listen()
    bench.turn()
    with pytest.raises(ConnectionRefusedError):
        RawClient(bench.address)


def test_no_descriptor_is_lost_when_a_listener_cannot_be_added(tmp_path):
    """A Unix listener is copied for each worker, which may fail half-way."""
    core = Core(workers=4)
    (sock,), _ = listen.open_sockets(f"unix:{tmp_path}/l.sock")
    before = sorted(os.listdir("/proc/self/fd"))
    held = []
    try:
        while True:
            held.append(os.dup(sock.fileno()))
    except OSError:
        os.close(held.pop())
        os.close(held.pop())
    try:
        with pytest.raises(OSError):
            core.add_listener(0, [sock.fileno()])
        held += [os.dup(sock.fileno()), os.dup(sock.fileno())]
    finally:
        for fd in held:
            os.close(fd)
    assert sorted(os.listdir("/proc/self/fd")) == before
    sock.close()
    core.close()


def test_a_core_in_a_cycle_is_freed_whole(monkeypatch):
    """The collector clears the members of a cycle in any order."""
    errors = []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    other = Bench()
    other.plan()
    other.listen()
    other.turn()
    address, ring = other.address, [other.core]     # the core is the eldest of the cycle, and so cleared first
    ring.append(ring)
    del other, ring
    gc.collect()
    assert not errors
    with pytest.raises(ConnectionRefusedError):
        RawClient(address)


def test_a_wake_is_passed_on_by_a_stream_that_ends_first(bench, origin):
    """Over the limit of connections streams wait in line. One that is woken, and whose client goes in the same turn, must not
    take the free conn with it."""
    go = threading.Event()

    def reply(message, conn):
        if message.target == b"/first":
            go.wait(30)
        return OK

    app = origin(serve(reply))
    bench.plan({"listeners": [{"name": "web", "bind": "127.0.0.1:0", "protocol": "http", "routes": [{"cluster": "app"}]}],
                "clusters": [{"name": "app", "endpoints": [app.address], "limits": {"connections": 1}}]})
    bench.listen()
    with RawClient(bench.address) as first, RawClient(bench.address) as second, RawClient(bench.address) as third:
        for client, target in ((first, "/first"), (second, "/second"), (third, "/third")):
            client.send(request("GET", target))
            bench.turn()
        app.wait_requests(1)
        go.set()
        select.select([bench.core.fileno()], [], [], 5)      # the answer is there, and is reported before
        second.abort()
        assert bench.response(first) == b"ok\n"
        assert bench.response(third) == b"ok\n"
    assert [message.target for message in app.requests] == [b"/first", b"/third"]


@pytest.fixture
def child():
    """child(): forks one that holds all descriptors and sleeps."""
    pids = []

    def fork():
        pid = os.fork()
        if pid == 0:
            try:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
                while True:
                    time.sleep(60)
            finally:
                os._exit(0)
        pids.append(pid)

    yield fork
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_child_of_a_fork_keeps_no_conn_open(bench, child):
    """A child holds copies of all sockets: what the proxy closes is closed all the same, and forgotten by its epoll."""
    bench.plan()
    bench.listen()
    with RawClient(bench.address) as client, RawClient(bench.address) as idle:
        idle.send(request()[:-2])
        client.send(request())
        assert bench.response(client) == b"hello"
        child()
        client.send(request("GET", "/", "Connection: close"))
        assert bench.response(client) == b"hello"
        assert client.rest() == b""
        with RawClient(bench.address) as other:         # has the memory, but not the events, of the one that is gone
            other.send(request())
            assert bench.response(other) == b"hello"
            client.sock.close()
            bench.turn()
            other.send(request())
            assert bench.response(other) == b"hello"
        bench.core.drain()
        bench.turn()
        with pytest.raises(ConnectionRefusedError):
            RawClient(bench.address)
        bench.core.close()
        assert idle.rest() == b""
