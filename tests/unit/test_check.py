"""Checks of `fastproxy check` over facts by hand: what a test cannot bring about on its machine, and how files differ."""

import pytest

from fastproxy.cli.check import CHECKS, Facts, differences
from fastproxy.cli.probe import bindable, dial, machine

GOOD = {"cores": 4, "max_fds": 65536, "reuseport": True, "now": 2e9, "installed_at": 1e9, "pipe_max_bytes": 1 << 20, "pipe_user_pages": 16384, "somaxconn": 4096}


def facts(stats=None, **changed):
    one = Facts()
    one.machine = {**GOOD, **changed}
    one.stats = stats
    return one


@pytest.mark.parametrize("name, status, changed", [
    ("reuseport", "fail", {"reuseport": False}), ("splice", "warn", {"pipe_max_bytes": 65536}), ("splice", "warn", {"pipe_user_pages": 100}),
    ("backlog", "warn", {"somaxconn": 128}), ("clock", "fail", {"now": 0.0})])
def test_the_machine(name, status, changed):
    assert CHECKS[name](facts())[0] == "ok"
    found = CHECKS[name](facts(**changed))
    assert found[0] == status and found[1] and found[2]


def test_what_cannot_be_read_is_no_fault():
    assert {CHECKS[name](facts(pipe_max_bytes=None, pipe_user_pages=None, somaxconn=None))[0] for name in ("splice", "backlog")} == {"ok"}
    assert machine().keys() == GOOD.keys() and all(CHECKS[name](facts(**machine())) for name in ("reuseport", "splice", "backlog", "clock"))


def test_a_clock_that_was_moved():
    assert [CHECKS["clock"](facts({"process": {"clock_step_seconds": step}}))[0] for step in (0.5, -0.5, 3600.0, -3600.0)] == ["ok", "ok", "warn", "warn"]


def test_another_version():
    assert CHECKS["version"](facts({"version": "0.0.0"}))[0] == "warn"


def test_nearly_all_files_open():
    one = facts({"process": {"max_fds": 1000, "open_fds": 950}})
    one.running = {"clusters": []}
    assert CHECKS["files"](one)[0] == "fail"


def test_endpoints_that_are_found(tmp_path):
    """Offline a file of endpoints is read; a running proxy is believed. A fallback makes an empty cluster no fault."""
    file = tmp_path / "app.yaml"
    one = facts()
    one.config = {"listeners": [{"cluster": "a"}], "clusters": [{"name": "a", "endpoints": {"file": str(file)}}, {"name": "b", "endpoints": {"dns": {"name": "b", "port": 1}}}]}
    assert CHECKS["discovery"](one)[0] == "fail" and CHECKS["clusters"](one)[0] == CHECKS["endpoints"](one)[0] == "ok"
    file.write_text("- 127.0.0.1:1")
    assert CHECKS["discovery"](one)[0] == "ok"
    file.write_text("- nowhere")
    assert f"{file}:1:3" in CHECKS["discovery"](one)[1]
    here = {"endpoints": [{"address": "127.0.0.1:1", "state": "active"}], "discovery": {"error": "A: nxdomain"}}
    one.stats = {"clusters": {"a": here, "b": {**here, "discovery": {"error": None}}}}
    assert CHECKS["discovery"](one)[:2] == ("warn", "endpoints are as they were found before: a: A: nxdomain") and CHECKS["clusters"](one)[0] == "ok"
    here["endpoints"] = []
    assert CHECKS["discovery"](one)[0] == CHECKS["clusters"](one)[0] == "fail"
    one.config["clusters"][0]["fallback"] = "b"
    assert CHECKS["clusters"](one)[0] == "ok"


def test_differences():
    file = {"workers": 1, "listeners": [{"name": "web", "timeouts": {"idle": "1h"}}], "clusters": [{"name": "a"}], "admin": "x"}
    running = {"workers": 2, "listeners": [{"name": "web", "timeouts": {"idle": "5s"}}], "clusters": []}
    assert list(differences(file, running)) == ["workers is 2, and 1 in the file", "listeners[0].timeouts.idle is 5s, and 1h in the file", "clusters",
                                                "admin is None, and x in the file"]
    assert not list(differences(file, file))


def test_dial_and_bindable(tmp_path):
    import socket
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"{tmp_path}/a.sock")
        unix.listen()
        port = tcp.getsockname()[1]
        addresses = [f"127.0.0.1:{port}", f"0.0.0.0:{port}", f"unix:{tmp_path}/a.sock", f"unix:{tmp_path}/b.sock", "127.0.0.1:1", "[::1]:1"]
        found = dial(addresses)
        assert list(found) != [] and {one: found[one] is None for one in addresses} == dict(zip(addresses, [True] * 3 + [False] * 3))
        assert "another process" in bindable(addresses[0]) and "another process" in bindable(addresses[2])
    (tmp_path / "file").touch()
    assert "no socket" in bindable(f"unix:{tmp_path}/file") and "no directory" in bindable(f"unix:{tmp_path}/none/a")
    assert bindable(f"unix:{tmp_path}/a.sock") is bindable("127.0.0.1:0") is None    # its process has ended: the file is in nobody's way
    assert "no such address" in bindable("192.0.2.1:80")
