"""Commands that ask a running proxy: stat, routes, endpoints, proxy config, drain and log; whom they ask, and their exit codes."""

import json
import re
import socket

import pytest
import yaml

from harness import RawClient, wait_for
from harness.origin import OK, serve

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - name: web
    bind: "127.0.0.1:0"
    virtual_hosts:
      - hosts: ["*.example.com"]
        routes:
          - {name: canary, match: {path_prefix: /v2, methods: [GET], headers: {x-user: jason}}, split: [{cluster: app, weight: 3}, {cluster: none, weight: 1}], timeout: 15s}
          - {name: old, match: {path: /old}, redirect: {scheme: https, host: new.example, status: 301}}
      - {hosts: ["*"], routes: [{cluster: app, request_headers: {set: {Authorization: "Bearer hush"}}}]}
  - {name: plain, bind: "127.0.0.1:0", routes: [{name: fixed, match: {path: /hi}, direct_response: {status: 200, body: hi}}]}
  - {name: raw, bind: "127.0.0.1:0", protocol: tcp, cluster: app}
clusters:
  - {name: app, endpoints: [{address: "$app", weight: 2}]}
  - {name: none, endpoints: []}
"""
SMALL = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", routes: [{cluster: app}]}
clusters:
  - {name: app, balance: round_robin, endpoints: $endpoints, $more}
"""
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
ASKING = [["stat"], ["routes"], ["endpoints"], ["proxy", "config"], ["proxy", "drain"], ["proxy", "log"], ["check"]]


def rows(text):
    """[{column: cell}] of the first table."""
    lines = text.split("\n\n")[0].splitlines()
    starts = [found.start() for found in re.finditer(r"\S+(?: \S+)*", lines[0])] + [None]
    names = [lines[0][a:b].strip() for a, b in zip(starts, starts[1:])]
    return [{name: line[a:b].strip() for name, a, b in zip(names, starts, starts[1:])} for line in lines[1:]]


@pytest.fixture
def one(proxy, origin):
    return proxy(CONFIG, app=origin(serve(lambda message, conn: BAD if b"/bad" in message.target else OK)).address)


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def test_stat_of_http_and_tcp(one, cli):
    with one.connect("raw") as client:
        assert client.get("/").status == 200
    assert [one.get(path, name="x.org").status for path in ("/", "/", "/", "/bad")] == [200, 200, 200, 503]
    wait_for(lambda: one.metric("fastproxy_tcp_connections_total") == 1 and one.metric("fastproxy_requests_total") == 4)
    out = cli("stat", at=one).out
    (http,) = rows(out)
    assert (http["CLUSTER"], http["LISTENER"], http["REQUESTS"], http["SUCCESS"]) == ("app", "web", "4", "75.00%")
    assert float(http["RPS"]) > 0 and all(http[name].endswith("s") for name in ("P50", "P95", "P99"))
    (tcp,) = rows(out.split("\n\n")[1])
    assert (tcp["TCP LISTENER"], tcp["CLUSTER"], tcp["CONNECTIONS"], tcp["OPEN"]) == ("raw", "app", "1", "0") and float(tcp["CONN/S"]) > 0
    assert int(tcp["FROM CLIENTS"][:-1]) > 0 and tcp["TO CLIENTS"] == f"{len(OK)}B"


def test_stat_over_a_window(one, cli):
    assert one.get("/bad", name="x.org").status == 503
    found = cli("stat", "--window", "10ms", "-o", "json", at=one).json()
    (route,) = found["routes"]
    assert (route["requests"], route["status"]["5xx"], route["duration_ms"]["count"], route["duration_ms"]["p99"]) == (0, 0, 0, None)
    assert 0.01 <= found["window_seconds"] < found["uptime_seconds"] and found["clusters"]["app"]["endpoints"][0]["requests"] == 0
    assert found["listeners"]["web"]["accepted"] == 0 and "over 0." in cli("stat", "--window", "10ms", at=one).out


def test_routes(one, cli):
    assert [one.get(path, name=name).status for path, name in (("/old", "a.example.com"), ("/x", "a.example.com"), ("/x", "b.org"))] == [301, 404, 200]
    wait_for(lambda: one.metric("fastproxy_requests_total") == 3)
    found = {row["ROUTE"]: row for row in rows(cli("routes", at=one).out) if row["LISTENER"] == "web"}
    assert found["canary"] == {"LISTENER": "web", "ROUTE": "canary", "HOST": "*.example.com", "MATCH": "GET /v2/* x-user: jason", "TARGET": "app=75% none=25%",
                               "TIMEOUT": "15s", "REQUESTS": "0", "SUCCESS": "-"}
    assert found["old"]["TARGET"] == "redirect 301 https://new.example" and found["old"]["REQUESTS"] == "1"
    assert found["virtual_hosts[1].routes[0]"]["REQUESTS"] == "1" and found["virtual_hosts[1].routes[0]"]["TARGET"] == "app"
    assert found["-"]["MATCH"] == "no route" and found["-"]["REQUESTS"] == "1"
    (tcp,) = cli("routes", "raw", "-o", "json", at=one).json()
    assert (tcp["match"], tcp["target"], tcp["listener"]) == ("tcp", "app", "raw")
    assert [row["TARGET"] for row in rows(cli("routes", "plain", at=one).out)] == ["answer 200"]
    missing = cli("routes", "nobody", at=one)
    assert missing.code == 1 and "web, plain, raw" in missing.err


def test_endpoints(one, cli):
    assert one.get("/", name="x.org").status == 200
    app, none = rows(cli("endpoints", at=one).out)
    assert (app["CLUSTER"], app["WEIGHT"], app["STATE"], app["IN FLIGHT"], app["REQUESTS"], app["LAST ERROR"]) == ("app", "2", "active", "0", "1", "-")
    assert app["EWMA"].endswith("ms") and (none["CLUSTER"], none["STATE"]) == ("none", "empty")
    (found,) = cli("endpoints", "app", "-o", "json", at=one).json()
    assert found["cluster"] == "app" and found["state"] == "active" and found["reason"] == "no failure" and found["ewma_ms"] > 0
    assert cli("endpoints", "nobody", at=one).code == 1


def test_an_ejected_endpoint_says_why_and_until_when(proxy, origin, cli):
    bad, good = origin(serve(lambda message, conn: BAD)), origin()
    one = proxy(SMALL, endpoints=json.dumps([bad.address, good.address]), more="outlier: {consecutive_failures: 2, base_ejection_time: 60s}")
    with one.connect() as client:
        for _ in range(4):
            client.get("/")
    ejected, active = cli("endpoints", "-o", "json", at=one).json()
    assert (ejected["state"], ejected["ejected"], ejected["ejections"], ejected["last_failure"]) == ("ejected", True, 1, "503")
    assert 30 < ejected["ejected_for_seconds"] <= 90 and "last failure 503" in ejected["reason"]
    assert (active["state"], active["last_failure"], active["ejected_for_seconds"]) == ("active", None, None)
    assert rows(cli("endpoints", at=one).out)[0]["STATE"] == "ejected"


def test_an_endpoint_that_nobody_connects_to(proxy, cli):
    one = proxy(SMALL, endpoints=json.dumps([closed_port()]), more="outlier: false")
    assert one.get().status == 503
    (found,) = cli("endpoints", "-o", "json", at=one).json()
    assert (found["state"], found["connect_error"], found["last_failure"]) == ("connect failing", "connect_failure", "connect_failure")
    assert found["last_failure_seconds_ago"] < 60 and "1 of 1 connects failed" in found["reason"]


def test_the_running_configuration_is_a_file_again(one, cli, tmp_path):
    out = cli("proxy", "config", at=one)
    shown = yaml.safe_load(out.out)
    assert "hush" not in out.out and shown["drain_timeout"] == "30s" and shown == cli("proxy", "config", "-o", "json", at=one).json()
    (tmp_path / "again.yaml").write_text(out.out)
    assert cli("validate", "again.yaml").code == 0


def test_drain(one, cli):
    assert cli("proxy", "drain", at=one).out.startswith("drained")
    with pytest.raises(ConnectionRefusedError):
        RawClient(one.addresses["web"])
    assert one.admin("/ready").status == 503


def test_drain_waits_for_what_is_open(proxy, origin, cli):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = proxy(SMALL, endpoints=json.dumps([f"127.0.0.1:{silent.getsockname()[1]}"]), more="outlier: false")
        with one.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: one.stats()["workers"][0]["streams"] == 1)
            late = cli("proxy", "drain", "--wait", "200ms", "-o", "json", at=one)
            assert (late.code, late.json()) == (1, {"draining": True, "drained": False, "conns": 1, "streams": 1})
        assert cli("proxy", "drain", "--wait", "30s", at=one).code == 0


def test_log_levels(one, cli):
    assert {row["LEVEL"] for row in rows(cli("proxy", "log", at=one).out)} == {"info"}
    assert cli("proxy", "log", "admin", "debug", "--ttl", "5m", at=one).out == "admin: debug for 300 s\n"
    found = cli("proxy", "log", "-o", "json", at=one).json()
    assert found["admin"]["level"] == "debug" and 0 < found["admin"]["seconds_left"] <= 300 and found["config"] == {"level": "info", "seconds_left": None}
    assert "DEBUG fastproxy.admin: GET /logging" in one.errors
    assert cli("proxy", "log", "warning", at=one).out == "all: warning for 600 s\n"
    assert cli("proxy", "log", "config", at=one).out.splitlines()[1].split()[:2] == ["config", "warning"]
    assert [cli("proxy", "log", *words, at=one).code for words in (["heart"], ["admin", "loud"], ["heart", "debug"], ["--ttl", "5m"], ["debug", "--ttl", "1ms"])] == [1, 2, 1, 2, 2]


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_whom_it_asks(one, cli, tmp_path, words):
    """No socket: 2. The only one: that. Two: 2, with both. The environment, and the option before it. Nobody there: 3."""
    at = f"unix:{one.directory}/admin.sock"
    none = cli(*words)
    assert none.code == 2 and "--admin" in none.err
    (tmp_path / "fastproxy-a.sock").symlink_to(one.directory / "admin.sock")
    good = (0, 1) if words == ["check"] else (0,)
    assert cli(*words).code in good
    (tmp_path / "fastproxy-b.sock").touch()
    two = cli(*words)
    assert two.code == 2 and "fastproxy-a.sock" in two.err and "fastproxy-b.sock" in two.err
    assert cli(*words, "-o", "json", FASTPROXY_ADMIN=at).json() is not None
    assert cli(*words, at=one, FASTPROXY_ADMIN="unix:/nowhere").code in good
    assert cli(*words, "--admin", f"unix:{tmp_path}/none.sock").code == 3
    assert cli(*words, "--admin", "nonsense").code == 2
