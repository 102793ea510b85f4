"""What is forwarded is what was matched: dot segments in any encoding, backslash and NUL are refused; %2F and // stay."""

import pytest

from harness.verdict import forwarded, refused

CONFIG = """
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    routes:
      - {match: {path_prefix: /private}, direct_response: {status: 403, body: "private"}}
      - {cluster: app}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
DOTS = ["..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "..;x", "..;", "%2e%2e;a=b", ".", "%2e", "%2E", ".;x"]
PATHS = [f"/a/{d}/private" for d in DOTS] + [f"/{d}" for d in DOTS] + [f"/a/{d}" for d in DOTS] + [f"/{d}/" for d in DOTS] + ["/a\\b", "/a%5cb", "/a%5Cb", "/..\\x", "/a%00", "/%00", "/a%00.html", "/..%5cx"]
KEPT = ["/a%2Fb", "/a%2fprivate", "//private", "/%2e%2ehidden", "/a..b", "/%252e%252e/x"]


@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    app = origin_once()
    return proxy_once(CONFIG, app=app.address), app


@pytest.mark.parametrize("form", ["origin", "absolute"])
@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_refused(setup, path, form):
    target = path if form == "origin" else "http://example.com" + path
    refused(*setup, f"GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode())


@pytest.mark.parametrize("path", KEPT)
def test_kept_byte_for_byte(setup, path):
    seen, reply = forwarded(*setup, f"GET {path} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode())
    assert (seen.target, reply.status) == (path.encode(), 200)


def test_dots_in_a_query_are_no_path(setup):
    seen, _ = forwarded(*setup, b"GET /a?x=/../%2e%2e/%00 HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert seen.target == b"/a?x=/../%2e%2e/%00"
