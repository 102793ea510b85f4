"""Method, target, version and Host as RFC 9112 section 3 says: one reading, or a refusal."""

import pytest

from harness.verdict import forwarded, refused

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

HOST = "Host: example.com\r\n\r\n"
LINES = ["GET  / HTTP/1.1", " GET / HTTP/1.1", "GET /  HTTP/1.1", "GET / HTTP/1.1 ", "GET\t/ HTTP/1.1", "GET /\tHTTP/1.1", "GET\x0b/ HTTP/1.1", "GET / a HTTP/1.1", "GET", "GET / HTTP", "G(T / HTTP/1.1",
         "G\xc9T / HTTP/1.1", "GET\x00 / HTTP/1.1", "GET /\x00 HTTP/1.1", "GET /a\x7fb HTTP/1.1", "GET /\xe4 HTTP/1.1", "GET /#frag HTTP/1.1", "GET a HTTP/1.1", "GET example.com/ HTTP/1.1", "GET ?q HTTP/1.1",
         "GET * HTTP/1.1", "POST * HTTP/1.1", "GET example.com:80 HTTP/1.1", "GET http:// HTTP/1.1", "GET http:///x HTTP/1.1", "GET ftp://example.com/ HTTP/1.1", "GET http://user@example.com/ HTTP/1.1",
         "GET http://user:pw@example.com/ HTTP/1.1", "GET /%zz HTTP/1.1", "GET /%4 HTTP/1.1", "GET /% HTTP/1.1", "GET / http/1.1", "GET / HTTP/1.1x", "GET / HTTP/1,1", "GET / HTTP/11", "GET / HTTP/1.", "GET / HTTP/+1.1",
         "GET / XTTP/1.1", "A" * 100 + " / HTTP/1.1", "GET /\nX HTTP/1.1", "GET /\rX HTTP/1.1", "GET / HTTP/1.1\r"]
VERSIONS = ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/1.2", "HTTP/9.9", "HTTP/2"]
HOSTS = ["", "Host:\r\n", "Host: \r\n", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n", "Host: a\r\nhost: a\r\n", "Host: a,b\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: u@a\r\n", "Host: a?b\r\n",
         "Host: a#b\r\n", "Host: a:b\r\n", "Host: a:99999999\r\n", "Host: a:80:80\r\n", "Host: [::1\r\n", "Host: ::1\r\n", "Host: [g::1]\r\n", "Host: http://a\r\n", "Host: a\x00b\r\n", "Host : a\r\n", "Host:\r\n a\r\n", "Host: a\\b\r\n",
         "X-Host: a\r\n", "Host_: a\r\n", "Host: \xe4.com\r\n"]


@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    app = origin_once()
    return proxy_once(CONFIG, app=app.address), app


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("line", LINES, ids=ascii)
def test_malformed_request_line(setup, line, bytewise):
    refused(*setup, f"{line}\r\n{HOST}".encode("latin-1"), (400, 414, 501, 505), bytewise=bytewise)


@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_version(setup, version):
    refused(*setup, f"GET / {version}\r\n{HOST}".encode(), (505, 400))


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_bad_host(setup, host):
    refused(*setup, f"GET / HTTP/1.1\r\n{host}\r\n".encode("latin-1"))
    if "\x00" not in host:
        refused(*setup, f"GET http://example.com/ HTTP/1.1\r\n{host}\r\n".encode("latin-1"))


@pytest.mark.parametrize("raw", [b"GET /\r\n", b"GET /\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 64, b"SSH-2.0-x\r\n\r\n",
                                 b"\x80\x2e\x01\x00\x02", b"\r\n" * 200, b"\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"], ids=ascii)
def test_not_http_1_is_never_relayed(setup, raw):
    refused(*setup, raw, silent=True)


def test_connect_is_refused(setup):
    refused(*setup, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", (405,))


@pytest.mark.parametrize("target, path", [("http://other.com/p?q", b"/p?q"), ("HTTP://other.com/p", b"/p"), ("http://other.com", b"/"), ("http://other.com?q", b"/?q"), ("http://other.com:81/", b"/")])
def test_absolute_form_wins_over_host(setup, target, path):
    seen, reply = forwarded(*setup, f"GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode())
    assert reply.status == 200
    assert seen.all(b"host") == [b"other.com:81" if ":81" in target else b"other.com"]
    assert seen.target == path


@pytest.mark.parametrize("target", ["/", "/a?b=c&d", "//a//b", "/%2F%2f", "/a;b=c", "/?", "/a%20b", "/$&'()*+,;=:@!~._-", "/a?x=/../..", "/a?b?c=%00", "/..a/b..", "/.a", "/...", "/a|b"])
def test_target_is_forwarded_byte_for_byte(setup, target):
    seen, reply = forwarded(*setup, f"GET {target} HTTP/1.1\r\n{HOST}".encode())
    assert (reply.status, seen.target) == (200, target.encode())


@pytest.mark.parametrize("host", ["a", "EXAMPLE.com", "a.b-c_d.e", "127.0.0.1:80", "[::1]:80", "[::1]", "a.", "a:", "xn--4ca.com"])
def test_host_is_forwarded_byte_for_byte(setup, host):
    seen, _ = forwarded(*setup, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert seen.all(b"host") == [host.encode()]


def test_asterisk_form_and_max_forwards(setup):
    proxy, app = setup
    seen, _ = forwarded(proxy, app, f"OPTIONS * HTTP/1.1\r\nMax-Forwards: 5\r\n{HOST}".encode(), "OPTIONS")
    assert (seen.target, seen.get(b"max-forwards")) == (b"*", b"4")
    before = len(app.requests)
    reply = proxy.exchange(f"OPTIONS / HTTP/1.1\r\nMax-Forwards: 0\r\n{HOST}".encode())
    assert (reply.status, reply.body) == (200, b"")
    assert proxy.exchange(f"TRACE / HTTP/1.1\r\nMax-Forwards: 0\r\nCookie: secret\r\n{HOST}".encode()).status in (200, 400, 403, 405, 501)
    assert len(app.requests) == before


@pytest.mark.parametrize("values, answered", [(["0"], True), (["00"], True), (["000000000000"], True), (["0", "5"], True), (["5", "0"], True), (["1"], b"0"), (["010"], b"9"), (["99999999999999999999"], b"999999")])
def test_max_forwards_in_any_form(setup, values, answered):
    proxy, app = setup
    before = len(app.requests)
    reply = proxy.get("/", *(f"Max-Forwards: {value}" for value in values), method="OPTIONS")
    assert reply.status == 200
    assert [seen.get(b"max-forwards") for seen in app.requests[before:]] == ([] if answered is True else [answered])


def test_http_1_0_becomes_1_1_without_what_it_cannot_mean(setup):
    before = len(setup[1].requests)
    assert setup[0].exchange(b"POST / HTTP/1.0\r\nHost:\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi").status == 200
    seen = setup[1].wait_requests(before + 1)[-1]
    assert (seen.all(b"host"), seen.all(b"expect"), seen.body) == ([setup[1].address.encode()], [], b"hi")


def test_http_1_0_without_host_and_leading_empty_line(setup):
    with setup[0].connect() as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        reply = client.response()
        assert reply.status == 200 and not reply.all(b"transfer-encoding") and client.closed()
    seen, _ = forwarded(*setup, b"\r\n" + f"GET / HTTP/1.1\r\n{HOST}".encode())
    assert seen.target == b"/"


def test_an_empty_host_of_http_1_0_is_replaced(setup):
    """RFC 9112 3.2: it goes on as HTTP/1.1, where an http URI has a host."""
    proxy, app = setup
    seen, _ = forwarded(proxy, app, b"GET / HTTP/1.0\r\nHost: \r\nX-A: b\r\n\r\n")
    assert seen.all(b"host") == [app.address.encode()] and seen.get(b"x-a") == b"b"
