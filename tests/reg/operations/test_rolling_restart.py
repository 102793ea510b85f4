"""Instances are ended and started one after the other under load, and no client loses anything (I5)."""

import os
import signal
import threading

import pytest

from harness import serve, wait_for
from harness.client import RawClient, request
from harness.origin import OK
from harness.traffic import Traffic

CONFIG = """
workers: $workers
admin: unix:$dir/admin.sock
drain_timeout: 10s
drain_grace: $grace
listeners:
  - {name: web, bind: "$web", routes: [{name: all, cluster: app}]}
  - {name: local, bind: "unix:$dir/web.sock", routes: [{name: all, cluster: app}]}
  - {name: db, bind: "$db", protocol: tcp, cluster: app}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
ANY = {"grace": "300ms", "workers": "1", "web": "127.0.0.1:0", "db": "127.0.0.1:0"}


@pytest.mark.parametrize("workers, instances", [("1", 3), ("2", 2)])
def test_one_after_the_other(proxy, workers, instances):
    """Clients have a list of them, and go to the next one if one refuses. What runs is finished, what is queued is served."""
    with Traffic() as traffic:
        ones = [proxy(CONFIG, **{**ANY, "workers": workers}, app=traffic.address) for _ in range(instances)]
        web, db = [one.addresses["web"] for one in ones], [one.addresses["db"] for one in ones]
        traffic.run("keep", web, 12)
        traffic.run("post", web, 6, 0.01)
        traffic.run("post", web, 6, 0.1)
        traffic.run("new", web, 12)
        traffic.run("ws_short", web, 6, 0.002)
        traffic.run("tcp_short", db, 6, 0.002)
        traffic.running(0.1)
        for i, one in enumerate(ones):
            one.terminate()
            assert one.wait_exit() == 0
            ones[i] = proxy(CONFIG, **{**ANY, "workers": workers, "web": web[i], "db": db[i]}, app=traffic.address)
            traffic.running(0.05)
        traffic.stop()
        assert traffic.answered == traffic.at_origin and traffic.counts["told to close"] > 0 < traffic.refused
        print(f"{traffic.answered} requests, {traffic.counts}")


@pytest.mark.parametrize("listener", ["web", "local"])
def test_what_the_kernel_has_queued_is_served(proxy, listener, origin):
    """Conns in the queue when SIGTERM comes: of those who have sent a request, and of one who sends it a moment later. Two workers,
    and the process stopped meanwhile, so that none of them can accept in time."""
    one = proxy(CONFIG, **{**ANY, "workers": "2", "grace": "2s"}, app=origin().address)
    os.kill(one.pid, signal.SIGSTOP)
    clients = [RawClient(one.addresses[listener]) for _ in range(300)]      # more than a worker accepts in one turn
    for client in clients[:-1]:
        client.send(request())
    one.terminate()
    os.kill(one.pid, signal.SIGCONT)
    assert clients[0].response().status == 200
    clients[-1].send(request())
    for client in clients[1:]:
        assert client.response().status == 200
    for client in clients:
        client.sock.close()
    assert one.wait_exit() == 0


def test_pipelined_requests(proxy, origin):
    """The answer that says close is the last one; nothing that came behind it reaches the origin, and the answer is not lost to a reset."""
    go = threading.Event()
    app = origin(serve(lambda message, conn: (go.wait(5), OK)[1]))
    one = proxy(CONFIG, **ANY, app=app.address)
    with one.connect() as client:
        client.send(request("POST", "/0"))
        app.wait_requests(1)
        one.terminate()
        wait_for(lambda: b"draining" in one.admin("/ready").body)
        client.send(request("POST", "/1") * 3)
        go.set()
        reply = client.response("POST")
        assert reply.status == 200 and reply.get(b"connection") == b"close"
        assert client.rest() == b"" and not client.reset
    assert one.wait_exit() == 0 and [seen.target for seen in app.requests] == [b"/0"]


def test_a_request_that_crosses_the_end_of_an_idle_connection(proxy, origin):
    """It is never forwarded: the client sees an end without an answer, not a reset, and may repeat it elsewhere."""
    app = origin()
    one = proxy(CONFIG, **{**ANY, "grace": "0s"}, app=app.address)
    with one.connect() as client:
        assert client.get().status == 200
        one.terminate()
        client.sock.settimeout(10)
        assert client.more() == b""         # the proxy's half has ended
        client.send(request("POST", "/late"))
        assert client.rest() == b"" and not client.reset
    assert one.wait_exit() == 0 and len(app.requests) == 1
