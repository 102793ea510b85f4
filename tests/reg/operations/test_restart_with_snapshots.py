"""A hot restart of a proxy that follows a source: what it serves goes on, whether the source or the disk are there or not (I6)."""

import pathlib
import shutil

import pytest

from harness import SnapshotSource, wait_for


def resources(version, directory):
    routes = [{"direct_response": {"status": 200, "body": version}}]
    return {"listener": {"web": {"bind": "127.0.0.1:0", "routes": routes}}, "settings": {"proxy": {"admin": f"unix:{directory}/admin.sock", "drain_grace": "200ms"}}}


@pytest.mark.parametrize("source_is", ["there", "away"])
def test_it_goes_on(proxy, tmp_path, source_is):
    source = SnapshotSource(tmp_path / "source.sock")
    one = proxy("", run=["--snapshots", f"unix:{source.path}", "--node", "n"], wait=False, env={"XDG_STATE_HOME": str(tmp_path / "state")})
    assert source.accept().snapshot("v1", resources("one", one.directory))["type"] == "ack"
    one.wait_ready()
    address = one.addresses["web"]
    assert one.get().body == b"one"
    if source_is == "away":
        wait_for(lambda: list(pathlib.Path(tmp_path).glob("state/fastproxy/*")), 5)
        source.close()
        shutil.rmtree(tmp_path / "state")
    first = one.restart(wait=source_is == "away")
    if source_is == "there":
        conn = source.accept()
        assert conn.hello["have"] == "v1"       # a delta is enough
        wait_for(lambda: one.lines.count("ready") == 2, 10)
        one.pid = one.stats()["pid"]
        assert conn.snapshot("v2", resources("two", one.directory))["type"] == "ack"
    assert one.pid != first and one.addresses["web"] == address and one.get().body == (b"two" if source_is == "there" else b"one")
    assert one.wait_exit() == 0
    assert one.metric("fastproxy_snapshot_answers_total", answer="ack") == (2 if source_is == "there" else 1)
    wait_for(lambda: one.metric("fastproxy_requests_total") == 2)
    source.close()
