"""A cluster that stands in for another (B12): all new requests, within a second, and back; its limits, its counters."""

import json
import socket
import threading
import time

import pytest

from harness import RawClient, answering, wait_for
from harness.client import request
from harness.origin import serve
from harness.wait import SCALE

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", routes: [{name: all, cluster: first}]}
  - {name: raw, bind: "127.0.0.1:0", protocol: tcp, cluster: first}
clusters:
  - {name: first, endpoints: {file: first.yaml}, fallback: second, outlier: {consecutive_failures: 2, base_ejection_time: $out, max_ejection_percent: 100}}
  - {name: second, endpoints: {file: second.yaml}, fallback: third, limits: {requests: $limit}}
  - {name: third, endpoints: $third}
"""


@pytest.fixture
def app(proxy, origin):
    """app(): a proxy, and put(name, origins...) for the files; origins.NAME answers with its name."""
    def start(third="[]", limit="1024", out="1h", **scripts):
        origins = {name: origin(scripts.get(name) or answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name.encode())))
                   for name in ("first", "second", "third")}

        def put(name, *which):
            (one_directory[0] / "new").write_text(json.dumps([origins[one].address for one in which]))
            (one_directory[0] / "new").replace(one_directory[0] / f"{name}.yaml")

        def before(argv, directory):
            one_directory.append(directory)
            put("first", "first")
            put("second", "second")
            return argv

        one_directory = []
        one = proxy(CONFIG, wrap=before, third=json.dumps([origins["third"].address]) if third == "there" else third, limit=limit, out=out)
        return one, put
    return start


def requests_of(one, cluster):
    return one.metric("fastproxy_requests_total", listener="web", route="all", cluster=cluster)


def test_all_new_requests_within_a_second_and_back(app):
    one, put = app()
    with one.connect() as kept:
        assert kept.get().body == b"first"
        for _ in range(2):
            put("first")
            start = time.monotonic()
            wait_for(lambda: kept.get().body == b"second")
            assert time.monotonic() - start < 1.0 * SCALE
            assert {bytes(kept.get().body) for _ in range(50)} == {b"second"} == {bytes(one.get("/").body) for _ in range(5)}
            put("first", "first")
            start = time.monotonic()
            wait_for(lambda: kept.get().body == b"first")
            assert time.monotonic() - start < 1.0 * SCALE
            assert {bytes(kept.get().body) for _ in range(50)} == {b"first"}
    assert requests_of(one, "second") >= 110 and requests_of(one, "first") >= 100
    assert one.metric("fastproxy_upstream_requests_total", cluster="second") == requests_of(one, "second")
    cluster = json.loads(one.admin("/clusters").body)
    assert cluster["first"]["used"]["requests"] == cluster["second"]["used"]["requests"] == 0


def test_tcp_and_a_chain(app):
    one, put = app(third="there")
    put("first")
    put("second")

    def raw():
        with RawClient(one.addresses["raw"]) as client:
            return client.get().body

    wait_for(lambda: one.get("/").body == b"third" and raw() == b"third")
    before = one.metric("fastproxy_tcp_connections_total", listener="raw", cluster="third")
    assert raw() == b"third"
    wait_for(lambda: one.metric("fastproxy_tcp_connections_total", listener="raw", cluster="third") == before + 1)
    put("second", "second")
    wait_for(lambda: one.get("/").body == b"second" and raw() == b"second")


def test_nobody_has_one(app):
    one, put = app()
    put("first")
    put("second")
    wait_for(lambda: one.get("/").status == 503)
    reply = one.get("/")
    assert (reply.get(b"x-fastproxy-error"), reply.body) == (b"no_endpoint", b"fastproxy: no endpoint: cluster first has none\n")
    name, port = one.addresses["raw"].split(":")
    with socket.socket() as client:
        client.connect((name, int(port)))
        with pytest.raises(ConnectionError):
            client.sendall(b"x")
            assert client.recv(1)
            raise AssertionError("somebody answered")
    wait_for(lambda: one.metric("fastproxy_errors_total", cause="no_endpoint") >= 3)
    assert one.metric("fastproxy_requests_total", cluster="first", status_class="5xx") >= 2 and requests_of(one, "third") == 0
    used = json.loads(one.admin("/clusters").body)
    assert [used[name]["used"]["requests"] for name in ("first", "second", "third")] == [0, 0, 0]


def test_every_endpoint_is_ejected(app):
    one, put = app(first=answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
    assert [one.get("/").status for _ in range(2)] == [503, 503]
    assert {bytes(one.get("/").body) for _ in range(10)} == {b"second"}


def test_the_limits_are_those_of_the_fallback(app):
    go = threading.Event()
    one, put = app(limit="1", second=serve(lambda message, conn: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" if go.wait(20) else False))
    put("first")
    wait_for(lambda: one.metric("fastproxy_endpoints", cluster="first") == 0)

    def used():
        return json.loads(one.admin("/clusters").body)["second"]["used"]["requests"]

    try:
        with one.connect() as kept:
            kept.send(request())
            wait_for(lambda: used() == 1)
            reply = one.get("/")
            assert reply.get(b"x-fastproxy-error") == b"overflow" and b"cluster second" in reply.body
            go.set()
            assert kept.response().status == 200
    finally:
        go.set()
    wait_for(lambda: used() == 0)
