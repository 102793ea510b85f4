"""Users find the real address last in X-Forwarded-For, a request id made or kept, no Via, and their own header case."""

import re

import pytest

from harness import serve

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
  - {name: web6, bind: "[::1]:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

@pytest.mark.parametrize("listener, address", [("web", b"127.0.0.1"), ("web6", b"::1")])
def test_added_when_absent(proxy, origin, listener, address):
    app = origin()
    proxy(CONFIG, app=app.address).get(listener=listener)
    request = app.requests[0]
    assert request.all(b"x-forwarded-for") == [address]
    assert request.all(b"x-forwarded-proto") == [b"http"]
    assert re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", request.get(b"x-request-id"))
    assert not request.all(b"via")


def test_appended_to_the_last_line_and_id_kept(proxy, origin):
    app = origin()
    proxy(CONFIG, app=app.address).get("/", "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2", "X-Request-Id: mine", "X-Forwarded-Proto: https")
    request = app.requests[0]
    values = [part.strip() for value in request.all(b"x-forwarded-for") for part in value.split(b",")]
    assert values == [b"1.1.1.1", b"2.2.2.2", b"127.0.0.1"]
    assert request.all(b"x-request-id") == [b"mine"]
    assert request.all(b"x-forwarded-proto") == [b"http"]


def test_ids_differ(proxy, origin):
    app = origin()
    with proxy(CONFIG, app=app.address).connect() as client:
        for _ in range(200):
            client.get()
    assert len({request.get(b"x-request-id") for request in app.requests}) == 200


def test_case_and_order_are_kept_both_ways(proxy, origin):
    app = origin(serve(lambda request, conn: b"HTTP/1.1 200 Fine By Me\r\nX-MyHeader: A\r\nx-lower: b\r\nX-UPPER: C\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"))
    reply = proxy(CONFIG, app=app.address).get("/", "X-MyHeader: A", "x-lower: b", "X-UPPER: C", "Accept: 1", "aCCept: 2")
    assert app.requests[0].fields[1:6] == [(b"X-MyHeader", b"A"), (b"x-lower", b"b"), (b"X-UPPER", b"C"), (b"Accept", b"1"), (b"aCCept", b"2")]
    assert reply.start == b"HTTP/1.1 200 Fine By Me"
    assert reply.fields[:5] == [(b"X-MyHeader", b"A"), (b"x-lower", b"b"), (b"X-UPPER", b"C"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")]
