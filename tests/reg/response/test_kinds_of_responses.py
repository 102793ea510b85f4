"""1xx, HEAD, 204, 304, HTTP/1.0, close-delimited and chunked answers arrive as they were meant; surplus never answers the next request."""

import pytest

from harness import answering, serve, wait_for
from harness.origin import OK

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

def test_interim_responses_pass_and_are_bounded(proxy, origin):
    app = origin(serve(lambda request, conn: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + OK))
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [client.response(interim=True).status for _ in range(4)] == [103, 103, 103, 200]
    endless = origin(serve(lambda request, conn: b"HTTP/1.1 102 Processing\r\n\r\n" * 100000))
    with proxy(CONFIG, app=endless.address).connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert len(client.rest()) < 2**20


@pytest.mark.parametrize("head, method", [(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "HEAD"), (b"HTTP/1.1 204 No Content\r\n", "GET"), (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", "GET"),
                                          (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", "HEAD")])
def test_no_body_and_surplus_dropped(proxy, origin, head, method):
    app = origin(serve(lambda request, conn: head + b"\r\nHTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 0\r\n\r\n"))
    with proxy(CONFIG, app=app.address).connect() as client:
        for _ in range(5):
            reply = client.get(method=method)
            assert reply.status == int(head[9:12]) and not reply.all(b"x-evil")
        client.shut_write()
        assert client.rest() == b""
    assert len(app.conns) == 5


def test_a_204_that_announces_a_body_ends_its_conn(proxy, origin):
    app = origin(answering(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"))
    with proxy(CONFIG, app=app.address).connect() as client:
        for _ in range(3):
            reply = client.get()
            assert (reply.status, reply.all(b"content-length")) == (204, [])
    assert len(app.conns) == 3


def test_surplus_after_a_length_is_never_the_next_answer(proxy, origin):
    app = origin(answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    with proxy(CONFIG, app=app.address).connect() as client:
        assert [client.get().body for _ in range(5)] == [b"ok\n"] * 5
    assert len(app.conns) == 5


def test_unsolicited_bytes_on_an_idle_conn(proxy, origin):
    app = origin()
    one = proxy(CONFIG, app=app.address)
    assert one.get().body == b"ok\n"
    app.conns[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert one.get().body == b"ok\n"
    wait_for(lambda: app.conns[0].finished, what="the spoilt conn is closed")


def test_close_delimited_and_http_1_0(proxy, origin):
    app = origin(answering(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", close=True))
    one = proxy(CONFIG, app=app.address)
    assert (one.get().body, one.get().complete) == (b"until the end", True)
    assert one.exchange(b"GET / HTTP/1.0\r\n\r\n").body == b"until the end"


def test_trailers_reach_the_client(proxy, origin):
    app = origin(answering(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n"))
    reply = proxy(CONFIG, app=app.address).get()
    assert (reply.body, reply.trailers) == (b"abc", [(b"X-Sum", b"1")])


def test_chunked_to_a_1_0_client_has_no_chunks(proxy, origin):
    app = origin(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.rest().endswith(b"\r\n\r\nabc")
    with proxy(CONFIG, app=app.address).connect() as client:
        client.send(b"HEAD / HTTP/1.0\r\n\r\n")
        assert b"Transfer-Encoding" not in client.rest()


def test_a_status_line_is_well_formed(proxy, origin):
    app = origin(answering(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"))
    assert proxy(CONFIG, app=app.address).get().start == b"HTTP/1.1 200 "


@pytest.mark.parametrize("method, again", [("GET", True), ("PUT", True), ("POST", False)])
def test_keep_alive_race(proxy, origin, method, again):
    """The pooled conn takes the request and dies: repeated only where that is safe."""
    def script(conn):
        conn.request()
        conn.send(OK)
        if conn.index == 0:
            conn.request()
            return
        while conn.request():
            conn.send(OK)

    app = origin(script)
    one = proxy(CONFIG, app=app.address)
    assert one.get().status == 200
    assert one.get("/race", method=method).status == (200 if again else 502)
    assert len([request for request in app.requests if request.target == b"/race"]) == (2 if again else 1)
