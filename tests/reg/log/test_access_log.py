"""The access log (G5): Envoy's format, JSON with stable types, and no line lost; and where each failure came from (G6)."""

import json
import re
import socket
import threading

import pytest

from harness.client import request
from harness.origin import OK, answering, serve
from harness.wait import wait_for

CONFIG = """
admin: unix:$dir/admin.sock
drain_timeout: 5s
listeners:
  - name: web
    bind: 127.0.0.1:0
    timeouts: {head: 300ms, stream_idle: 600ms}
    limits: {head_bytes: 4KiB, body_bytes: 1KiB}
    access_log: {path: access.log, $format}
    routes:
      - {name: here, match: {path: /here}, direct_response: {status: 200, body: hello}}
      - {name: slow, match: {path_prefix: /slow}, cluster: app, timeout: 200ms}
      - {name: dead, match: {path_prefix: /dead}, cluster: dead}
      - {name: none, match: {path_prefix: /none}, cluster: none}
      - {name: full, match: {path_prefix: /full}, cluster: full}
      - {name: hole, match: {path_prefix: /hole}, cluster: hole}
      - {name: app, match: {path_prefix: /app}, cluster: app}
  - {name: db, bind: "127.0.0.1:0", protocol: tcp, cluster: app, access_log: {path: access.log, $format}}
clusters:
  - {name: app, outlier: false, endpoints: ["$app"]}
  - {name: dead, endpoints: ["$dead"]}
  - {name: none, endpoints: []}
  - {name: full, limits: {requests: 1}, endpoints: ["$app"]}
  - {name: hole, connect_timeout: 50ms, endpoints: ["$hole"]}
"""
ENVOY = re.compile(r'\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\] "(\S+) (\S+) (\S+)" (\d+) (\S+) (\d+) (\d+) (\d+) (\S+) "([^"]*)" "([^"]*)" "([^"]*)" "([^"]*)" "([^"]*)"')
TYPES = {"start_time": str, "listener": str, "route": str, "cluster": str, "method": str, "authority": str, "path": str, "protocol": str, "response_code": int,
         "response_flags": str, "response_code_details": str, "hop": str, "bytes_received": int, "bytes_sent": int, "duration": int, "upstream_service_time": int,
         "upstream_host": str, "attempts": int, "downstream_remote_address": str, "x_forwarded_for": str, "user_agent": str, "request_id": str}


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def hole():
    """A listening socket whose queue is full."""
    held = [socket.socket()]
    held[0].bind(("127.0.0.1", 0))
    held[0].listen(0)
    for _ in range(4):
        held.append(socket.socket())
        held[-1].setblocking(False)
        held[-1].connect_ex(held[0].getsockname())
    yield "127.0.0.1:%d" % held[0].getsockname()[1]
    for sock in held:
        sock.close()


def started(proxy, app, hole="127.0.0.1:1", format="json: true"):
    return proxy(CONFIG, app=app.address, dead=closed_port(), hole=hole, format=format)


def lines(one, n):
    path = one.directory / "access.log"
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= n, what=f"{n} lines")
    found = path.read_text().splitlines()
    assert len(found) == n
    return found


def test_the_default_line_is_envoys(proxy, origin):
    one = started(proxy, origin(), format="")
    one.get("/app/x?y=1", "User-Agent: me", "X-Forwarded-For: 192.0.2.1", "X-Request-Id: 7")
    one.get("/none")
    first, second = [ENVOY.fullmatch(line).groups()[1:] for line in lines(one, 2)]
    assert first[:7] == ("GET", "/app/x?y=1", "HTTP/1.1", "200", "-", "0", "3")
    assert first[8] != "-" and first[9:13] == ("192.0.2.1", "me", "7", "example.com") and first[13] == one.values["app"]
    assert second[3:5] == ("503", "UH") and second[8] == "-" and second[13] == "-"


def test_json_has_stable_types(proxy, origin):
    one = started(proxy, origin())
    one.get("/app", 'X-Request-Id: a"\\\t\xff', "User-Agent: me")
    one.exchange(b"GET / HTTP/3.0\r\n\r\n")
    one.get("/here")
    rows = [json.loads(line) for line in lines(one, 3)]
    for row in rows:
        assert list(row) == list(TYPES)
        assert all(value is None or type(value) is TYPES[key] for key, value in row.items()), row
    by = {row["response_code_details"]: row for row in rows}
    assert by["via_upstream"]["request_id"] == 'a"\\\t\xff' and by["via_upstream"]["hop"] == "upstream"
    assert by["direct_response"]["bytes_sent"] == 5 and by["direct_response"]["upstream_host"] is None
    assert by["bad_version"]["path"] is None and by["bad_version"]["response_flags"] == "DPE"


def test_a_request_id_that_was_made_is_the_one_that_was_sent(proxy, origin):
    app = origin()
    one = started(proxy, app)
    one.get("/app")
    row, = [json.loads(line) for line in lines(one, 1)]
    assert app.requests[0].get(b"x-request-id").decode() == row["request_id"] and row["attempts"] == 1


def test_fields_of_both_heads_cut_and_in_place_of_each_other(proxy, origin):
    one = started(proxy, origin(answering(b"HTTP/1.1 200 OK\r\nX-Up: 12345\r\nContent-Length: 0\r\n\r\n")),
                  format='format: "%REQ(X-A)%|%REQ(X-B?X-A):2%|%RESP(x-up):3%|%RESP(X-No?X-Up)%|%RESP(no)%|100%%|%LISTENER%/%ROUTE_NAME%/%UPSTREAM_CLUSTER%|%START_TIME(%Y)%\\n"')
    one.get("/app", "X-A: hello")
    line, = lines(one, 1)
    assert re.fullmatch(r"hello\|he\|123\|12345\|-\|100%\|web/app/app\|20\d\d", line)


def test_tcp(proxy, origin):
    app = origin(lambda conn: conn.send(conn.exactly(4) * 2) or conn.drain())
    one = started(proxy, app)
    with one.connect("db") as client:
        client.send(b"ping")
        client.exactly(8)
    row, = [json.loads(line) for line in lines(one, 1)]
    assert (row["listener"], row["bytes_received"], row["bytes_sent"], row["response_code"], row["response_code_details"]) == ("db", 4, 8, 0, "tcp")
    assert row["upstream_host"] == app.address and row["protocol"] is None


def test_no_line_is_lost_on_drain(proxy, origin):
    one = started(proxy, origin())
    counts = []

    def load():
        with one.connect() as client:
            counts.append(sum(client.get("/app").status == 200 for _ in range(250)))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.terminate()
    assert one.wait_exit() == 0 and sum(counts) == 1000
    assert len((one.directory / "access.log").read_text().splitlines()) == 1000


def test_a_reload_opens_the_file_again(proxy, origin):
    one = started(proxy, origin())
    one.get("/here")
    lines(one, 1)
    (one.directory / "access.log").rename(one.directory / "old.log")
    one.hup()
    wait_for(lambda: (one.directory / "access.log").exists())
    one.get("/here")
    lines(one, 1)
    assert (one.directory / "access.log").stat().st_mode & 0o777 == 0o640 and len((one.directory / "old.log").read_text().splitlines()) == 1


def test_a_file_that_cannot_be_opened_is_an_error_and_all_stays(proxy, origin):
    one = started(proxy, origin())
    one.write(CONFIG.replace("path: access.log", "path: no/such/access.log"))
    one.hup()
    wait_for(lambda: "no/such/access.log: No such file" in one.errors)
    assert one.get("/here").status == 200
    lines(one, 1)


def failing(message, conn):
    """What /app/WAY asks the origin to do."""
    way = message.target.decode().rpartition("/")[2]
    if way == "cut":
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")
        return False
    if way == "reset":
        conn.reset()
        return False
    if way == "stall":
        conn.more()
        return False
    return {"garbage": b"SSH-2.0\r\n\r\n", "switch": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            "large": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n", "own": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"}.get(way, OK)


def get(target, *lines, **more):
    return request("GET", target, *lines, **more)


FAILURES = {  # (bytes from the client, or None) -> flag, detail, hop
    "bad_request_line": (b"GET\r\n\r\n", "DPE", "proxy"), "bad_path": (get("/a/../b"), "DPE", "proxy"), "bad_version": (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "DPE", "proxy"),
    "bad_host": (b"GET / HTTP/1.1\r\n\r\n", "DPE", "proxy"), "framing_conflict": (request("POST", "/app", "Content-Length: 1", "Transfer-Encoding: chunked") + b"x", "DPE", "proxy"),
    "line_too_long": (get("/" + "a" * 5000), "DPE", "proxy"), "head_too_large": (get("/", *(f"X-{i}: {'v' * 500}" for i in range(9))), "DPE", "proxy"),
    "body_too_large": (request("POST", "/app", body=b"x" * 2000), "DPE", "proxy"), "head_timeout": (b"GET / HTT", "SI", "proxy"),
    "upgrade_refused": (get("/app", "Connection: upgrade", "Upgrade: other"), "DPE", "proxy"), "no_route": (get("/elsewhere"), "NR", "proxy"),
    "no_endpoint": (get("/none"), "UH", "proxy"), "connect_failure": (get("/dead"), "UF", "proxy"), "connect_timeout": (get("/hole"), "UF", "proxy"),
    "upstream_reset": (get("/app/reset"), "UC", "proxy"), "upstream_cut": (get("/app/cut"), "UC", "proxy"), "upstream_protocol": (get("/app/garbage"), "UPE", "proxy"),
    "upstream_head_too_large": (get("/app/large"), "UPE", "proxy"), "upstream_upgrade": (get("/app/switch"), "UPE", "proxy"),
    "request_timeout": (get("/slow/stall"), "UT", "proxy"), "stream_idle": (get("/app/stall"), "SI", "proxy"), "overflow": (get("/full"), "UO", "proxy"),
    "via_upstream": (get("/app/own"), None, "upstream"),
}


def test_each_failure_has_one_flag_one_detail_and_a_hop(proxy, origin, hole):
    one = started(proxy, origin(serve(failing)), hole)
    with one.connect() as held:
        held.send(get("/full/stall"))
        wait_for(lambda: one.metric("fastproxy_upstream_limit_remaining", cluster="full", limit="requests") == 0)
        clients = []
        for raw, _, _ in FAILURES.values():
            clients.append(one.connect())
            clients[-1].send(raw)
        wait_for(lambda: (one.directory / "access.log").read_bytes().count(b"\n") > len(FAILURES))
        for client in clients:
            client.abort()
    rows = [json.loads(line) for line in (one.directory / "access.log").read_text().splitlines()]
    found = {row["response_code_details"]: (row["response_flags"], row["hop"]) for row in rows if row["path"] != "/full/stall"}
    assert found == {detail: (flag, hop) for detail, (_, flag, hop) in FAILURES.items()}
