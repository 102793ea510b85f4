"""The other side dies, stalls or floods at the worst moment: nothing is lost, overrun, kept for ever or served out of turn."""

import hashlib
import os
import threading

import pytest

from harness import pace, serve, wait_for
from harness.client import request
from harness.wait import SCALE

CONFIG = """
admin: unix:$dir/admin.sock
workers: 1
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{match: {path: /direct}, direct_response: {status: 200, body: "$body"}}, {cluster: app}]}
  - {name: ux, bind: "unix:$dir/l.sock", protocol: http, routes: [{match: {path: /direct}, direct_response: {status: 200, body: "$body"}}, {cluster: app}]}
  - {name: tcp, bind: "127.0.0.1:0", protocol: tcp, cluster: app}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
MIB = 2**20


def quiet(one):
    """Nothing of an exchange is left: no downstream conn, no stream, no buffer."""
    def found():
        (worker,) = one.stats()["workers"]
        return not worker["conns"] and not worker["streams"] and not worker["buffers"]
    wait_for(found, 10, "all conns, streams and buffers of the exchange are gone")


def test_pipelined_chunked_bodies_stay_within_the_scratch(proxy, origin):
    """What is read behind one chunked body waits; behind the next it must not be added to without bound."""
    app = origin(serve(lambda message, conn: b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n"))
    one = proxy(CONFIG, app=app.address, body="")
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = os.urandom(400_000)
    with one.connect() as client:
        client.send(head + b"5\r\nhello\r\n0\r\n\r\n" + (head + b"%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n") * 3)
        assert [client.response().status for _ in range(4)] == [200] * 4
    assert [message.body for message in app.requests] == [b"hello", data, data, data]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_with_its_head_keeps_its_order(proxy, origin, kind, framing):
    """A Unix socket is connected at once: what came with the head still goes before what is in the socket."""
    app = origin(kind=kind)
    one = proxy(CONFIG, app=app.address, body="")
    data = os.urandom(300_000)
    with one.connect() as client:
        if framing == "length":
            client.send(request("POST", body=data))
        else:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n")
        assert client.response().status == 200
    assert hashlib.sha256(app.requests[0].body).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_an_early_answer_to_a_spliced_upload_arrives(proxy, origin, kind):
    """The upstream answers and closes on a body that it does not want, while the pipe to it is full."""
    go = threading.Event()

    def script(conn):
        conn.head()
        go.wait(30)
        conn.send(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbig\n")

    app = origin(script, kind=kind)
    one = proxy(CONFIG, app=app.address, body="")
    with one.connect(timeout=30) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (1024 * MIB))
        sender = threading.Thread(target=client.send, args=(bytes(32 * MIB),))
        sender.start()
        app.wait_requests(1)
        wait_for(lambda: one.stats()["workers"][0]["pipes"], what="a part of the body is in a pipe")
        wait_stuck(one)
        go.set()
        reply = client.response()
        assert (reply.status, reply.body) == (413, b"big\n")
        sender.join()
    quiet(one)


def wait_stuck(one):
    """Until nothing moves any more."""
    def moved():
        return sum(row["received_bytes"] + row["sent_bytes"] for row in one.stats()["clusters"].values())
    last = -1
    while (now := moved()) != last or not now:
        last = now
        pace(0.2)


def test_a_slow_reader_of_a_last_response_has_it_whole(proxy, origin):
    """`Connection: close` and the end of the body waits in the proxy: the time to close counts from when all is sent.

    The sizes are such that for one of them at least the kernel holds all but the last piece."""
    def reply(message, conn):
        size = int(message.target[1:])
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n")

    one = proxy(CONFIG, app=origin(serve(reply), keep=False).address, body="")
    sizes = range(120_000, 420_000, 30_000)
    clients = [one.connect("ux") for _ in sizes]
    for client, size in zip(clients, sizes):
        client.send(request("GET", f"/{size}", "Connection: close"))
    pace(2.5)  # Envoy's delayed close is 1 s
    for client, size in zip(clients, sizes):
        assert client.response().body == b"x" * size
        client.sock.close()
    quiet(one)


def test_a_response_that_is_given_up_does_not_look_whole(proxy, origin):
    """The client does not read: `stream_idle` ends what ends with the connection, by a reset."""
    def reply(message, conn):       # chunked, which an HTTP/1.0 client gets as bytes up to the end
        size = int(message.target[1:])
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size)
        conn.send(body[:size])
        conn.send(b"\r\n0\r\n\r\n")

    body = memoryview(b"x" * (16 * MIB))
    app = origin(serve(reply), keep=False)
    one = proxy(CONFIG.replace("protocol: http,", "protocol: http, timeouts: {stream_idle: 2s},", 1), app=app.address, body="")
    def give_up(sizes):
        clients = [one.connect(receive_bytes=4096) for _ in sizes]
        for client, size in zip(clients, sizes):
            client.send(b"GET /%d HTTP/1.0\r\nHost: a\r\n\r\n" % size)
        wait_stuck(one)
        (row,) = one.stats()["clusters"].values()
        quiet(one)
        for client, size in zip(clients, sizes):
            got = client.rest()
            assert client.reset or got.count(b"x") == size, (size, len(got))
            client.sock.close()
        return row["received_bytes"]

    taken = give_up([len(body)])    # next, the upstream gets rid of all, and the last piece waits
    give_up([taken - less for less in range(-5_000, 75_000, 5_000)])


@pytest.mark.parametrize("listener", ["web", "tcp"])
def test_a_reset_behind_spliced_bytes_is_passed_on(proxy, origin, listener):
    """What ends by a reset must not end like what is whole, however the bytes before it were moved."""
    def script(conn):
        if listener == "web":
            conn.head()
            conn.send(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            conn.exactly(1)
        conn.send(bytes(200_000))
        pace(0.001)
        conn.send(bytes(20_000))
        conn.reset()

    one = proxy(CONFIG, app=origin(script, keep=False).address, body="")
    for _ in range(60):
        with one.connect(listener) as client:
            client.send(request() if listener == "web" else b"x")
            client.rest()
            assert client.reset
    quiet(one)


def test_a_client_that_ends_within_a_body_has_its_answer(proxy, origin):
    """It was answered early, and takes the answer slowly."""
    one = proxy(CONFIG, app=origin().address, body="x" * 60_000)
    clients = [one.connect("ux") for _ in range(8)]
    for before, client in enumerate(clients):       # for one of them the last answer is what waits
        client.send(request("GET", "/direct") * before + b"POST /direct HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        client.shut_write()
    pace(0.3)
    for before, client in enumerate(clients):
        assert [client.response().body for _ in range(before + 1)] == [b"x" * 60_000] * (before + 1)
        client.sock.close()
    quiet(one)


def test_an_upstream_that_resets_a_full_tunnel_ends_it(proxy, origin):
    go = threading.Event()
    app = origin(lambda conn: (go.wait(30), conn.reset()), receive_bytes=4096)
    one = proxy(CONFIG, app=app.address, body="")
    clients = [one.connect("tcp", timeout=0.3) for _ in range(3)]
    for client in clients:
        try:
            while client.send(bytes(5_000)):
                pace(0.0005)    # read one by one, and so mostly copied, not spliced
        except TimeoutError:
            client.sock.settimeout(10 * SCALE)
    go.set()
    for client in clients:
        client.rest()
    quiet(one)                  # though the clients keep their side open
    for client in clients:
        client.sock.close()


def test_a_pipelining_client_that_does_not_read_gets_every_answer(proxy, origin):
    """Answers of the proxy's own are made no faster than they are taken."""
    one = proxy(CONFIG, app=origin().address, body="x" * 2000)
    n = 4000
    with one.connect(receive_bytes=4096, timeout=60) as client:
        sender = threading.Thread(target=client.send, args=(request("GET", "/direct") * n,), daemon=True)
        sender.start()
        pace(1)
        for _ in range(n):
            assert client.response().body == b"x" * 2000
        sender.join()
    quiet(one)


@pytest.mark.parametrize("n_body", [0, 5, 70_000])
def test_a_client_that_sends_all_and_goes_is_gone(proxy, origin, n_body):
    """The last bytes of a body and the end of the conn may be seen at once."""
    app = origin(lambda conn: (conn.request(), conn.drain()), keep=False)
    one = proxy(CONFIG, app=app.address, body="")
    for _ in range(20):
        with one.connect() as client:
            client.send(request("POST", body=bytes(n_body)))
    app.wait_conns(1)
    quiet(one)
    wait_for(lambda: all(conn.finished for conn in app.conns), what="the upstream knows")
