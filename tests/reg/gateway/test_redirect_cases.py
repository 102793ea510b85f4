"""The redirect cases of the Gateway API's conformance suite: host, path, port, scheme and status (B5)."""

import json

import pytest

ROUTES = [
    ("/hostname-redirect", {"host": "example.org"}), ("/host-and-status", {"host": "example.org", "status": 301}), *((f"/status-{n}", {"host": "example.org", "status": n}) for n in (301, 302, 303, 307, 308)),
    ("/original-prefix", {"path_prefix": "/replacement-prefix"}), ("/full", {"path": "/full-path-replacement"}), ("/path-and-host", {"host": "example.org", "path_prefix": "/replacement-prefix"}),
    ("/path-and-status", {"path_prefix": "/replacement-prefix", "status": 301}), ("/full-path-and-host", {"host": "example.org", "path": "/replacement-full"}), ("/full-path-and-status", {"path": "/replacement-full", "status": 301}),
    ("/port", {"port": 8083}), ("/port-and-host", {"host": "example.org", "port": 8083}), ("/port-and-status", {"port": 8083, "status": 301}), ("/port-80", {"host": "example.org", "port": 80}), ("/port-443", {"port": 443}),
    ("/scheme", {"scheme": "https"}), ("/scheme-and-host", {"scheme": "https", "host": "example.org"}), ("/scheme-and-status", {"scheme": "https", "status": 301}), ("/scheme-and-port", {"scheme": "https", "port": 8443}),
    ("/https-443", {"scheme": "https", "host": "example.org", "port": 443}), ("/http-443", {"scheme": "http", "port": 443}), ("/http", {"scheme": "http", "host": "example.org"}), ("/all", {"scheme": "https", "host": "example.org", "port": 8443, "path": "/x", "status": 308}),
    ("/to-root", {"path_prefix": "/"}), ("/slash/", {"path_prefix": "/new/"}),
]
CASES = [  # (target, Host, status, Location)
    ("/hostname-redirect", "example.com", 302, "http://example.org/hostname-redirect"), ("/host-and-status", "example.com", 301, "http://example.org/host-and-status"),
    *((f"/status-{n}", "example.com", n, f"http://example.org/status-{n}") for n in (301, 302, 303, 307, 308)),
    ("/original-prefix/lemon", "example.com", 302, "http://example.com/replacement-prefix/lemon"), ("/original-prefix", "example.com", 302, "http://example.com/replacement-prefix"), ("/original-prefix/", "example.com", 302, "http://example.com/replacement-prefix/"),
    ("/original-prefix?a=b&c", "example.com", 302, "http://example.com/replacement-prefix?a=b&c"), ("/full/path/original", "example.com", 302, "http://example.com/full-path-replacement"),
    ("/path-and-host/lemon", "example.com", 302, "http://example.org/replacement-prefix/lemon"), ("/path-and-status/lemon", "example.com", 301, "http://example.com/replacement-prefix/lemon"),
    ("/full-path-and-host/a/b?q", "example.com", 302, "http://example.org/replacement-full?q"), ("/full-path-and-status", "example.com", 301, "http://example.com/replacement-full"),
    ("/port", "example.com", 302, "http://example.com:8083/port"), ("/port", "example.com:80", 302, "http://example.com:8083/port"), ("/port-and-host", "example.com", 302, "http://example.org:8083/port-and-host"), ("/port-and-status", "example.com", 301, "http://example.com:8083/port-and-status"),
    ("/port-80", "example.com:8080", 302, "http://example.org/port-80"), ("/port-443", "example.com", 302, "http://example.com:443/port-443"),
    ("/scheme", "example.com", 302, "https://example.com/scheme"), ("/scheme", "example.com:8080", 302, "https://example.com/scheme"), ("/scheme-and-host", "example.com", 302, "https://example.org/scheme-and-host"), ("/scheme-and-status", "example.com", 301, "https://example.com/scheme-and-status"),
    ("/scheme-and-port", "example.com:80", 302, "https://example.com:8443/scheme-and-port"), ("/https-443", "example.com", 302, "https://example.org/https-443"), ("/http-443", "example.com", 302, "http://example.com:443/http-443"), ("/http", "example.com:8080", 302, "http://example.org/http"),
    ("/all/y?z", "a:1", 308, "https://example.org:8443/x?z"), ("/to-root/a", "a", 302, "http://a/a"), ("/to-root", "a", 302, "http://a/"), ("/slash/a", "a", 302, "http://a/new/a"),
    # Without scheme and port the port stays that of the request, the listener's.
    ("/original-prefix/x", "example.com:8080", 302, "http://example.com:8080/replacement-prefix/x"), ("/hostname-redirect", "example.com:8080", 302, "http://example.org:8080/hostname-redirect"),
    ("/hostname-redirect", "[::1]:8080", 302, "http://example.org:8080/hostname-redirect"), ("/hostname-redirect", "[::1]", 302, "http://example.org/hostname-redirect"), ("/scheme", "[::1]:8080", 302, "https://[::1]/scheme"),
]


@pytest.fixture(scope="module")
def one(proxy_once):
    rows = [{"match": {"path_prefix": path}, "redirect": to, "response_headers": {"set": {"X-Redirected": "yes"}}} for path, to in ROUTES]
    return proxy_once(json.dumps({"listeners": [{"name": name, "bind": bind, "routes": rows} for name, bind in (("web", "127.0.0.1:0"), ("web6", "[::1]:0"))]}))


@pytest.mark.parametrize("listener", ["web", "web6"])
@pytest.mark.parametrize("target, name, status, location", CASES)
def test_location(one, listener, target, name, status, location):
    reply = one.get(target, name=name, listener=listener)
    assert (reply.status, reply.all(b"location"), reply.body) == (status, [location.encode()], b"")
    assert reply.all(b"x-redirected") == [b"yes"]


def test_without_any_host_there_is_nowhere_to_go(one):
    for target, status in (("/original-prefix/x", 400), ("/scheme", 400), ("/hostname-redirect", 302)):
        reply = one.exchange(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        assert (reply.status, reply.all(b"location")) == (status, [b"http://example.org" + target.encode()] if status == 302 else [])


def test_a_redirect_keeps_the_connection_and_has_no_body_for_head(one):
    with one.connect() as client:
        for method in ("HEAD", "GET", "POST", "HEAD", "GET"):
            assert client.get("/port", method=method).status == 302
