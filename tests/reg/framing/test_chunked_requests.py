"""A chunked body is checked whole: the origin never sees an end that the client did not send well-formed."""

import pytest

from harness import wait_for

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

HEAD = b"POST /body HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD = [b"\r\n", b"g\r\nabc\r\n", b"0x3\r\nabc\r\n", b"+3\r\nabc\r\n", b"-3\r\nabc\r\n", b" 3\r\nabc\r\n", b"3 \r\nabc\r\n", b"3\t\r\nabc\r\n", b"3\nabc\r\n", b"3\rabc\r\n",
       b"3\r\nabc\n", b"3\r\nabcd\r\n", b"3\r\nabc0\r\n\r\n", b"2\r\nabc\r\n", b"3\r\nabc\r\r\n", b"3\r\nabc\r0\r\n\r\n", b"10000000000000000\r\nabc\r\n", b"ffffffffffffffff\r\nabc\r\n",
       b"8000000000000000\r\nabc\r\n", b"00000000000000000000000000000003\r\nabc\r\n", b";a=b\r\nabc\r\n", b"3;a\x00b\r\nabc\r\n", b"3;a=b\nabc\r\n", b"3;a=b\rx\r\nabc\r\n", b"3,3\r\nabc\r\n",
       b"3.0\r\nabc\r\n", b"\xb3\r\nabc\r\n", b"3;" + b"x" * 70000 + b"\r\nabc\r\n", b"1" * 300, b"3\r\nabc\r\n0\r\nX : y\r\n\r\n", b"3\r\nabc\r\n0\r\n X: y\r\n\r\n", b"3\r\nabc\r\n0\r\nX: a\nb\r\n\r\n",
       b"3\r\nabc\r\n0\r\nX: a\x00\r\n\r\n", b"3\r\nabc\r\n0\r\nX\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"0\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 100) for i in range(2000)) + b"\r\n"]
BAD += [b"1;%s\r\na\r\n" % (b"e" * 200) * 2000]  # many small extensions
GOOD = {b"3\r\nabc\r\n0\r\n\r\n": b"abc", b"003\r\nabc\r\n00\r\n\r\n": b"abc", b"3;a=b\r\nabc\r\n0;c\r\n\r\n": b"abc", b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n": b"0123456789" * 2, b"0\r\n\r\n": b"",
        b"3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n": b"abc"}
FORBIDDEN = [b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"Connection", b"Trailer", b"Content-Encoding", b"X-Forwarded-For", b"TE", b"Cookie", b"Set-Cookie"]


@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    app = origin_once()
    return proxy_once(CONFIG, app=app.address), app


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("body", BAD, ids=lambda body: ascii(body[:40].decode("latin-1")))
def test_malformed_never_completes(setup, body, bytewise):
    proxy, app = setup
    if bytewise and len(body) > 1000:
        pytest.skip("bounded by the other half")
    before, conns = len(app.requests), len(app.conns)
    with proxy.connect(timeout=3) as client:
        client.send(HEAD) and (client.send_bytewise(body) if bytewise else client.send(body))
        client.send(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n")
        answer = client.rest()
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 431"), answer[:80]
    assert answer.count(b"HTTP/1.1 ") == 1
    wait_for(lambda: all(conn.finished for conn in app.conns[conns:]), what="the origin's conn is cut")
    assert len(app.requests) == before, app.requests[before:]
    assert b"/smuggled" not in app.received


@pytest.mark.parametrize("body", GOOD, ids=ascii)
def test_well_formed_arrives_without_extensions(setup, body):
    proxy, app = setup
    before = len(app.requests)
    reply = proxy.exchange(HEAD + body)
    seen = app.wait_requests(before + 1)[-1]
    assert (reply.status, seen.body) == (200, GOOD[body])
    assert b";" not in seen.raw[len(seen.raw_head):]


@pytest.mark.parametrize("name", FORBIDDEN, ids=ascii)
def test_forbidden_trailers_are_dropped_and_others_kept(setup, name):
    proxy, app = setup
    before = len(app.requests)
    reply = proxy.exchange(HEAD + b"3\r\nabc\r\n0\r\nX-Before: 1\r\n" + name + b": 5\r\nX-After: 2\r\n\r\n")
    seen = app.wait_requests(before + 1)[-1]
    assert (reply.status, seen.body, seen.trailers) == (200, b"abc", [(b"X-Before", b"1"), (b"X-After", b"2")])


def test_every_split_point_gives_the_same_body(setup):
    proxy, app = setup
    raw = HEAD + b"3;x=y\r\nabc\r\n5\r\ndefgh\r\n0\r\nX-T: 1\r\n\r\n"
    before = len(app.requests)
    with proxy.connect() as client:
        for cut in range(1, len(raw)):
            client.send_at(raw, cut)
            assert client.response().status == 200, cut
    seen = app.wait_requests(before + len(raw) - 1)[before:]
    assert {(r.body, tuple(r.trailers)) for r in seen} == {(b"abcdefgh", ((b"X-T", b"1"),))}


def test_a_cut_body_never_completes(setup):
    proxy, app = setup
    raw = HEAD + b"3\r\nabc\r\n0\r\n\r\n"
    for cut in range(len(HEAD), len(raw)):
        before, conns = len(app.requests), len(app.conns)
        with proxy.connect() as client:
            client.send(raw[:cut])
        wait_for(lambda: all(conn.finished for conn in app.conns[conns:]), what=f"cut at {cut}")
        assert len(app.requests) == before, cut
