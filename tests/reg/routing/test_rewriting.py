"""Redirects, rewrites and direct responses as the Gateway API's conformance cases have them (B5)."""

import pytest

CONFIG = """
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    routes:
      - {match: {path_prefix: /r301}, redirect: {host: example.org, status: 301}}
      - {match: {path_prefix: /r302}, redirect: {host: example.org, status: 302}}
      - {match: {path_prefix: /r303}, redirect: {scheme: https, host: example.org, status: 303}}
      - {match: {path_prefix: /r307}, redirect: {port: 8443, status: 307}}
      - {match: {path_prefix: /r308}, redirect: {path: /new, status: 308}}
      - {match: {path_prefix: /old}, redirect: {path_prefix: /new, status: 302}}
      - {match: {path_prefix: /direct}, direct_response: {status: 418, body: "short and stout"}}
      - {match: {path: /full}, cluster: app, rewrite: {path: /whole}}
      - {match: {path_prefix: /strip}, cluster: app, rewrite: {path_prefix: /}}
      - {match: {path_prefix: /swap}, cluster: app, rewrite: {path_prefix: /other, host: inner.example}}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
REDIRECTS = [("/r301/a?b=c", 301, "http://example.org/r301/a?b=c"), ("/r302", 302, "http://example.org/r302"), ("/r303/x", 303, "https://example.org/r303/x"), ("/r307/x?y", 307, "http://example.com:8443/r307/x?y"),
             ("/r308/x?y=z", 308, "http://example.com/new?y=z"), ("/old/a/b?c", 302, "http://example.com/new/a/b?c"), ("/old", 302, "http://example.com/new")]
REWRITES = [("/full?q=1", "/whole?q=1", None), ("/strip/one?x", "/one?x", None), ("/strip", "/", None), ("/strip/", "/", None), ("/swap/a%2Fb", "/other/a%2Fb", b"inner.example"), ("/swap", "/other", b"inner.example")]


@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    app = origin_once()
    return proxy_once(CONFIG, app=app.address), app


@pytest.mark.parametrize("target, status, location", REDIRECTS)
def test_redirect(setup, target, status, location):
    reply = setup[0].get(target)
    assert (reply.status, reply.get(b"location").decode()) == (status, location)


@pytest.mark.parametrize("target, path, name", REWRITES)
def test_rewrite(setup, target, path, name):
    proxy, app = setup
    assert proxy.get(target).status == 200
    assert (app.requests[-1].target.decode(), app.requests[-1].all(b"host")) == (path, [name or b"example.com"])


def test_direct_response_and_keep_alive(setup):
    with setup[0].connect() as client:
        for _ in range(3):
            reply = client.get("/direct/x")
            assert (reply.status, reply.body) == (418, b"short and stout")
        assert client.get("/direct", method="HEAD").body == b""


def test_a_redirect_cannot_be_split(setup):
    reply = setup[0].get("/old/%0d%0aX-Evil:1")
    assert reply.status in (302, 400) and not reply.all(b"x-evil")
