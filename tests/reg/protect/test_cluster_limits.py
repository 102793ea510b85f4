"""Limits of a cluster (E12): what is over one is refused at once or waits, and the gauges say how much is left."""

import threading

from harness.client import request
from harness.origin import OK, serve
from harness.wait import wait_for

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
  - {name: db, bind: "127.0.0.1:0", protocol: tcp, cluster: app}
clusters:
  - {name: app, limits: {$limits}, endpoints: ["$app"]}
"""
REMAINING = "fastproxy_upstream_limit_remaining"


class Held:
    """An origin's reply that waits until it is let go."""

    def __init__(self):
        self.open = threading.Event()

    def __call__(self, message, conn):
        self.open.wait(20)
        return OK


def send_all(proxy, n):
    clients = [proxy.connect() for _ in range(n)]
    for client in clients:
        client.send(request("GET", "/"))
    return clients


def answers(clients):
    return sorted((reply.status, reply.get(b"x-fastproxy-error")) for reply in [client.response() for client in clients])


def test_requests_over_the_limit_are_503_overflow(proxy, origin):
    held = Held()
    app = origin(serve(held))
    one = proxy(CONFIG, app=app.address, limits="requests: 10")
    clients = send_all(one, 20)
    app.wait_requests(10)
    wait_for(lambda: one.metric("fastproxy_errors_total", cause="overflow") == 10)
    assert one.metric(REMAINING, cluster="app", limit="requests") == 0
    held.open.set()
    assert answers(clients) == [(200, None)] * 10 + [(503, b"overflow")] * 10
    assert len(app.requests) == 10
    assert wait_for(lambda: one.metric(REMAINING, cluster="app", limit="requests") == 10)
    assert one.get().status == 200


def test_over_the_limit_of_connections_requests_wait_in_order(proxy, origin):
    held = Held()
    app = origin(serve(held))
    one = proxy(CONFIG, app=app.address, limits="connections: 2")
    clients = send_all(one, 8)
    app.wait_requests(2)
    wait_for(lambda: one.metric(REMAINING, cluster="app", limit="pending") == 1024 - 6)
    assert (len(app.conns), one.metric(REMAINING, cluster="app", limit="connections")) == (2, 0)
    held.open.set()
    assert answers(clients) == [(200, None)] * 8
    assert len(app.conns) == 2 and len(app.requests) == 8
    assert one.metric(REMAINING, cluster="app", limit="pending") == 1024


def test_who_waits_gets_a_new_conn_when_one_ends(proxy, origin):
    app = origin(serve(lambda message, conn: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
    one = proxy(CONFIG, app=app.address, limits="connections: 1")
    assert answers(send_all(one, 12)) == [(200, None)] * 12
    assert len(app.conns) == 12


def test_over_the_limit_of_pending_requests(proxy, origin):
    held = Held()
    app = origin(serve(held))
    one = proxy(CONFIG, app=app.address, limits="connections: 1, pending: 3")
    clients = send_all(one, 1)
    app.wait_requests(1)                    # its dial was pending, too
    clients += send_all(one, 9)
    wait_for(lambda: one.metric("fastproxy_errors_total", cause="overflow") == 6)
    held.open.set()
    assert answers(clients) == [(200, None)] * 4 + [(503, b"overflow")] * 6


def test_a_client_that_goes_away_while_it_waits(proxy, origin):
    held = Held()
    app = origin(serve(held))
    one = proxy(CONFIG, app=app.address, limits="connections: 1")
    clients = send_all(one, 1)
    app.wait_requests(1)
    clients += send_all(one, 4)
    wait_for(lambda: one.metric(REMAINING, cluster="app", limit="pending") == 1020)
    for client in clients[1:4:2]:
        client.abort()
    wait_for(lambda: one.metric(REMAINING, cluster="app", limit="pending") == 1022)
    held.open.set()
    assert answers([clients[0], clients[2], clients[4]]) == [(200, None)] * 3
    assert len(app.requests) == 3


def test_a_body_behind_a_head_that_waited(proxy, origin):
    held = Held()
    app = origin(serve(held))
    one = proxy(CONFIG, app=app.address, limits="connections: 1")
    first = send_all(one, 1)
    app.wait_requests(1)
    body = bytes(range(256)) * 1200
    with one.connect() as client:
        sender = threading.Thread(target=client.send, args=(request("POST", "/", body=body),))
        sender.start()
        wait_for(lambda: one.metric(REMAINING, cluster="app", limit="pending") == 1023)
        held.open.set()
        assert client.response("POST").status == 200
        sender.join()
    assert answers(first) == [(200, None)] and app.requests[1].body == body


def test_tcp_over_the_limit_of_connections_is_closed(proxy, origin):
    app = origin(lambda conn: conn.drain())
    one = proxy(CONFIG, app=app.address, limits="connections: 2")
    held = [one.connect("db") for _ in range(2)]
    app.wait_conns(2)
    try:
        with one.connect("db") as client:
            assert client.closed()
    except ConnectionResetError:
        pass                                # it was faster than connect()
    assert one.metric("fastproxy_errors_total", cause="overflow") == 1 and len(app.conns) == 2
    held[0].abort()
    wait_for(lambda: one.metric(REMAINING, cluster="app", limit="connections") == 1)
    with one.connect("db"):
        app.wait_conns(3)
