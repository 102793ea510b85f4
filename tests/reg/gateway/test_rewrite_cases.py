"""The rewrite, header modifier and weight cases of the Gateway API's conformance suite (B2, B5, B6)."""

import collections

import pytest

from harness.client import request
from harness.gateway import Backends, chosen

EDITS = {"set": {"X-Header-Set": "set-overwrites-values"}, "add": {"X-Header-Add": "header-val-1", "X-Header-Add-Append": "header-val-2"}, "remove": ["X-Header-Remove"]}
MULTIPLE = {"set": {"X-Header-Set-1": "header-set-1", "X-Header-Set-2": "header-set-2"}, "add": {"X-Header-Add-1": "header-add-1", "X-Header-Add-2": ["a", "b"]}, "remove": ["X-Header-Remove-1", "X-Header-Remove-2"]}
ROUTES = [
    ("/prefix/rewrite-path-and-modify-headers", {"rewrite": {"path_prefix": "/prefix"}, "request_headers": EDITS}), ("/full/rewrite-path-and-modify-headers", {"rewrite": {"path": "/test"}, "request_headers": EDITS}),
    ("/prefix/one", {"rewrite": {"path_prefix": "/one"}}), ("/strip-prefix", {"rewrite": {"path_prefix": "/"}}), ("/full/one", {"rewrite": {"path": "/one"}}), ("/host", {"rewrite": {"host": "one.example.org"}}),
    ("/host-and-path", {"rewrite": {"host": "test.example.org:81", "path_prefix": "/x/"}}), ("/edit", {"request_headers": EDITS, "response_headers": EDITS}), ("/multiple", {"request_headers": MULTIPLE, "response_headers": MULTIPLE}), ("/plain", {}),
]
REWRITES = [  # (target, path at the cluster, Host there)
    ("/prefix/one/two", "/one/two", None), ("/prefix/one", "/one", None), ("/prefix/one/", "/one/", None), ("/strip-prefix/three", "/three", None), ("/strip-prefix", "/", None), ("/strip-prefix/", "/", None), ("/strip-prefix?a=b", "/?a=b", None),
    ("/full/one/two", "/one", None), ("/full/one?x=%20", "/one?x=%20", None), ("/host/a", "/host/a", "one.example.org"), ("/host-and-path/a//b%2F", "/x/a//b%2F", "test.example.org:81"), ("/host-and-path", "/x/", "test.example.org:81"),
    ("/prefix/rewrite-path-and-modify-headers/one", "/prefix/one", None), ("/full/rewrite-path-and-modify-headers/test", "/test", None),
]
SENT = {  # what is sent -> what the other side has of the same names, as Gateway API wants it
    "/edit": [([], {"x-header-set": ["set-overwrites-values"], "x-header-add": ["header-val-1"], "x-header-add-append": ["header-val-2"], "x-header-remove": []}),
              (["X-Header-Set: some-other-value", "X-Header-Add-Append: append-val-2", "X-Header-Remove: remove-val", "Some-Other: val"],
               {"x-header-set": ["set-overwrites-values"], "x-header-add": ["header-val-1"], "x-header-add-append": ["append-val-2", "header-val-2"], "x-header-remove": [], "some-other": ["val"]}),
              (["x-header-SET: 1", "x-header-set: 2", "X-HEADER-ADD: original", "x-header-remove: 1", "X-HEADER-REMOVE: 2"], {"x-header-set": ["set-overwrites-values"], "x-header-add": ["original", "header-val-1"], "x-header-remove": []})],
    "/multiple": [(["X-Header-Set-1: a", "X-Header-Add-2: 0", "X-Header-Remove-1: x", "X-Header-Remove-2: y", "Another: z"],
                   {"x-header-set-1": ["header-set-1"], "x-header-set-2": ["header-set-2"], "x-header-add-1": ["header-add-1"], "x-header-add-2": ["0", "a", "b"], "x-header-remove-1": [], "x-header-remove-2": [], "another": ["z"]})],
    "/plain": [(["X-Header-Set: a", "X-Header-Remove: b"], {"x-header-set": ["a"], "x-header-remove": ["b"]})],
}


def has(message, wanted):
    """A list of values, on one line or on several."""
    return {name: [part.strip().decode() for value in message.all(name.encode()) for part in value.split(b",")] for name in wanted} == wanted


@pytest.fixture(scope="module")
def setup(proxy_once):
    backends = Backends("app", "v2", "v3")
    split = [{"split": [{"cluster": "app", "weight": 70}, {"cluster": "v2", "weight": 30}, {"cluster": "v3", "weight": 0}]}]
    yield proxy_once(backends.config(web={"routes": [{"match": {"path_prefix": path}, "cluster": "app", **rest} for path, rest in ROUTES]}, split={"routes": split})), backends
    backends.close()


@pytest.mark.parametrize("target, path, name", REWRITES)
def test_rewrite(setup, target, path, name):
    proxy, backends = setup
    assert chosen(proxy, target, "X-Header-Remove: 1") == "app"
    assert (backends.last.target.decode(), backends.last.all(b"host")) == (path, [(name or "example.com").encode()])
    if "modify-headers" in target:
        assert has(backends.last, SENT["/edit"][0][1])


@pytest.mark.parametrize("target, lines, wanted", [(target, *case) for target, cases in SENT.items() for case in cases])
def test_request_header_modifier(setup, target, lines, wanted):
    proxy, backends = setup
    assert chosen(proxy, target, *lines) == "app"
    assert has(backends.last, wanted)
    assert b"remove" not in backends.last.raw_head.lower().replace(target.encode(), b"") or target == "/plain"


@pytest.mark.parametrize("target, lines, wanted", [(target, *case) for target, cases in SENT.items() for case in cases])
def test_response_header_modifier(setup, target, lines, wanted):
    proxy, backends = setup
    backends.lines = lines
    assert all(has(proxy.get(target), wanted) for _ in range(4))


def test_weight_70_30_0(setup):
    proxy, backends = setup
    seen = collections.Counter()
    with proxy.connect("split") as v4, proxy.connect("split6") as v6:
        for client in (v4, v6):
            client.send(request() * 1000)
            seen.update(client.response().get(b"x-cluster").decode() for _ in range(1000))
    assert set(seen) == {"app", "v2"} and abs(seen["app"] / 2000 - 0.7) < 0.05
    assert all(one.requests for name in ("app", "v2") for one in backends.of[name])
