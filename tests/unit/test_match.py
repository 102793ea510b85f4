"""Route tables: rows by hand, a brute-force oracle over random tables, the bounds, and the cost, flat in the table."""

import ctypes
import gc
import marshal
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastproxy import _core


def is_(kind, value="", invert=False):
    return {"kind": kind, "value": value, "invert": invert}


def route(index=0, **given):
    return {"host": None, "path": None, "methods": None, "headers": [], "query": [], "index": index, **given}


def ordered(*routes):
    return {"mode": "ordered", "routes": [route(i, **one) for i, one in enumerate(routes)]}


def virtual(*groups):
    """Each group is (hosts, routes)."""
    numbers = iter(range(1 << 20))
    return {"mode": "virtual_hosts",
            "virtual_hosts": [{"hosts": list(hosts), "routes": [route(next(numbers), **one) for one in routes]} for hosts, routes in groups]}


# ---- the oracle -----------------------------------------------------------------------------------------------------

def text_holds(matcher, value):
    kind, text = matcher["kind"], matcher["value"].encode()
    return {"exact": lambda: value == text, "prefix": lambda: value.startswith(text), "suffix": lambda: value.endswith(text),
            "contains": lambda: text in value, "regex": lambda: re.fullmatch(text, value) is not None, "present": lambda: True}[kind]()


def value_holds(matcher, value):
    if value is None:
        return matcher["kind"] == "present" and matcher["invert"]
    return text_holds(matcher, value) != matcher["invert"]


def plain_host(host):
    host = re.sub(rb":[0-9]*\Z", b"", host.lower())
    return host[:-1] if host.endswith(b".") else host


def pattern_holds(pattern, host):
    if pattern in (None, "*"):
        return True
    if len(host) > 255:
        return False
    pattern = pattern.lower().encode()
    if pattern.startswith(b"*."):
        return host.endswith(pattern[1:]) and len(host) >= len(pattern)
    if pattern.endswith(b".*"):
        return host.startswith(pattern[:-1]) and len(host) >= len(pattern)
    return host == pattern


def path_holds(one, path):
    if one["path"] is None:
        return True
    kind, text = one["path"]
    if kind == "segment":
        text = text[:-1] if text.endswith("/") else text
        held = text == "" or path == text.encode() or path.startswith(text.encode() + b"/")
    else:
        held = text_holds(is_(kind, text), path)
    return held != one.get("path_invert", False)


def query_value(name, query):
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == name.encode() and pair:
            return value
    return None


def header_value(name, headers):
    values = [value for key, value in headers if key.lower() == name.encode()]
    return b",".join(values) if values else None


def rule_holds(one, method, host, path, query, headers):
    if isinstance(one["host"], dict):
        if len(host) > 255 or not value_holds(one["host"], host):
            return False
    elif not pattern_holds(one["host"], host):
        return False
    return (path_holds(one, path) and (one["methods"] is None or method.decode() in one["methods"])
            and all(value_holds(m, header_value(name, headers)) for name, m in one["headers"])
            and all(value_holds(m, query_value(name, query)) for name, m in one["query"]))


def expected(desc, method, host, path, query, headers):
    host = plain_host(host)
    routes = desc.get("routes")
    if desc["mode"] == "virtual_hosts":
        def rank(pattern):
            return (0 if "*" not in pattern else 3 if pattern == "*" else 1 if pattern[0] == "*" else 2, -len(pattern))
        hits = [(rank(p), i) for i, group in enumerate(desc["virtual_hosts"]) for p in group["hosts"] if pattern_holds(p, host)]
        routes = desc["virtual_hosts"][min(hits)[1]]["routes"] if hits else []
    return next((one["index"] for one in routes if rule_holds(one, method, host, path, query, headers)), None)


LABELS = st.sampled_from(["a", "b", "ab", "www", "abcdefgh", "abcdefghi"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
HOST_PATTERNS = st.one_of(NAMES, NAMES.map("*.{}".format), NAMES.map("{}.*".format), st.just("*"))
HOSTS = st.one_of(NAMES, st.tuples(NAMES, st.sampled_from(["", ":80", ".", ".:8080", ":", "..", ".x"])).map("".join),
                  st.sampled_from(["", ".", "[::1]", "[::1]:80", "a", "x." * 127 + "ab", "x." * 128 + "ab", ".a", "A.B", "Ab.ABCDEFGH"])).map(str.encode)
SEGMENTS = st.sampled_from(["", "a", "b", "ab", "A", "%2F", "abcdefg", "abcdefgh", "abcdefghi", "abcdefghabcdefgh", "x.png"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))
PATH_MATCHES = st.one_of(
    st.none(), PATHS.map(lambda p: ("exact", p)), PATHS.map(lambda p: ("segment", p)), PATHS.map(lambda p: ("prefix", p)),
    st.tuples(PATHS, st.integers(0, 12)).map(lambda two: ("prefix", two[0][:two[1]])),
    st.sampled_from([("suffix", ".png"), ("suffix", "/a"), ("contains", "/ab"), ("contains", "b/"), ("regex", "/a.*"), ("regex", "(/[ab]+)*"), ("exact", "*"), ("prefix", "")]))
MATCHERS = st.one_of(
    st.builds(is_, st.sampled_from(["exact", "prefix", "suffix", "contains"]), st.sampled_from(["", "a", "b", "ab", "a,b", ","]), st.booleans()),
    st.builds(is_, st.just("present"), st.just(""), st.booleans()), st.builds(is_, st.just("regex"), st.sampled_from(["a*b", ".*,.*", "[^a]+"]), st.booleans()))
HOST_MATCHERS = st.builds(is_, st.sampled_from(["prefix", "suffix", "contains", "exact"]), st.sampled_from(["a", "b", ".", "ab"]), st.booleans())
HEADER_NAMES = st.sampled_from(["x-user", "host", "via", "x-request-id", "te"])
PARTS = {
    "path": PATH_MATCHES, "path_invert": st.sampled_from([False] * 5 + [True]),
    "methods": st.one_of(st.none(), st.lists(st.sampled_from(["GET", "POST", "HEAD", "PURGE", "PURGES", "get"]), min_size=1, max_size=3)),
    "headers": st.lists(st.tuples(HEADER_NAMES, MATCHERS), max_size=2) | st.just([]),
    "query": st.lists(st.tuples(st.sampled_from(["q", "qq", "a"]), MATCHERS), max_size=2) | st.just([]),
}
SIMPLE = st.fixed_dictionaries({"path": PATH_MATCHES})
HOSTLESS = st.fixed_dictionaries(PARTS) | SIMPLE
HOSTED = st.fixed_dictionaries({**PARTS, "host": st.none() | HOST_PATTERNS | HOST_MATCHERS}) | st.fixed_dictionaries({"path": PATH_MATCHES, "host": HOST_PATTERNS})
TABLES = st.one_of(
    st.lists(HOSTED, max_size=12).map(lambda routes: ordered(*routes)),
    st.lists(st.tuples(st.lists(HOST_PATTERNS, max_size=3), st.lists(HOSTLESS, max_size=5)), max_size=5).map(
        lambda groups: virtual(*without_repeats(groups))))
REQUESTS = st.tuples(
    st.sampled_from([b"GET", b"GET", b"POST", b"PURGE", b"PUR", b"get", b"URGE"]), HOSTS, PATHS.map(str.encode) | st.sampled_from([b"*", b"", b"//", b"/" * 40]),
    st.lists(st.sampled_from([b"q=a", b"q=b", b"q", b"qq=ab", b"q=", b"a=a=b", b"", b"=", b"%71=a"]), max_size=4).map(b"&".join),
    st.lists(st.tuples(st.sampled_from([b"x-user", b"X-User", b"Host", b"VIA", b"x-users", b"TE"]), st.sampled_from([b"", b"a", b"b", b"ab", b"a,b"])), max_size=4))


def without_repeats(groups):
    seen = set()
    for hosts, routes in groups:
        yield [one for one in hosts if one not in seen and not seen.add(one)], routes


@settings(max_examples=250, deadline=None)
@given(TABLES, st.lists(REQUESTS, min_size=1, max_size=12))
def test_agrees_with_a_linear_search(desc, requests):
    table = _core.RouteTable(desc)
    for request in requests:
        assert table.match(*request) == expected(desc, *request), request


def test_agrees_on_a_large_table():
    """Long lists, many groups, more lists at once than are merged at once."""
    rng = random.Random(7)
    words = ["a", "b", "c", "api", "v1", "v2", "longer-than-eight", ""]

    def path():
        return "/" + "/".join(rng.choices(words, k=rng.randrange(1, 6)))

    def one():
        return {"host": rng.choice([None, "a.com", "*.com", "*.a.com", "a.*", "b.a.com"]), "path": (rng.choice(["exact", "segment", "prefix", "prefix"]), path()),
                "headers": rng.choice([[], [("x", is_("exact", rng.choice("ab")))]]), "methods": rng.choice([None, ["POST"], ["GET"]])}
    nested = [{"path": (kind, "/" * n), "headers": [("x", is_("exact", "b"))]} for n in range(1, 60) for kind in ("segment", "prefix")]
    desc = ordered(*nested, *(one() for _ in range(3000)))
    table = _core.RouteTable(desc)
    for _ in range(400):
        request = (rng.choice([b"GET", b"POST"]), rng.choice([b"a.com", b"b.a.com", b"c.b.a.com", b"a.b", b"x"]), rng.choice([path().encode(), b"/" * rng.randrange(1, 70)]),
                   b"", rng.choice([[], [(b"x", b"a")], [(b"x", b"b")]]))
        assert table.match(*request) == expected(desc, *request), request


# ---- rows by hand ---------------------------------------------------------------------------------------------------

def test_best_host_alone_has_a_say():
    table = _core.RouteTable(virtual(
        (["*"], [{}]), (["a.com", "*.b.a.com"], [{"path": ("exact", "/1")}]), (["*.a.com"], [{"path": ("exact", "/2")}]), (["a.*"], [{"path": ("exact", "/3")}]),
        (["a.b.*"], [{"path": ("exact", "/4")}])))
    rows = [(b"a.com", b"/1", 1), (b"a.com", b"/2", None), (b"x.a.com", b"/2", 2), (b"x.b.a.com", b"/1", 1), (b"x.b.a.com", b"/2", None), (b"b.a.com", b"/2", 2),
            (b"a.org", b"/3", 3), (b"a.b.c", b"/3", None), (b"a.b.c", b"/4", 4), (b"b.com", b"/9", 0), (b"", b"/", 0), (b"a.", b"/3", 0), (b".a.com", b"/2", 0),
            (b"A.COM:443", b"/1", 1), (b"a.com.:443", b"/1", 1), (b"a.com..", b"/3", 3)]
    assert [(host, path, table.match(host=host, path=path)) for host, path, _ in rows] == rows


def test_addresses_as_hosts():
    table = _core.RouteTable(virtual((["[::1]"], [{}]), (["10.0.0.1"], [{}])))
    rows = [(b"[::1]", 0), (b"[::1]:8080", 0), (b"[::2]", None), (b"10.0.0.1", 1), (b"10.0.0.1:80", 1), (b"10.0.0.10", None)]
    assert [(host, table.match(host=host)) for host, _ in rows] == rows


@pytest.mark.parametrize("kind, text, good, bad", [
    ("segment", "/v2", ["/v2", "/v2/", "/v2/x", "/v2//"], ["/v2x", "/v", "/V2", "/x/v2", "/", "//v2", "/v2%2Fx"]),
    ("segment", "/v2/", ["/v2", "/v2/", "/v2/x"], ["/v2x"]),
    ("segment", "/", ["/", "/x", "//", "*"], []),
    ("segment", "//", ["/", "//", "//x"], ["/x"]),
    ("segment", "/a%2Fb", ["/a%2Fb", "/a%2Fb/c"], ["/a/b", "/a%2fb"]),
    ("prefix", "/v2", ["/v2", "/v2x", "/v2/x"], ["/v", "/"]),
    ("exact", "/v2", ["/v2"], ["/v2/", "/v2x", "/v"]),
    ("exact", "/", ["/"], ["//", "/x", ""]),
    ("exact", "*", ["*"], ["/", "/*"]),
    ("exact", "a", ["a"], ["/a"]),
    ("suffix", ".png", ["/a.png", ".png"], ["/a.png/", "png"]),
    ("contains", "b/c", ["/ab/cd"], ["/b", "/bc"]),
    ("regex", "/[a-z]+", ["/abc"], ["/abc/", "/abc1", "x/abc"]),
])
def test_paths(kind, text, good, bad):
    table = _core.RouteTable(ordered({"path": (kind, text)}))
    opposite = _core.RouteTable(ordered({"path": (kind, text), "path_invert": True}))
    for path in good:
        assert (table.match(path=path.encode()), opposite.match(path=path.encode())) == (0, None), path
    for path in bad:
        assert (table.match(path=path.encode()), opposite.match(path=path.encode())) == (None, 0), path


def test_header_lines_are_joined_and_absence_fails():
    def took(matcher, *values):
        return _core.RouteTable(ordered({"headers": [("x-user", matcher)]})).match(headers=[(b"X-User", value) for value in values]) == 0
    assert took(is_("exact", "a,b"), b"a", b"b") and not took(is_("exact", "a"), b"a", b"b")
    assert took(is_("exact", "a,"), b"a", b"") and took(is_("exact", ""), b"")
    assert took(is_("contains", "b,c", True), b"b") and not took(is_("contains", "b,c", True), b"b", b"c")
    assert not took(is_("exact", "a")) and not took(is_("exact", "a", True)) and not took(is_("present"))
    assert took(is_("present", invert=True)) and not took(is_("present", invert=True), b"")
    half = b"x" * 33000
    assert not took(is_("prefix", "x"), half, half) and not took(is_("prefix", "x", True), half, half)   # beyond the bound neither holds


def test_fields_named_by_connection_are_not_seen():
    table = _core.RouteTable(ordered({"headers": [("x-user", is_("exact", "jason"))]}, {"headers": [("upgrade", is_("exact", "websocket"))]}))
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-User: jason\r\n%s\r\n"
    assert table.match_head(head % b"") == 0
    assert table.match_head(head % b"Connection: x-user\r\n") is None
    assert table.match_head(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n") == 1


def test_query_parameters():
    def took(query, **matcher):
        return _core.RouteTable(ordered({"query": [("q", is_(**matcher))]})).match(query=query) == 0
    assert took(b"a=1&q=x", kind="exact", value="x") and took(b"q=x&q=y", kind="exact", value="x") and not took(b"q=x&q=y", kind="exact", value="y")
    assert took(b"q", kind="exact", value="") and took(b"q=", kind="present") and took(b"&&q=a=b&", kind="exact", value="a=b")
    assert not took(b"qq=x&xq=x", kind="present") and not took(b"%71=x", kind="present") and not took(b"q=%78", kind="exact", value="x") and not took(b"", kind="exact", value="")


def test_heads_as_parsed():
    table = _core.RouteTable(ordered({"host": "a.com", "path": ("exact", "/")}, {"path": ("segment", "/x"), "methods": ["PURGE"]}, {"query": [("q", is_("present"))]}))
    assert table.match_head(b"GET http://A.com:80 HTTP/1.1\r\nHost: b\r\n\r\n") == 0
    assert table.match_head(b"PURGE /x?q HTTP/1.1\r\nHost: b\r\n\r\n") == 1
    assert table.match_head(b"GET /x?q HTTP/1.1\r\nHost: b\r\n\r\n") == 2
    assert table.match_head(b"GET / HTTP/1.0\r\n\r\n") is None


def test_why_nothing_was_found():
    table = _core.RouteTable(virtual((["a.com"], [{"path": ("exact", "/x"), "methods": ["GET"]}])))
    rows = [(b"b.com", b"/x", b"GET", "no_host"), (b"a.com", b"/y", b"GET", "no_path"), (b"a.com", b"/x", b"PUT", "no_rule"), (b"a.com", b"/x", b"GET", "found")]
    for host, path, method, why in rows:
        table.match(method, host, path)
        assert table.why == why


@pytest.mark.parametrize("desc, reason", [
    ({"mode": "other", "virtual_hosts": []}, "mode"),
    (virtual((["a.com"], []), (["A.com"], [])), "twice"),
    (virtual((["a.*.com"], [])), "host pattern"), (virtual((["*a.com"], [])), "host pattern"), (virtual(([""], [])), "host pattern"), (virtual((["x" * 256], [])), "host pattern"),
    (virtual((["a"], [{"host": "b"}])), "no host of its own"),
    (ordered({"path": ("glob", "/*")}), "kind of matcher"), (ordered({"path": ("regex", "(")}), "unmatched"), (ordered({"path": ("exact", "")}), "not empty"),
    (ordered({"path": ("segment", "v2")}), "begin with /"), (ordered({"methods": []}), "empty list"), (ordered({"headers": [("", is_("present"))]}), "without a name"),
    (ordered({"path": ("regex", "/a+")}, {"headers": [("x", is_("regex", "b+"))]}, {"headers": [("x", is_("regex", "["))]}), "ends within"),
])
def test_bad_descriptions_are_refused(desc, reason):
    with pytest.raises(ValueError, match=reason):
        _core.RouteTable(desc)


def test_empty_tables():
    for desc in (ordered(), virtual(), virtual(([], [{}])), virtual((["a"], []))):
        assert _core.RouteTable(desc).match(host=b"a") is None
    assert _core.RouteTable(ordered({})).match(host=b"x" * 70000, path=b"") == 0


# ---- cost -----------------------------------------------------------------------------------------------------------

def many(hosts, mode):
    """Ten routes to a host, half exact, half segments."""
    routes = [{"path": ("segment", f"/api/v{i}") if i % 2 else ("exact", f"/api/v{i}/item")} for i in range(10)]
    if mode == "virtual_hosts":
        return virtual(*(([f"service-{host}.example.com"], routes) for host in range(hosts)))
    return ordered(*({"host": f"service-{host}.example.com", **one} for host in range(hosts) for one in routes))


HEAD = b"GET /api/v7/item?x=1 HTTP/1.1\r\nHost: service-7.example.com\r\nAccept: */*\r\n\r\n"


def test_build_time_and_memory():
    desc = many(2000, "virtual_hosts")
    began = time.process_time()
    table = _core.RouteTable(desc)
    assert time.process_time() - began < 4       # 0.06 s on one core in a release build
    assert table.bytes < 20000 * 150
    for _ in range(3):
        assert table.match_head(HEAD) == 77


def allocated_bytes():
    """What is allocated now: exactly under a sanitizer, else as resident memory shows it."""
    try:
        count = ctypes.CDLL(None).__sanitizer_get_current_allocated_bytes
    except AttributeError:
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    count.restype = ctypes.c_size_t
    return count()


def test_a_table_is_freed_whole():
    bad = ordered(*({"path": ("regex", f"/[a-z]{{1,400}}/{i}"), "headers": [("x", is_("regex", "y+"))]} for i in range(8)), {"path": ("regex", "(")})
    good, large = {**bad, "routes": bad["routes"][:-1]}, many(300, "virtual_hosts")

    def turn():
        for _ in range(20):
            _core.RouteTable(large)
            _core.RouteTable(good)
            with pytest.raises(ValueError):
                _core.RouteTable(bad)
        gc.collect()
    turn()
    before = allocated_bytes()
    turn()
    assert _core.RouteTable(large).bytes > 200_000 and _core.RouteTable(good).bytes > 20_000
    assert allocated_bytes() - before < 200_000


@pytest.mark.parametrize("path", [b"/" * 60000, b"/a" * 30000, b"/api/v1" + b"x" * 60000, b"/%2F" * 15000, b"*" * 60000])
def test_hostile_paths_take_linear_time(path):
    deep = [{"path": (kind, "/a" * n), "methods": ["PUT"]} for n in range(1, 100) for kind in ("segment", "prefix")]
    table = _core.RouteTable(ordered(*deep, *({"path": (kind, "/" * n), "methods": ["PUT"]} for n in range(1, 100) for kind in ("segment", "exact")),
                                     {"path": ("regex", "(/+a*)*x")}, {"path": ("contains", "a" * 40)}))
    began = time.process_time()
    for _ in range(50):
        table.match(path=path)
    assert time.process_time() - began < 2       # about 10 ms in a release build


@pytest.mark.parametrize("host", [b"." * 60000, b"a." * 127, b"a" * 60000, b"1" * 60000, b"a:" + b"1" * 60000])
def test_hostile_hosts_take_linear_time(host):
    table = _core.RouteTable(ordered(*({"host": pattern + ".a" * n, "path": ("exact", "/")} for n in range(1, 120) for pattern in ("*", "a"))))
    began = time.process_time()
    for _ in range(50):
        table.match(host=host, path=b"/x")
    assert time.process_time() - began < 2


def instructions(hosts, mode, tmp_path):
    """Instructions of one look-up, as callgrind counts them in 10,000 (and one parse of the head)."""
    script = (f"import marshal, sys; sys.path[:0] = {sys.path!r}\nfrom {_core.__name__} import RouteTable\n"
              f"RouteTable(marshal.loads(sys.stdin.buffer.read())).match_head({HEAD!r}, 10_000)")
    # Counting is switched by the method's outermost C function, which Python calls by address: it is never inlined.
    done = subprocess.run(["valgrind", "--tool=callgrind", "--toggle-collect=*pw*RouteTable*match_head*", f"--callgrind-out-file={tmp_path / 'out'}",
                           sys.executable, "-SBc", script], input=marshal.dumps(many(hosts, mode)), capture_output=True, check=True)
    return int(re.search(rb"Collected : (\d+)", done.stderr)[1]) / 10_000


@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed")
@pytest.mark.skipif("san" in os.environ.get("LD_PRELOAD", ""), reason="counts instructions of the release build")
@pytest.mark.parametrize("mode, hosts", [
    ("virtual_hosts", 200), pytest.param("virtual_hosts", 10_000, marks=pytest.mark.soak), pytest.param("ordered", 10_000, marks=pytest.mark.soak)])
def test_cost_is_flat_in_the_table(mode, hosts, tmp_path):
    small, large = instructions(10, mode, tmp_path), instructions(hosts, mode, tmp_path)
    assert 100 < small < 1000 and large <= 1.2 * small, (small, large)
