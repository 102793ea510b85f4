"""Each broken environment turns one named check of `check` red, and the check says how it is mended (I11)."""

import os
import socket

import pytest

from harness import SnapshotSource, wait_for
from harness.origin import serve

CONFIG = """
admin: unix:$dir/admin.sock
metrics: unix:$dir/metrics.sock
listeners:
  - {name: web, bind: "unix:$dir/web.sock", routes: [{cluster: app}]}
  - {name: raw, bind: "127.0.0.1:$port", protocol: tcp, cluster: app}
clusters:
  - {name: app, outlier: {consecutive_failures: 1, max_ejection_percent: 100, base_ejection_time: 60s}, limits: {requests: 2}, endpoints: ["$app"]}
"""
EMPTY = CONFIG.replace('["$app"]', "[]")
BAD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def started(proxy, origin):
    def started(text=CONFIG, app=None, **more):
        return proxy(text, app=app or origin().address, port=0, **more)
    return started


@pytest.fixture
def check(cli):
    """check(...) -> {name: row} of what is red, after a look at the exit code and at what every row has."""
    def check(*words, **more):
        done = cli("check", "-o", "json", *words, **more)
        found = {row["check"]: row for row in done.json()["checks"]}
        red = {name: row for name, row in found.items() if row["status"] == "fail"}
        assert done.code == (3 if "admin" in red else bool(red)), done.out + done.err
        assert all(row["text"] and (row["status"] == "ok" or row["fix"]) for row in found.values())
        check.all = found
        return red
    return check


def only(red, name, *words):
    assert list(red) == [name], red
    assert all(word in red[name]["text"] for word in words), red[name]
    return True


def test_nothing_is_red_when_all_is_well(started, check, cli):
    one = started()
    assert check("-c", str(one.file), at=one) == {}
    assert {"config-file", "config-current", "admin", "admin-access", "ready", "listeners", "reloads", "metrics", "files", "workers", "limits", "clusters",
            "endpoints", "loops", "clock"} <= set(check.all)
    assert {name for name, row in check.all.items() if row["status"] == "warn"} <= {"files", "splice", "backlog", "workers"}   # as the machine is
    assert "0 fail" in cli("check", "-c", str(one.file)).out        # its admin address is in the file


def test_nobody_answers(tmp_path, check):
    assert only(check("--admin", f"unix:{tmp_path}/none.sock"), "admin", "No such file")


def test_another_program_answers(tmp_path, check, origin):
    app = origin()
    assert only(check("--admin", app.address), "admin", "no admin interface of fastproxy")


def test_it_drains(started, check):
    one = started()
    assert one.admin("/drain", "POST").status == 202
    assert only(check(at=one), "ready", "draining")


def test_a_listener_is_gone(started, check):
    one = started()
    os.unlink(one.directory / "web.sock")
    assert only(check(at=one), "listeners", "web on unix:", "No such file")


def test_metrics_are_gone(started, check):
    one = started()
    os.unlink(one.directory / "metrics.sock")
    assert only(check(at=one), "metrics", "No such file")


@pytest.mark.parametrize("mode", [0o666, 0o660])
def test_others_may_use_the_admin_socket(started, check, mode):
    one = started()
    os.chmod(one.directory / "admin.sock", mode)
    assert only(check(at=one), "admin-access", f"{mode:04o}") and "chmod 600" in check(at=one)["admin-access"]["fix"]


def test_the_network_may_use_the_admin_address(proxy, origin, check):
    port = closed_port()
    proxy(CONFIG.replace("unix:$dir/admin.sock", f"0.0.0.0:{port}"), app=origin().address, port=0)
    assert only(check("--admin", f"127.0.0.1:{port}"), "admin-access", "0.0.0.0")


def test_too_few_files(started, check):
    one = started(nofile=100)
    assert only(check(at=one), "files", "100") and "ulimit -n" in check(at=one)["files"]["fix"]


def test_a_limit_is_reached(started, check):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = started(app=f"127.0.0.1:{silent.getsockname()[1]}")
        with one.connect() as first, one.connect() as second:
            for client in (first, second):
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: one.stats()["clusters"]["app"]["used"]["requests"] == 2)
            assert only(check(at=one), "limits", "app: 2 of 2 requests")


def test_a_cluster_without_endpoints(started, check):
    assert only(check(at=started(EMPTY)), "clusters", "app")


def test_no_endpoint_listens(started, check):
    assert only(check(at=started(app=f"127.0.0.1:{closed_port()}")), "endpoints", "app", "refused")


def test_every_endpoint_is_ejected(started, check, origin):
    one = started(app=origin(serve(lambda message, conn: BAD)).address)
    assert one.get().status == 503
    assert only(check(at=one), "endpoints", "ejected", "503")


def test_one_dead_endpoint_of_two_is_a_warning(started, check, origin):
    one = started(CONFIG.replace('["$app"]', f'["$app", "127.0.0.1:{closed_port()}"]'))
    assert check(at=one) == {} and check.all["endpoints"]["status"] == "warn"


def test_the_way_leads_back(proxy, check):
    """A tcp listener whose cluster is the listener itself."""
    port = closed_port()
    text = CONFIG.replace("cluster: app}\nclusters:", "cluster: self}\nclusters:\n  - {name: self, endpoints: [\"127.0.0.1:$port\"]}")
    one = proxy(text, port=port, app=f"127.0.0.1:{port}")
    assert only(check(at=one), "loops", f"self 127.0.0.1:{port}")


def test_a_reload_was_refused(started, check):
    one = started()
    one.write("listeners: [{name: 1, bind: nowhere}]")
    one.hup()
    wait_for(lambda: one.stats()["reload_error"])
    assert only(check(at=one), "reloads", "proxy.yaml:1:")
    one.write(CONFIG)
    one.hup()
    wait_for(lambda: not one.stats()["reload_error"])
    assert check(at=one) == {}


def test_a_reload_of_a_file_that_is_gone(started, check):
    one = started()
    one.file.unlink()
    one.hup()
    wait_for(lambda: one.stats()["reload_error"])
    assert only(check(at=one), "reloads", "No such file")


def test_the_file_is_not_what_runs(started, check):
    one = started()
    other = one.directory / "other.yaml"
    other.write_text(one.file.read_text().replace("requests: 2", "requests: 3"))
    assert only(check("-c", str(other), at=one), "config-current", "clusters[0].limits.requests is 2, and 3 in the file")


@pytest.mark.parametrize("text, words", [("listeners: [{name: web, bind: nowhere, cluster: a}]", "f.yaml:1:"), ("a: [", "f.yaml:"), (None, "No such file")])
def test_the_file_is_no_good(started, check, tmp_path, text, words):
    one, file = started(), tmp_path / "f.yaml"
    if text:
        file.write_text(text)
    assert only(check("-c", str(file), at=one), "config-file", words)
    assert only(check("-c", str(file)), "config-file", words)


def test_an_address_is_taken(started, check, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = tmp_path / "f.yaml"
        file.write_text(f'listeners: [{{name: web, bind: "127.0.0.1:{taken.getsockname()[1]}", routes: []}}]')
        assert only(check("-c", str(file)), "addresses", "listener web", "another process")
    assert check("-c", str(file)) == {}


@pytest.mark.parametrize("bind, words", [("192.0.2.1:8080", "no such address"), ("unix:/no/such/dir/a.sock", "no directory")])
def test_an_address_cannot_be_had(check, tmp_path, bind, words):
    file = tmp_path / "f.yaml"
    file.write_text(f'listeners: [{{name: web, bind: "{bind}", routes: []}}]')
    assert only(check("-c", str(file)), "addresses", words)


def test_before_the_start(check, tmp_path):
    """A file alone: what is wrong with its clusters is seen, too."""
    file = tmp_path / "f.yaml"
    file.write_text(f'admin: unix:{tmp_path}/a.sock\nlisteners: [{{name: web, bind: "127.0.0.1:0", cluster: a}}]\n'
                    f'clusters: [{{name: a, endpoints: ["127.0.0.1:{closed_port()}"]}}]')
    assert only(check("-c", str(file)), "endpoints", "refused")
    file.write_text(file.read_text().rpartition("[")[0] + "[]}]")
    assert only(check("-c", str(file)), "clusters")



@pytest.fixture
def following(proxy, tmp_path):
    """(proxy, source, its connection) once a first snapshot serves."""
    source = SnapshotSource(tmp_path / "source.sock")
    one = proxy("", run=["--snapshots", f"unix:{source.path}", "--node", "web-1"], wait=False, env={"XDG_STATE_HOME": str(tmp_path / "state")})
    conn = source.accept()
    assert conn.snapshot("1", {"settings": {"proxy": {"admin": f"unix:{one.directory}/admin.sock"}}})["type"] == "ack"
    one.wait_ready()
    yield one, source, conn
    source.close()


def test_the_source_is_away(following, check):
    one, source, _ = following
    assert check(at=one) == {} and check.all["snapshots"]["status"] == "ok"
    source.close()
    wait_for(lambda: not one.stats()["snapshot"]["connected"])
    assert only(check(at=one), "snapshots", "no source")


def test_a_snapshot_was_refused(following, check):
    one, _, conn = following
    assert conn.snapshot("2", {"cluster": {"a": {"balance": "nonsense"}}})["type"] == "nack"
    assert only(check(at=one), "snapshots", "refused", "balance")
