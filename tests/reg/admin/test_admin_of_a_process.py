"""The admin interface of a running proxy: off unless asked for, whom it obeys, `stat`, and log levels that return (I9)."""

import json
import os
import re
import socket
import stat
import subprocess

import pytest

from harness import RawClient, wait_for
from harness.client import request
from harness.process import command

ROUTES = """
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    routes: [{name: all, cluster: app, request_headers: {set: {Authorization: "Bearer hush", X-Plain: shown}}}]
clusters:
  - {name: app, endpoints: ["$app"]}
"""
UNIX = "admin: unix:$dir/admin.sock\nmetrics: 127.0.0.1:0" + ROUTES
TCP = "admin: 127.0.0.1:0" + ROUTES
CHANGING = ["/drain", "/logging?component=admin&level=debug"]
GUARD = "x-fastproxy-admin: 1"


@pytest.fixture(scope="module")
def shared(proxy_once, origin_once):
    """For what must change nothing."""
    one = proxy_once(UNIX, app=origin_once().address)
    yield one
    assert one.get().status == 200 and "DEBUG" not in one.errors


def service_of(one, name):
    return re.search(rf"{name} on (\S+)", one.errors)[1]


def ask(address, method, path, *lines, name="localhost"):
    with RawClient(address) as client:
        client.send(request(method, path, "Connection: close", *lines, name=name))
        return client.response(method)


def is_draining(one):
    try:
        one.connect().sock.close()
    except ConnectionRefusedError:
        return True


def listening(pid):
    """Addresses of the TCP sockets on which the process listens, and how many Unix sockets it has bound."""
    inodes = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    tcp = [line.split()[1] for file in ("tcp", "tcp6") for line in open(f"/proc/{pid}/net/{file}") if line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in inodes]
    return tcp, [line.split()[7] for line in open(f"/proc/{pid}/net/unix") if f"socket:[{line.split()[6]}]" in inodes and len(line.split()) > 7]


def test_off_unless_asked_for(proxy, origin):
    one = proxy(ROUTES, app=origin().address)
    tcp, unix = listening(one.pid)
    assert len(tcp) == 1 and tcp[0].startswith("0100007F:") and not unix


def test_unix_socket_is_the_owners_alone(shared):
    one = shared
    path = one.directory / "admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.stat().st_uid == os.getuid()
    assert one.admin("/ready").body == b"ready\n"
    if os.getuid() == 0:  # somebody else cannot even connect
        for folder in (one.directory, *list(one.directory.parents)[:-2]):
            os.chmod(folder, stat.S_IMODE(folder.stat().st_mode) | 0o011)
        child = os.fork()
        if not child:
            os.setgid(65534)
            os.setuid(65534)
            try:
                socket.socket(socket.AF_UNIX).connect(str(path))
            except PermissionError:
                os._exit(13)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 13


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_post_changes_something(shared, method, path):
    reply = shared.admin(path, method)
    assert reply.status == 405 and b"POST" in reply.get(b"allow")
    assert shared.get().status == 200


def test_tcp_checks_host_and_header(proxy, origin):
    one = proxy(TCP, app=origin().address)
    address = service_of(one, "admin")
    assert address.startswith("127.0.0.1:")
    for name, status in (("localhost", 200), (address, 200), ("[::1]:1", 200), ("attacker.example", 403), ("127.0.0.1.attacker.example", 403)):
        assert ask(address, "GET", "/stats", name=name).status == status
    for lines in ((), ("Content-Type: text/plain",), ("x-fastproxy-admin: 0",), ("Origin: http://127.0.0.1",)):
        assert [ask(address, "POST", path, *lines).status for path in CHANGING] == [403, 403]
    assert ask(address, "POST", "/drain", GUARD, name="attacker.example").status == 403
    assert one.get().status == 200 and "DEBUG" not in one.errors
    assert ask(address, "POST", "/drain", GUARD).status == 202
    wait_for(lambda: is_draining(one), what="it drains")


def test_metrics_address_only_reads(shared):
    address = service_of(shared, "metrics")
    assert [ask(address, "GET", path, name="prometheus.example").status for path in ("/metrics", "/ready", "/live")] == [200] * 3
    assert [ask(address, method, path, GUARD).status for method in ("GET", "POST") for path in (*CHANGING, "/config", "/stats")] == [404] * 8
    assert shared.get().status == 200


def test_config_hides_credentials(shared):
    shown = shared.admin("/config").body.decode()
    assert "hush" not in shown and "shown" in shown and json.loads(shown)["config"]["listeners"][0]["name"] == "web"


def test_the_level_of_one_component_returns(proxy, origin):
    one = proxy(UNIX, app=origin().address)

    def debug_lines(path):
        """How many lines at DEBUG a call left."""
        before = one.errors.count(" DEBUG ")
        one.admin(path)
        return one.errors.count(" DEBUG ") - before

    assert debug_lines("/live") == 0
    assert json.loads(one.admin("/logging?component=config&level=debug&ttl=1h", "POST").body) == {"component": "config", "level": "debug", "ttl_seconds": 3600.0}
    assert debug_lines("/live") == 0  # another component
    assert one.admin("/logging?component=admin&level=debug&ttl=1s", "POST").status == 200
    assert debug_lines("/live") == 1 and "DEBUG fastproxy.admin: GET /live" in one.errors
    wait_for(lambda: debug_lines("/live") == 0, 5, "the level is back")
    for wrong in ("component=admin", "level=debug&component=heart", "level=loud", "level=debug&ttl=-1s"):
        assert one.admin(f"/logging?{wrong}", "POST").status == 400


def test_stat(proxy, origin):
    app = origin()
    one = proxy(UNIX, app=app.address)
    assert [one.get().status for _ in range(5)] == [200] * 5
    one.get("/", "Expect: magic")

    def run(*argv):
        return subprocess.run([command(), "stat", *argv], capture_output=True, text=True, timeout=60)

    at = f"unix:{one.directory}/admin.sock"
    wait_for(lambda: one.metric("fastproxy_requests_total") == 6)
    out = run("--admin", at)
    assert out.returncode == 0, out.stderr
    row = next(line.split() for line in out.stdout.splitlines() if line.startswith("all "))
    assert row[:5] == ["all", "app", "web", "5", "100.00%"] and float(row[5]) > 0 and all(cell.endswith("ms") for cell in row[6:])
    assert re.search(rf"^app +{re.escape(app.address)} +5 +0 ", out.stdout, re.M) and re.search("^bad_expect +1$", out.stdout, re.M)
    rows = json.loads(run("--admin", at, "-o", "json").stdout)["routes"]
    assert [(one["route"], one["requests"]) for one in rows if one["route"]] == [("all", 5)]
    assert (run("--admin", f"unix:{one.directory}/none.sock").returncode, run("--admin", at, "--no-such").returncode) == (3, 2)
