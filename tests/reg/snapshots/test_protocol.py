"""Snapshots and deltas from a source written from the page alone: what is acknowledged serves, what is refused changes nothing."""

import socket

from harness import wait_for

VERSION = "/version"


def test_the_first_snapshot_makes_it_ready(source, following, resources):
    one = following()
    conn = source.accept()
    hello = conn.hello
    assert (hello["type"], hello["protocol"], hello["node"], hello["have"]) == ("hello", 1, "web-1", None)
    assert hello["software"].startswith("fastproxy ") and {"delta", "listener", "cluster.balance"} <= set(hello["features"])
    assert one.lines == [] and one.process.poll() is None
    assert conn.snapshot("v1", resources("one")) == {"type": "ack", "version": "v1"}
    one.wait_ready()
    assert one.lines == [f"listening web {one.addresses['web']}", "ready"]
    assert one.get(VERSION).body == b"one"


def test_deltas(source, following, resources, origin):
    first, second = origin(), origin()
    one = following()
    conn = source.accept()
    conn.snapshot("v1", resources("one", app=first.address))
    one.wait_ready()
    assert one.get("/app").status == 200 and len(first.requests) == 1
    assert conn.delta("v1", "v2", set={"endpoints": {"app": {"endpoints": [second.address]}}}, seq=7) == {"type": "ack", "version": "v2", "seq": 7}
    assert one.get("/app").status == 200 and (len(first.requests), len(second.requests)) == (1, 1)
    routes = {"routes": [{"match": {"path": VERSION}, "direct_response": {"status": 200, "body": "three"}}]}
    assert conn.delta("v2", "v3", set={"route_table": {"all": routes}}, remove={"cluster": ["app"], "endpoints": ["app"]})["type"] == "ack"
    assert one.get(VERSION).body == b"three" and one.get("/app").status == 404
    more = {"bind": "127.0.0.1:0", "routes": {"table": "all"}}
    assert conn.delta("v3", "v4", set={"listener": {"more": more}})["type"] == "ack"
    wait_for(lambda: "more" in one.addresses)
    assert one.get(VERSION, listener="more").body == b"three" and one.lines.count("ready") == 1


def test_a_nack_has_all_errors_and_changes_nothing(source, following, resources):
    one = following()
    conn = source.accept()
    conn.snapshot("v1", resources("one"))
    one.wait_ready()
    bad = resources("two", app="nowhere")
    bad["listener"]["web"]["tls"] = {"secret": "cert"}
    bad["route_table"]["all"]["routes"].append({"cluster": "none"})
    answer = conn.snapshot("v2", {**bad, "policy": {"deny": {}}}, seq=1)
    assert (answer["type"], answer["version"], answer["seq"]) == ("nack", "v2", 1)
    assert [(fault["path"], fault["code"]) for fault in answer["errors"]] == [
        ("resources.listener.web.tls", "not_built"), ("resources.endpoints.app.endpoints[0]", "value"), ("resources.policy.deny", "not_built"),
        ("resources.route_table.all.routes[2].cluster", "unknown_cluster")]
    assert one.get(VERSION).body == b"one"
    assert conn.delta("v2", "v3", set={}) == {"type": "resync", "version": "v3"}
    assert conn.delta("v1", "v3", set={"cluster": {"app": {"endpoints": [], "balanse": "x"}}})["errors"][0]["path"] == "resources.cluster.app.balanse"
    assert conn.delta("v1", "v4", set={"cluster": {"app": {"endpoints": []}}})["type"] == "ack"
    assert one.get(VERSION).body == b"one"


def test_messages_with_something_wrong_are_answered(source, following, resources):
    one = following()
    conn = source.accept()
    conn.snapshot("v1", resources("one"))
    one.wait_ready()
    for message, version, path in (({"type": "snapshot", "version": "v2", "resources": {}, "colour": 1}, "v2", "colour"), ({"type": "hello"}, None, "type"), ({}, None, "type"),
                                   ({"type": "snapshot", "version": "v2", "resources": []}, "v2", "resources"), ({"type": "delta", "version": "v2"}, "v2", "base"),
                                   ({"type": "delta", "base": "v1", "version": "v2", "remove": {"cluster": "a"}}, "v2", "remove.cluster"),
                                   ({"type": "delta", "base": "v1", "version": "v2", "remove": {"cluster": ["a"]}}, "v2", "remove.cluster[0]")):
        answer = conn.ask(**message)
        assert (answer["type"], answer["version"], [fault["path"] for fault in answer["errors"]]) == ("nack", version, [path])
    assert conn.snapshot("v3", resources("three"), ext={"for": b"others"})["type"] == "ack"
    assert one.get(VERSION).body == b"three"


def test_what_cannot_be_applied_is_refused_and_nothing_of_it_stays(source, following, resources):
    one = following()
    conn = source.accept()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wrong = resources("two")
        wrong["listener"]["other"] = {"bind": "127.0.0.1:%d" % taken.getsockname()[1], "routes": []}
        answer = conn.snapshot("v0", wrong)     # as the first of all
        assert (answer["type"], answer["errors"][0]["code"], answer["errors"][0]["path"]) == ("nack", "apply", "resources.listener.other.bind")
        assert one.process.poll() is None and one.lines == []
        assert conn.snapshot("v1", resources("one"))["type"] == "ack"
        one.wait_ready()
        assert conn.snapshot("v2", wrong)["type"] == "nack"
        assert one.get(VERSION).body == b"one"
    assert conn.snapshot("v3", wrong)["type"] == "ack"
    assert one.get(VERSION).body == b"two"


def test_versions_are_opaque_and_may_go_back(source, following, resources):
    one = following()
    conn = source.accept()
    for version in ("9", "1", "\N{SNOWMAN}", "10", "9", "9", " "):
        assert conn.snapshot(version, resources(version)) == {"type": "ack", "version": version}
        one.wait_ready()
        assert one.get(VERSION).body == version.encode()


def test_report_and_stats(source, following, resources, origin):
    app = origin()
    one = following()
    conn = source.accept()
    assert conn.ask(type="report", seq=0) == {"type": "report", "seq": 0, "version": None, "report": {"ready": False}}
    conn.snapshot("v1", {**resources("one", app=app.address), "settings": {"proxy": {"admin": f"unix:{one.directory}/admin.sock"}}})
    one.wait_ready()
    assert one.get("/app").status == 200
    report = conn.ask(type="report")
    assert report["version"] == "v1" and report["report"]["listeners"]["web"]["address"] == one.addresses["web"]
    (endpoint,) = report["report"]["clusters"]["app"]["endpoints"]
    assert endpoint["address"] == app.address and endpoint["requests"] == 1 and not report["report"]["stale"]
    assert one.metric("fastproxy_snapshot_connected") == 1 and one.metric("fastproxy_snapshot_info", version="v1") == 1
    conn.ask(type="snapshot", version="v2", resources={"x": {}})
    assert one.metric("fastproxy_snapshot_answers_total", answer="nack") == 1
    assert b'"version": "v1"' in one.admin("/stats").body and b"resources.x" in one.admin("/stats").body


def test_hup_asks_for_everything_and_term_drains(source, following, resources):
    one = following()
    conn = source.accept()
    conn.snapshot("v1", resources("one"))
    one.wait_ready()
    one.hup()
    assert conn.receive() == {"type": "resync"}
    assert conn.snapshot("v2", resources("two"))["type"] == "ack"
    one.terminate()
    assert conn.closed() and one.wait_exit() == 0


def test_term_before_the_first_snapshot(source, following):
    one = following()
    source.accept()
    one.terminate()
    assert one.wait_exit() == 0 and one.lines == []
