"""SIGUSR2: another process goes on with the sockets and the counters, and nobody notices (I6)."""

import json
import os
import socket
import time

import pytest

from harness import serve, wait_for
from harness.client import request
from harness.origin import OK
from harness.process import alive
from harness.traffic import Traffic

CONFIG = """
workers: $workers
admin: unix:$dir/admin.sock
metrics: 127.0.0.1:0
drain_timeout: $drain
drain_grace: 300ms
listeners:
  - {name: web, bind: "127.0.0.1:0", routes: [{match: {path: /version}, direct_response: {status: 200, body: "$version"}}, {name: all, cluster: app}]}
  - {name: local, bind: "unix:$dir/web.sock", routes: [{name: all, cluster: app}]}
  - {name: db, bind: "127.0.0.1:0", protocol: tcp, cluster: app}
  $more
clusters:
  - {name: app, endpoints: ["$app"]}
"""
GIVEN = {"workers": "1", "drain": "30s", "version": "0", "more": ""}


@pytest.mark.parametrize("workers", ["11", "21", "13", "00"])
def test_under_load(proxy, workers):
    """Thousands of requests a second over every kind of connection, and as many workers as each digit says."""
    with Traffic() as traffic:
        one = proxy(CONFIG, **{**GIVEN, "app": traffic.address, "workers": workers[0]})
        web, local, db = one.addresses["web"], one.addresses["local"], one.addresses["db"]
        traffic.run("keep", [web, local], 8)
        traffic.run("post", [web], 4, 0.01)
        traffic.run("post", [web], 4, 0.15)
        traffic.run("new", [web, local], 12)
        traffic.run("ws", [web], 2, 0.005)
        traffic.run("tcp", [db], 2, 0.005)
        traffic.running(0.2)
        for n in workers[1:]:
            one.write(CONFIG, workers=n)
            one.restart()
            traffic.running(0.4)        # longer than drain_grace
        sessions = dict(traffic.counts)
        assert one.process.poll() is None       # the WebSocket and TCP sessions live over it
        traffic.running(0.1)
        assert traffic.counts["ws"] > sessions["ws"] and traffic.counts["tcp"] > sessions["tcp"]
        traffic.stop()
        assert traffic.refused == 0 and traffic.answered == traffic.at_origin and traffic.counts["told to close"] >= 8 * (len(workers) - 1)
        assert one.wait_exit() == 0
        wait_for(lambda: one.metric("fastproxy_requests_total", route="all", status_class="2xx") == traffic.answered, what="no request is forgotten")
        wait_for(lambda: one.metric("fastproxy_requests_total", route="all", status_class="1xx") == 2)
        assert one.metric("fastproxy_request_duration_seconds_count", route="all") == traffic.answered + 2
        assert one.metric("fastproxy_connections_accepted_total", listener="db") == one.metric("fastproxy_tcp_connections_total") == 2
        assert one.metric("fastproxy_hot_restarts") == len(workers) - 1
        assert not one.metric("fastproxy_errors_total")
        print(f"{traffic.answered} requests")


def get(address, target):
    with socket.create_connection(address.split(":"), 5) as sock:
        sock.sendall(request("GET", target, "Connection: close"))
        return b"".join(iter(lambda: sock.recv(65536), b""))


def test_addresses_stay(proxy, origin):
    """Ports that the kernel chose, the paths of Unix sockets, the admin and the metrics address; only the last process removes files."""
    one = proxy(CONFIG, **GIVEN, app=origin().address)
    addresses, files = dict(one.addresses), {path.name for path in one.directory.glob("*.sock")}
    metrics = one.errors.partition("metrics on ")[2].split()[0]
    for i in (1, 2):
        one.write(CONFIG, version=str(i))
        old = one.restart()
        wait_for(lambda: not alive(old), 5, "the old process ends")
        assert one.addresses == addresses and {path.name for path in one.directory.glob("*.sock")} == files
        assert one.get("/version").body == str(i).encode() and one.get("/", listener="local").status == 200
        assert b"fastproxy_hot_restarts %d" % i in get(metrics, "/metrics")
    assert one.wait_exit() == 0
    one.end_restarted()
    assert not list(one.directory.glob("*.sock")) and not alive(one.pid)


def test_what_the_old_process_counts_last(proxy, origin):
    """A request that it finishes, and one that it cuts when its time is over."""
    def slow(message, conn):
        if message.target == b"/slow":
            wait_for(lambda: go, 10)
            return OK
        conn.drain()
    go = []
    app = origin(serve(slow))
    one = proxy(CONFIG, **{**GIVEN, "drain": "1s"}, app=app.address)
    with one.connect() as slow, one.connect() as never:
        slow.send(request("GET", "/slow"))
        never.send(request("GET", "/never"))
        app.wait_requests(2)
        one.restart()
        assert not one.metric("fastproxy_requests_total", route="all")
        go.append(True)
        reply = slow.response()
        assert reply.status == 200 and b"close" in reply.get(b"connection")
        wait_for(lambda: one.metric("fastproxy_requests_total", route="all", status_class="2xx") == 1, what="it reports while it drains")
        never.rest()
    assert one.wait_exit() == 0
    wait_for(lambda: one.metric("fastproxy_request_duration_seconds_count", route="all") == 2, what="what was cut")


def test_a_listener_less_and_one_more(proxy, origin):
    one = proxy(CONFIG.replace("$more", '- {name: gone, bind: "unix:$dir/gone.sock", routes: [{cluster: app}]}'), **GIVEN, app=origin().address)
    one.write(CONFIG, more='- {name: more, bind: "127.0.0.1:0", routes: [{cluster: app}]}')
    one.restart()
    assert one.get("/", listener="more").status == one.get("/").status == 200
    assert one.wait_exit() == 0
    assert not (one.directory / "gone.sock").exists() and (one.directory / "web.sock").exists()


@pytest.mark.parametrize("fault", ["invalid", "taken", "missing"])
def test_if_the_new_process_does_not_start(proxy, origin, fault):
    """The old one goes on, and its log says why."""
    one = proxy(CONFIG, **GIVEN, app=origin().address)
    with socket.create_server(("127.0.0.1", 0)) as other, one.connect() as client:
        assert client.get("/version").body == b"0"
        taken = "127.0.0.1:%d" % other.getsockname()[1]
        if fault == "missing":
            one.file.unlink()
        else:
            one.write(CONFIG.replace("drain_grace", "drain_grade") if fault == "invalid" else CONFIG, version="1",
                      more=f'- {{name: more, bind: "{taken}", routes: [{{cluster: app}}]}}')
        one.restart(wait=False)
        said = {"invalid": "drain_grade", "taken": f"cannot listen on {taken}", "missing": "No such file"}[fault]
        wait_for(lambda: "no hot restart, all stays as it was" in one.errors, 10)
        assert said in one.errors.partition("all stays as it was")[2]
        assert client.get("/version").body == one.get("/version", listener="web").body == b"0"
        assert one.get("/", listener="local").status == 200 and one.stats()["pid"] == one.pid and one.process.poll() is None
        one.write(CONFIG, version="2", more="")
        one.restart()
        assert one.get("/version").body == b"2"


def test_a_client_that_waits(proxy, origin):
    """An idle connection is used once more within the grace; without a request it is closed, by an end and not by a reset."""
    one = proxy(CONFIG, **GIVEN, app=origin().address)
    with one.connect() as used, one.connect() as unused, one.connect("local") as local:
        assert used.get("/version").status == unused.get("/version").status == local.get().status == 200
        one.restart()
        reply = used.get("/version", method="POST")
        assert reply.status == 200 and reply.get(b"connection") == b"close" and used.closed()
        assert unused.closed() and local.closed() and not unused.reset
    assert one.wait_exit() == 0


def test_sigterm_to_a_process_that_has_handed_over(proxy, origin):
    """The first changes nothing, it drains already; the second ends it at once. The new one does not mind."""
    app = origin(lambda conn: (conn.head(), conn.drain()))
    one = proxy(CONFIG, **GIVEN, app=app.address)
    with one.connect() as client:
        client.send(request())
        app.wait_requests(1)
        one.restart()
        one.terminate()
        time.sleep(0.1)
        assert one.process.poll() is None
        one.terminate()
        assert one.wait_exit(5) == 0
    assert one.get("/version").body == b"0"


def test_stays_for_who_watches_it(proxy, origin):
    """--stay: the first process stays as the parent, passes signals on, and ends with the code of the one that serves."""
    one = proxy(CONFIG, **GIVEN, app=origin().address, args=("--stay",))
    first = one.pid
    one.restart()
    second = one.restart()      # asked for at the one that serves, and done by the one that stays
    wait_for(lambda: not alive(second), 5, "the one between ends")
    assert one.process.poll() is None and parent(one.pid) == first
    os.kill(first, 1)
    wait_for(lambda: "reloaded (SIGHUP)" in one.errors, 5)
    assert one.metric("fastproxy_hot_restarts") == 2
    one.terminate()
    assert one.wait_exit() == 0 and not alive(one.pid)


def test_stays_until_the_one_that_serves_has_died(proxy, origin):
    one = proxy(CONFIG, **GIVEN, app=origin().address, args=("--stay",))
    one.restart()
    os.kill(one.pid, 9)
    assert one.wait_exit() == 137
    one.process.returncode = 0


def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])


def test_systemd_is_told(proxy, origin, tmp_path):
    """sd_notify: that it is ready, and which process is the main one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(10)
        one = proxy(CONFIG, **GIVEN, app=origin().address, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert told.recv(100) == b"READY=1"
        one.restart()
        assert told.recv(100) == b"MAINPID=%d" % one.pid


def test_one_that_is_asked_too_early_or_twice(proxy, origin):
    one = proxy(CONFIG, **GIVEN, app=origin().address)
    one.restart(wait=False)
    one.restart()
    assert "one is under way" in one.errors or one.stats()["hot_restarts"] == 1
    assert json.loads(one.admin("/stats").body)["hot_restarts"] == 1
