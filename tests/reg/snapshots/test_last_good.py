"""A proxy that starts while its source is away serves the last acknowledged snapshot from the disk, and says that it is stale."""

import ctypes
import hashlib
import os
import pathlib
import stat

import pytest

from harness import wait_for

VERSION = "/version"


@pytest.fixture
def stopped(source, following, resources, state):
    """stopped(resources, node) -> the path of the file: a proxy has run with these, and was killed."""
    def run(given, node="web-1", version="v1"):
        one = following(node=node)
        conn = source.accept()
        assert conn.snapshot(version, given)["type"] == "ack"
        one.wait_ready()
        wait_for(lambda: list((state / "fastproxy").glob("*.snapshot")), what="the snapshot is kept")
        one.kill()
        one.process.wait()
        source.close()
        (path,) = (state / "fastproxy").glob("*.snapshot")
        return path
    return run


def with_admin(given, directory):
    return {**given, "settings": {"proxy": {"admin": f"unix:{directory}/admin.sock"}}}


def test_it_serves_without_a_source(source, following, resources, stopped, tmp_path):
    path = stopped(with_admin(resources("one"), tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    one = following()
    one.sockets = tmp_path
    one.wait_ready()
    assert one.get(VERSION).body == b"one"
    assert one.metric("fastproxy_snapshot_stale") == 1 and one.metric("fastproxy_snapshot_connected") == 0
    source.listen()
    conn = source.accept()
    assert conn.hello["have"] == "v1"
    assert conn.delta("v1", "v1")["type"] == "ack"
    assert one.metric("fastproxy_snapshot_stale") == 0 and one.metric("fastproxy_snapshot_connected") == 1
    assert conn.snapshot("v2", resources("two"))["type"] == "ack" and one.get(VERSION).body == b"two"


def test_a_silent_source_is_not_waited_for_long(source, following, resources, stopped):
    stopped(resources("one"))
    source.listen()
    one = following()
    conn = source.accept()
    assert conn.hello["have"] == "v1"
    one.wait_ready()
    assert one.get(VERSION).body == b"one"


def test_a_source_which_is_there_comes_first(source, following, resources, stopped):
    """What is on the disk is the base of its delta, and is not served before."""
    stopped(resources("one"))
    source.listen()
    one = following()
    two = {"routes": [{"match": {"path": VERSION}, "direct_response": {"status": 200, "body": "two"}}]}
    assert source.accept().delta("v1", "v2", set={"route_table": {"all": two}})["type"] == "ack"
    one.wait_ready()
    assert one.get(VERSION).body == b"two" and "last good" not in one.errors


def test_the_newest_is_kept_at_the_end(source, following, resources, state):
    one = following()
    conn = source.accept()
    for i in range(20):
        assert conn.snapshot(f"v{i}", resources(f"{i}"))["type"] == "ack"
    one.wait_ready()
    one.terminate()
    assert one.wait_exit() == 0
    source.close()
    again = following()
    again.wait_ready()
    assert again.get(VERSION).body == b"19"
    assert [one.name for one in (state / "fastproxy").iterdir()] == [next((state / "fastproxy").glob("*.snapshot")).name]


def damage_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_link(path):
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


DAMAGE = {"a bit": (damage_byte, "checksum"), "cut": (lambda path: os.truncate(path, path.stat().st_size - 1), "checksum"), "empty": (lambda path: os.truncate(path, 0), "none of this version"),
          "all": (lambda path: path.write_bytes(os.urandom(4096)), "none of this version"), "a link": (damage_link, "symbolic links"), "writable": (lambda path: path.chmod(0o622), "others can write it"),
          "a folder": (lambda path: (path.unlink(), path.mkdir()), "directory")}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_ignored(source, following, resources, stopped, name):
    damage, words = DAMAGE[name]
    damage(stopped(resources("one")))
    one = following()
    wait_for(lambda: "is ignored" in one.errors)
    assert words in one.errors.lower() and one.lines == [] and one.process.poll() is None
    source.listen()
    conn = source.accept()
    assert conn.hello["have"] is None
    assert conn.snapshot("v2", resources("two"))["type"] == "ack"
    one.wait_ready()
    assert one.get(VERSION).body == b"two"


def test_another_node_has_another_file(source, following, resources, stopped):
    stopped(resources("one"))
    one = following(node="web-2")
    wait_for(lambda: "no source" in one.errors)
    assert one.lines == []
    source.listen()
    assert source.accept().hello["have"] is None


def test_where_nothing_can_be_kept_it_serves_all_the_same(source, following, resources, tmp_path):
    (tmp_path / "file").touch()
    one = following(XDG_STATE_HOME=str(tmp_path / "file"))
    assert source.accept().snapshot("v1", resources("one"))["type"] == "ack"
    one.wait_ready()
    wait_for(lambda: "cannot be kept" in one.errors)
    assert one.get(VERSION).body == b"one"


SECRET = {"web": {"cert": "-----BEGIN CERTIFICATE-----", "key": "-----BEGIN PRIVATE KEY-----\nhidden-key\n"}}


@pytest.fixture
def node(tmp_path):
    """A name of its own, whose key is gone afterwards."""
    name = f"test-{os.getpid()}-{tmp_path.name}"
    yield name
    forget(name)


def forget(name):
    """As a restart of the machine: the key is nowhere any more."""
    file = name[:64] + "-" + hashlib.sha256(name.encode()).hexdigest()[:12]
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    keyctl = {"x86_64": 250, "aarch64": 219, "riscv64": 219}.get(os.uname().machine)
    if keyctl:
        ring = syscall(keyctl, 22, -1, -2)
        key = syscall(keyctl, 10, ring, b"user", f"fastproxy:{file}".encode(), 0)
        if key > 0:
            assert syscall(keyctl, 9, key, ring) == 0
    for place in (os.environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.getuid()}", "/run", "/dev/shm"):
        if place:
            pathlib.Path(place, f"fastproxy-{os.getuid()}", file).unlink(missing_ok=True)


def test_secrets_are_sealed_and_survive_the_process(source, following, resources, stopped, node, state):
    path = stopped({**resources("one"), "secret": SECRET}, node)
    assert b"hidden-key" not in path.read_bytes() and b"BEGIN CERTIFICATE" not in path.read_bytes()
    for file in state.rglob("*"):
        assert file.is_dir() or b"hidden-key" not in file.read_bytes()
    source.listen()
    one = following(node=node)
    conn = source.accept()
    assert conn.hello["have"] == "v1"
    assert conn.delta("v1", "v2", remove={"secret": ["web"]})["type"] == "ack"
    assert "hidden-key" not in one.errors
    one.terminate()
    assert one.wait_exit() == 0


def test_secrets_do_not_survive_the_machine(source, following, resources, stopped, node):
    stopped({**resources("one"), "secret": SECRET}, node)
    forget(node)
    one = following(node=node)
    one.wait_ready()
    assert one.get(VERSION).body == b"one"
    source.listen()
    conn = source.accept()
    assert conn.hello["have"] is None
    assert conn.delta("v1", "v2")["type"] == "resync"
    assert conn.snapshot("v1", {**resources("one"), "secret": SECRET})["type"] == "ack"
    one.terminate()     # and with it goes the last that could make the key again
    assert one.wait_exit() == 0
