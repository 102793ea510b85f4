"""Fields of one hop end at the proxy, both ways; Connection can never remove framing, Host or what the proxy adds (RFC 9110 7.6.1)."""

import pytest

from harness import serve

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

HOP = ["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "TE: gzip", "Upgrade: foo", "HTTP2-Settings: AAAA", "Proxy-Authorization: x"]


def seen_with(proxy, origin, *lines):
    app = origin()
    reply = proxy(CONFIG, app=app.address).get("/", *lines)
    return app.requests[-1] if app.requests else None, reply


def test_always_hop_by_hop(proxy, origin):
    request, reply = seen_with(proxy, origin, "Connection: keep-alive", *[line for line in HOP if not line.startswith("Upgrade")])
    assert reply.status == 200
    assert not {line.split(":")[0].lower().encode() for line in HOP} & {name.lower() for name, _ in request.fields}


@pytest.mark.parametrize("value", ["X-Secret", "x-secret, close", "close,X-SECRET", ", ,X-Secret,", "keep-alive , x-secret"])
def test_named_fields_are_removed(proxy, origin, value):
    request, _ = seen_with(proxy, origin, f"Connection: {value}", "X-Secret: 1", "X-Open: 2")
    assert (request.all(b"x-secret"), request.all(b"x-open")) == ([], [b"2"])
    assert b"secret" not in b",".join(request.all(b"connection")).lower()


@pytest.mark.parametrize("name", ["Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id"])
def test_what_the_proxy_answers_for_stays(proxy, origin, name):
    request, reply = seen_with(proxy, origin, f"Connection: {name}")
    assert reply.status == 400 or request.all(name.encode()), (reply, request)


@pytest.mark.parametrize("value", ["a b", "x-a;q=1", "a\x0bb", "(", "x\x80"])
def test_malformed_connection_is_refused(proxy, origin, value):
    request, reply = seen_with(proxy, origin, f"Connection: {value}")
    assert (request, reply.status) == (None, 400)


def test_removed_from_responses(proxy, origin):
    app = origin(serve(lambda request, conn: b"HTTP/1.1 200 OK\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n"
                                             b"Proxy-Connection: x\r\nX-Open: 2\r\nContent-Length: 0\r\n\r\n"))
    reply = proxy(CONFIG, app=app.address).get()
    assert reply.all(b"x-open") == [b"2"]
    assert not {b"x-secret", b"keep-alive", b"proxy-connection"} & {name.lower() for name, _ in reply.fields}
