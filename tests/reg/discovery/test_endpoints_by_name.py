"""Endpoints that are the addresses of a name (D2): the TTL, failures that keep what there was, both families, one look-up for many."""

import json
import os
import pathlib
import re
import signal
import time

import pytest

from harness import pace, wait_for
from harness.wait import SCALE, on_time

CONFIG = """
admin: unix:$dir/admin.sock
listeners:
  - {name: web, bind: "127.0.0.1:0", routes: [$first {cluster: app}]}
clusters:
  - {name: app, balance: round_robin, endpoints: {dns: {name: app.test, port: $port, resolvers: ["$dns"]}}}
"""
RESULTS = "fastproxy_discovery_results_total"


def started(proxy, dns, port, text=CONFIG, **more):
    return proxy(text, dns=dns.address, port=port, **{"first": "", **more})


@pytest.fixture
def app(saying):
    """Two IPv4 endpoints and one IPv6, on one port: what DNS can tell apart."""
    for _ in range(20):
        a = saying(b"a")
        a.port = int(a.address.rpartition(":")[2])
        try:
            return a, saying(b"b", ip="127.0.0.2", port=a.port), saying(b"six", kind="tcp6", port=a.port)
        except OSError:
            pass  # somebody has the port on the other address
    raise AssertionError("no port is free on all three")


def answers(one, n=12):
    return {bytes(reply.body) if (reply := one.get("/")).status == 200 else reply.status for _ in range(n)}


def test_a_change_moves_the_traffic_within_the_ttl(proxy, named, app, load):
    dns = named(app=(1, ["127.0.0.1"]))
    one = started(proxy, dns, app[0].port)
    with load(one) as seen:
        wait_for(lambda: len(seen) > 20)
        turn = [["127.0.0.2"], ["127.0.0.1"]]

        def moved():
            addresses = turn[0]
            turn.reverse()
            dns.names["app.test"] = 1, addresses
            start, wanted = time.monotonic(), b"b" if addresses == ["127.0.0.2"] else b"a"
            wait_for(lambda: {body for body, _ in seen[-20:]} == {wanted})
            return time.monotonic() - start

        on_time(moved, 0, 2.0)          # TTL + 1 s
    assert set(dict(seen)) == {b"a", b"b"}


def test_both_families_and_many_addresses(proxy, named, app):
    dns = named(app=(1, ["127.0.0.1", "::1", "127.0.0.2"]))
    one = started(proxy, dns, app[0].port)
    wait_for(lambda: answers(one) == {b"a", b"b", b"six"}, 8)
    dns.names["app.test"] = 1, ["::1"]
    wait_for(lambda: answers(one) == {b"six"}, 8)
    dns.names["app.test"] = 1, ["127.0.0.1"]
    wait_for(lambda: answers(one) == {b"a"}, 8)
    dns.names["app.test"] = 1, [f"127.0.{i}.{j}" for i in range(4) for j in range(1, 101)]      # too many for UDP
    wait_for(lambda: len(json.loads(one.admin("/clusters").body)["app"]["endpoints"]) == 400, 8)
    assert dns.over_tcp
    assert one.metric(RESULTS, cluster="app", source="dns", result="ok") >= 4 and one.metric(RESULTS, cluster="app", result="empty") >= 1


def test_an_alias_counts_with_its_own_ttl(proxy, named, app):
    dns = named(app=(1, "one.test"), one=(3600, ["127.0.0.1"]), two=(3600, ["127.0.0.2"]))
    one = started(proxy, dns, app[0].port)
    wait_for(lambda: answers(one) == {b"a"}, 8)
    dns.names["app.test"] = 1, "two.test"
    wait_for(lambda: answers(one) == {b"b"}, 8)


def test_what_the_system_knows(proxy, app):
    """Without resolvers of its own: the file of hosts is enough for this one."""
    one = proxy(CONFIG.replace("app.test", "localhost").replace(', resolvers: ["$dns"]', ""), first="", port=app[0].port)
    assert answers(one) <= {b"a", b"six"} and one.get("/").status == 200


@pytest.mark.parametrize("failure, result", [("nxdomain", "nxdomain"), ("servfail", "servfail"), ("silent", "timeout"), ("refused", "error"), ((1, []), "empty")])
def test_a_failure_keeps_what_there_was(proxy, named, app, load, failure, result):
    dns = named(app=(1, ["127.0.0.1", "::1"]))
    one = started(proxy, dns, app[0].port)
    wait_for(lambda: answers(one) == {b"a", b"six"}, 8)
    with load(one) as seen:
        dns.names["app.test"] = failure
        wait_for(lambda: one.metric(RESULTS, cluster="app", result=result) >= 2 and one.metric("fastproxy_discovery_failing", cluster="app") == 1, 15)
        del seen[:]
        wait_for(lambda: {body for body, _ in seen[:]} == {b"a", b"six"})
        cluster = json.loads(one.admin("/clusters").body)["app"]
        assert cluster["discovery"]["error"] == ("no addresses" if result == "empty" else f"A: {result}; AAAA: {result}")
        assert {end["source"] for end in cluster["endpoints"]} == {"dns app.test"}
        wait_for(lambda: "WARNING fastproxy.discovery: dns app.test: " in one.errors and "; the endpoints found before stay" in one.errors)
        dns.names["app.test"] = 1, ["127.0.0.2"]
        wait_for(lambda: seen[-1][0] == b"b", 15)
    wait_for(lambda: one.metric("fastproxy_discovery_failing", cluster="app") == 0, 15)
    assert "INFO fastproxy.discovery: dns app.test: well again" in one.errors


def test_one_family_that_fails_does_not_hold_the_other(proxy, named, app):
    dns = named(app=(1, ["127.0.0.1"]))
    whole = dns.answer
    dns.answer = lambda question, cut=False: None if question[-18:].find(b"\x00\x1c\x00\x01") >= 0 or b"\x00\x1c\x00\x01" in question[12:40] else whole(question, cut)
    one = started(proxy, dns, app[0].port)
    assert one.ready_after < 2.5 * SCALE and answers(one) == {b"a"}
    dns.names["app.test"] = 1, ["127.0.0.2"]
    wait_for(lambda: answers(one) == {b"b"}, 5)
    wait_for(lambda: one.metric(RESULTS, result="timeout") >= 1, 10)
    assert answers(one) == {b"b"}


def test_clusters_of_one_name_share_a_look_up(proxy, named, app, saying):
    other = saying(b"other")
    dns = named(app=(1, ["127.0.0.1"]))
    more = ''.join(f"""  - {{name: c{i}, endpoints: {{dns: {{name: APP.test, port: {other.address.rpartition(":")[2]}, resolvers: ["$dns"]}}}}}}\n""" for i in range(20))
    one = started(proxy, dns, app[0].port, CONFIG + more, first="{match: {path: /other}, cluster: c7},")
    assert one.get("/").body == b"a" and one.get("/other").body == b"other"
    pace(1.7)
    started_at = dns.asked[0][0]
    assert dns.count("app.test", "A") <= 1 + (time.monotonic() - started_at) and dns.count("app.test", "A") >= 2
    dns.names["app.test"] = 1, ["127.0.0.2"]
    wait_for(lambda: one.get("/").body == b"b" and one.get("/other").status == 503)     # nobody is on that address and port


def test_failures_are_asked_for_less_and_less(proxy, named):
    dns = named(app="nxdomain")
    one = started(proxy, dns, 9)
    assert (one.get("/").status, one.ready_after < 1 + 2 * SCALE) == (503, True)        # the first answer is there, and is bad
    pace(4)
    when = [at for at, _, kind in dns.asked if kind == "A"]
    assert 2 <= len(when) <= 6, when                                                    # after 0.5-1 s, 1-2 s, 2-4 s, ...


def test_a_silent_server_holds_the_start_for_a_second(proxy, named, app):
    dns = named(app="silent")
    one = started(proxy, dns, app[0].port)
    assert 1.0 <= one.ready_after < 1 + 2 * SCALE
    assert one.get("/").get(b"x-fastproxy-error") == b"no_endpoint"
    dns.names["app.test"] = 60, ["127.0.0.1"]
    wait_for(lambda: one.get("/").status == 200, 15)


def test_a_reload_keeps_what_was_found(proxy, named, app, load):
    dns = named(app=(60, ["127.0.0.1"]), new=(60, ["127.0.0.2"]))
    one = started(proxy, dns, app[0].port)
    asked = len(dns.asked)
    with load(one) as seen:
        dns.names["app.test"] = "silent"
        for i in range(1, 4):
            one.write(CONFIG, first=f"{{match: {{path: /{i}}}, cluster: app}},")
            one.hup()
            wait_for(lambda: one.metric("fastproxy_config_reloads_total", result="ok") == i)
        wait_for(lambda: len(seen) > 50)
        assert len(dns.asked) == asked                                                  # the look-up goes on as it was
        one.write(CONFIG.replace("app.test", "new.test"))
        one.hup()
        wait_for(lambda: seen[-1][0] == b"b")                                           # no request between the two failed
    dns.close()
    one.write(CONFIG.replace("app.test", "new.test").replace("web,", "other,"), first="")
    one.hup()
    wait_for(lambda: "other" in one.addresses)
    assert one.get("/", listener="other").body == b"b"


def test_drain_goes_on_while_names_change(proxy, named, app):
    dns = named(app=(1, ["127.0.0.1"]))
    one = started(proxy, dns, app[0].port)
    assert one.get("/").status == 200
    dns.names["app.test"] = "silent"
    one.terminate()
    assert one.wait_exit() == 0


def test_signals_are_not_for_the_threads_beside(proxy, named):
    """SIGTERM over and over, to the very end: none of them kills it, whoever else is in the process."""
    dns = named(app="silent")
    for _ in range(4):
        one = started(proxy, dns, 9, CONFIG + "  - {name: more, endpoints: {file: more.yaml}}\n")
        for task in os.listdir(f"/proc/{one.pid}/task"):
            if task != str(one.pid):
                status = pathlib.Path(f"/proc/{one.pid}/task/{task}/status").read_text()
                assert int(re.search(r"SigBlk:\s+(\w+)", status)[1], 16) >> (signal.SIGTERM - 1) & 1, status
        while one.process.poll() is None:
            one.terminate()
            pace(0.001)
        assert one.process.returncode == 0


def test_names_in_a_snapshot(proxy, named, app, tmp_path):
    from harness import SnapshotSource
    dns, source = named(app=(1, ["127.0.0.1"])), SnapshotSource(tmp_path / "source.sock")
    one = proxy("", run=["--snapshots", f"unix:{source.path}", "--node", "web-1"], wait=False, env={"XDG_STATE_HOME": str(tmp_path)})
    where = {"dns": {"name": "app.test", "port": app[0].port, "resolvers": [dns.address]}}
    conn = source.accept()
    resources = {"listener": {"web": {"bind": "127.0.0.1:0", "routes": [{"cluster": "app"}]}}, "cluster": {"app": {}}, "endpoints": {"app": {"endpoints": where}}}
    assert conn.snapshot("v1", resources)["type"] == "ack"
    one.wait_ready()
    assert one.get("/").body == b"a"
    dns.names["app.test"] = 1, ["127.0.0.2"]
    wait_for(lambda: one.get("/").body == b"b")
    dns.names["app.test"] = "silent"
    assert conn.delta("v1", "v2", set={"listener": {"more": {"bind": "127.0.0.1:0", "cluster": "app"}}})["type"] == "ack"
    wait_for(lambda: "more" in one.addresses)
    assert one.get("/", listener="more").body == b"b"
    assert conn.delta("v2", "v3", set={"endpoints": {"app": {"endpoints": [app[0].address]}}})["type"] == "ack"
    assert one.get("/").body == b"a"
    file = tmp_path / "app.yaml"
    file.write_text(f'["[::1]:{app[0].port}"]')
    assert conn.delta("v3", "v4", set={"endpoints": {"app": {"endpoints": {"file": str(file)}}}})["type"] == "ack"
    assert one.get("/").body == b"six"
    refused = conn.delta("v4", "v5", set={"endpoints": {"app": {"endpoints": {"file": "app.yaml"}}}})
    assert (refused["type"], [fault["path"] for fault in refused["errors"]]) == ("nack", ["resources.endpoints.app.endpoints.file"])
    conn.send(type="report", seq=1)
    assert conn.receive()["report"]["clusters"]["app"]["endpoints"][0]["source"] == f"file {file}"
    source.close()
