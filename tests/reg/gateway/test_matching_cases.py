"""The matching cases of the Gateway API's conformance suite: prefix, exact, header, query, method, across hosts, and which
match wins (B1), with ::1 endpoints among 127.0.0.1 ones (A19)."""

import pytest

from harness.gateway import Backends, chosen, routes, to

PREFIX = routes(to("v1", {"path_prefix": "/"}, {"headers": {"version": "one"}}), to("v2", {"path_prefix": "/v2"}, {"headers": {"version": "two"}}))
EXACT = routes(to("v1", {"path": "/one"}), to("v2", {"path": "/two"}))
ORDER = routes(to("v3", {"path_prefix": "/match"}), to("v2", {"path_prefix": "/match/prefix/one"}), to("v1", {"path_prefix": "/match/prefix/"}),
               to("v2", {"path": "/match/exact"}), to("v3", {"path": "/match/exact/one"}), to("v1", {"path": "/match"}))
HEADER = routes(to("v1", {"headers": {"version": "one"}}), to("v2", {"headers": {"version": "two"}}), to("v1", {"headers": {"version": "two", "color": "orange"}}),
                to("v1", {"headers": {"color": "blue"}}, {"headers": {"color": "green"}}), to("v2", {"headers": {"color": "red"}}, {"headers": {"color": "yellow"}}))
QUERY = routes(to("v1", {"query": {"animal": "whale"}}), to("v2", {"query": {"animal": "dolphin"}}), to("v3", {"query": {"animal": "dolphin", "color": "blue"}}),
               to("v3", {"query": {"ANIMAL": "Whale"}}), to("v1", {"path_prefix": "/path1", "query": {"animal": "whale"}}),
               to("v2", {"headers": {"version": "one"}, "query": {"animal": "whale"}}),
               to("v3", {"path_prefix": "/path2", "query": {"animal": "whale"}, "headers": {"version": "two"}}),
               to("v1", {"path_prefix": "/path3", "query": {"animal": "shark"}}, {"path_prefix": "/path4", "query": {"animal": "kraken"}, "headers": {"version": "three"}}),
               to("v1", {"path_prefix": "/path5", "query": {"animal": "hydra"}}), to("v3", {"path_prefix": "/path5", "query": {"animal": "hydra"}, "headers": {"version": "four"}}))
METHOD = routes(to("v1", {"methods": ["POST"]}), to("v2", {"methods": ["GET"]}), to("v1", {"path_prefix": "/path1", "methods": ["GET"]}),
                to("v2", {"headers": {"version": "one"}, "methods": ["PUT"]}), to("v3", {"path_prefix": "/path2", "headers": {"version": "two"}, "methods": ["POST"]}),
                to("v1", {"path_prefix": "/path3", "methods": ["PATCH"]}, {"path_prefix": "/path4", "headers": {"version": "three"}, "methods": ["DELETE"]}),
                to("v1", {"path_prefix": "/path5"}), to("v2", {"methods": ["PATCH"]}), to("v3", {"headers": {"version": "four"}}))
HOSTS = [{"name": "com", "hosts": ["example.com"], "routes": routes(to("v1", {"path_prefix": "/"}, {"headers": {"version": "one"}}), to("v2", {"path_prefix": "/v2"}, {"headers": {"version": "two"}}))},
         {"name": "net", "hosts": ["example.net"], "routes": routes(to("v1", {"path_prefix": "/"}, {"headers": {"version": "one"}}))},
         {"name": "wild", "hosts": ["*.example.org"], "routes": routes(to("v2"))}, {"name": "narrow", "hosts": ["very.specific.example.org"], "routes": routes(to("v3"))}]
ONE, TWO, THREE, FOUR = ("Version: one",), ("Version: two",), ("Version: three",), ("Version: four",)
CASES = {
    "prefix": (PREFIX, [("/", "v1"), ("/example", "v1"), ("/", "v1", ONE), ("/v2", "v2"), ("/v2/example", "v2"), ("/", "v2", TWO), ("/v2/", "v2"), ("/v2example", "v1"), ("/foo/v2/example", "v1"), ("/v2?x=1", "v2")]),
    "exact": (EXACT, [("/one", "v1"), ("/two", "v2"), ("/", None), ("/one/example", None), ("/two/", None), ("/Two", None), ("/one?x", "v1")]),
    "order": (ORDER, [("/match/exact/one", "v3"), ("/match/exact", "v2"), ("/match", "v1"), ("/match/prefix/one/any", "v2"), ("/match/prefix/any", "v1"), ("/match/any", "v3"), ("/match/prefix/oneany", "v1")]),
    "header": (HEADER, [("/", "v1", ONE), ("/", "v2", TWO), ("/", "v1", (*TWO, "Color: orange")), ("/", "v1", ("Color: blue",)), ("/", "v1", ("Color: green",)), ("/", "v2", ("Color: red",)), ("/", "v2", ("Color: yellow",)),
                        ("/", None, ("Color: purple",)), ("/", None), ("/", None, ("Version: Two",)), ("/", "v2", ("VERSION: two", "color: orange2")), ("/", "v1", ("color: orange", "version: two"))]),
    "query": (QUERY, [("/?animal=whale", "v1"), ("/?animal=dolphin", "v2"), ("/?animal=whale&otherparam=irrelevant", "v1"), ("/?animal=dolphin&color=yellow", "v2"), ("/?animal=dolphin&color=blue", "v3"), ("/?color=blue&animal=dolphin", "v3"),
                      ("/?ANIMAL=Whale", "v3"), ("/?animal=Whale", None), ("/?color=blue", None), ("/?animal=dog", None), ("/?animal=whaledolphin", None), ("/?animal=", None), ("/", None),
                      ("/path1?animal=whale", "v1"), ("/?animal=whale", "v2", ONE), ("/path2?animal=whale", "v3", TWO), ("/path2?animal=whale", "v1"), ("/path3?animal=shark", "v1"), ("/path4?animal=kraken", "v1", THREE),
                      ("/path3?animal=kraken", None), ("/path4?animal=kraken", None), ("/path5?animal=hydra", "v1"), ("/path5?animal=hydra", "v3", FOUR), ("/?animal=whale&animal=dolphin", "v1"), ("/?animal=dolphin&animal=whale", "v2")]),
    "method": (METHOD, [("/", "v1", (), "POST"), ("/", "v2", (), "GET"), ("/", None, (), "HEAD"), ("/path1", "v1", (), "GET"), ("/", "v2", ONE, "PUT"), ("/", None, (), "PUT"), ("/path2", "v3", TWO, "POST"), ("/path2", "v1", (), "POST"),
                        ("/path3", "v1", (), "PATCH"), ("/path4", "v1", THREE, "DELETE"), ("/path4", None, (), "DELETE"), ("/path5", "v1", (), "PATCH"), ("/", "v2", FOUR, "PATCH"), ("/", "v3", FOUR, "DELETE"), ("/path5", "v1", FOUR, "PATCH")]),
    "hosts": (HOSTS, [("/", "v1"), ("/example", "v1"), ("/", "v1", ONE), ("/v2", "v2"), ("/v2/example", "v2"), ("/", "v2", TWO), ("/v2/", "v2"), ("/v2example", "v1"), ("/foo/v2/example", "v1"),
                      ("/example", "v1", (), "GET", "example.net"), ("/v2", "v1", (), "GET", "example.net"), ("/", "v1", TWO, "GET", "example.net:80"), ("/", "v3", (), "GET", "very.specific.example.org"), ("/", "v2", (), "GET", "other.example.org"),
                      ("/", "v2", (), "GET", "a.b.example.org"), ("/", None, (), "GET", "example.org"), ("/", None, (), "GET", "none.example")]),
}


@pytest.fixture(scope="module")
def one(proxy_once):
    backends = Backends("v1", "v2", "v3")
    yield proxy_once(backends.config(**{name: {"virtual_hosts" if name == "hosts" else "routes": rules} for name, (rules, _) in CASES.items()}))
    backends.close()


@pytest.mark.parametrize("table", CASES)
def test_every_case_of_the_table(one, table):
    for case in CASES[table][1]:
        target, expected, lines, method, name = case + ((), "GET", "example.com")[len(case) - 2:]
        assert chosen(one, target, *lines, listener=table, method=method, name=name) == expected, case
