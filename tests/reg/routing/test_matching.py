"""Gateway API matching cases: host, path, segment prefix, method, header and query, first match in order."""

import pytest

CONFIG = """
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    routes:
      - {name: host, match: {host: "special.example.com", path: /exact}, direct_response: {status: 200, body: host-exact}}
      - {name: wild, match: {host: "*.wild.com"}, direct_response: {status: 200, body: wild}}
      - {name: exact, match: {path: /exact}, direct_response: {status: 200, body: exact}}
      - {name: both, match: {path_prefix: /v2, headers: {x-color: blue}, query: {animal: whale}}, direct_response: {status: 200, body: both}}
      - {name: header, match: {path_prefix: /v2, headers: {x-color: blue}}, direct_response: {status: 200, body: header}}
      - {name: query, match: {path_prefix: /v2, query: {animal: whale}}, direct_response: {status: 200, body: query}}
      - {name: method, match: {path_prefix: /v2, methods: [POST, PATCH]}, direct_response: {status: 200, body: method}}
      - {name: pattern, match: {path: {regex: "/r/[0-9]+(/x)?"}}, direct_response: {status: 200, body: regex}}
      - {name: prefix, match: {path_prefix: /v2/}, direct_response: {status: 200, body: prefix}}
clusters: []
"""
CASES = [
    ("GET", "/exact", "example.com", [], "exact"), ("GET", "/exact?a=b", "example.com", [], "exact"), ("GET", "/exact/", "example.com", [], None), ("GET", "/EXACT", "example.com", [], None),
    ("GET", "/exact", "special.example.com", [], "host-exact"), ("GET", "/exact", "SPECIAL.Example.COM:8080", [], "host-exact"), ("GET", "/exact", "special.example.com.", [], "host-exact"),
    ("GET", "/any", "a.wild.com", [], "wild"), ("GET", "/any", "a.b.wild.com", [], "wild"), ("GET", "/any", "wild.com", [], None), ("GET", "/any", "awild.com", [], None),
    ("GET", "/v2", "a", [], "prefix"), ("GET", "/v2/", "a", [], "prefix"), ("GET", "/v2/x", "a", [], "prefix"), ("GET", "/v2x", "a", [], None), ("GET", "/v2%2Fx", "a", [], None), ("GET", "//v2", "a", [], None),
    ("GET", "/v2", "a", ["X-Color: blue"], "header"), ("GET", "/v2", "a", ["x-color: Blue"], "prefix"), ("GET", "/v2", "a", ["x-color: blue2"], "prefix"),
    ("GET", "/v2?animal=whale", "a", [], "query"), ("GET", "/v2?x=1&animal=whale&y", "a", [], "query"), ("GET", "/v2?animal=whales", "a", [], "prefix"), ("GET", "/v2?Animal=whale", "a", [], "prefix"),
    ("GET", "/v2?animal=dolphin&animal=whale", "a", [], "prefix"), ("GET", "/v2?animal=whale", "a", ["x-color: blue"], "both"), ("POST", "/v2", "a", [], "method"), ("PATCH", "/v2/y", "a", [], "method"),
    ("post", "/v2", "a", [], "prefix"), ("GET", "/r/12", "a", [], "regex"), ("GET", "/r/12/x", "a", [], "regex"), ("GET", "/r/12/xy", "a", [], None), ("GET", "/r/", "a", [], None), ("GET", "/", "a", [], None),
]


@pytest.fixture(scope="module")
def one(proxy_once):
    return proxy_once(CONFIG)


@pytest.mark.parametrize("method, target, name, lines, body", CASES)
def test_matching(one, method, target, name, lines, body):
    reply = one.get(target, *lines, name=name, method=method)
    assert (reply.status, reply.body.decode()) == (200, body) if body else reply.status == 404


def test_no_route_names_its_cause(one):
    reply = one.get("/nowhere")
    assert (reply.status, reply.get(b"x-fastproxy-error")) == (404, b"no_route") and b"no route" in reply.body


HOSTS = """
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    virtual_hosts:
      - {name: any, hosts: ["*"], routes: [{direct_response: {status: 200, body: any}}]}
      - {name: exact, hosts: [a.example.com], routes: [{match: {path: /only}, direct_response: {status: 200, body: exact}}]}
      - {name: short, hosts: ["*.com"], routes: [{direct_response: {status: 200, body: short}}]}
      - {name: long, hosts: ["*.example.com"], routes: [{direct_response: {status: 200, body: long}}]}
      - {name: prefix, hosts: ["www.*"], routes: [{direct_response: {status: 200, body: prefix}}]}
clusters: []
"""


def test_virtual_hosts_do_not_fall_through(proxy):
    one = proxy(HOSTS)
    for name, target, body in [("a.example.com", "/only", b"exact"), ("a.example.com", "/x", None), ("b.example.com", "/", b"long"), ("b.com", "/", b"short"), ("www.org", "/", b"prefix"), ("www.com", "/", b"short"), ("x", "/", b"any")]:
        reply = one.get(target, name=name)
        assert reply.body == body if body else reply.status == 404, (name, reply)
