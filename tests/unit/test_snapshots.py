"""The proxy's side without a core: stalled sources, faults of ours, and where the last good snapshot and its key are kept."""

import asyncio
import logging
import os
import pathlib

import msgpack
import pytest

from fastproxy.model.resources import Resources
from fastproxy.proxy import last_good, seal, snapshots
from fastproxy.wire.messages import Packed
from harness.source import SnapshotSource, frame

LIMIT_S = 20


class Core:
    """What FromSource wants of a Proxy; `trouble` is raised by the next that is applied."""

    def __init__(self, model):
        self.model, self.services, self.addresses, self.running, self.draining, self.trouble, self.applied = model, {}, {}, None, False, None, []

    async def start(self):
        pass

    async def apply(self, model):
        trouble, self.trouble = self.trouble, None
        if trouble:
            raise trouble
        self.applied.append(model)
        await asyncio.sleep(0.02)   # so that messages pile up


@pytest.fixture
def followed(tmp_path, monkeypatch):
    """followed(test): runs `test(follower, source)`, a function of blocking calls, beside a follower."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(snapshots, "Proxy", Core)
    source = SnapshotSource(tmp_path / "s")

    def run(test):
        async def work():
            follower = snapshots.FromSource(source.path, "n", {os.getuid()})
            follow = asyncio.ensure_future(follower.follow())
            try:
                await asyncio.wait_for(asyncio.to_thread(test, follower, source), LIMIT_S)
            finally:
                follow.cancel()
                await asyncio.gather(follow, return_exceptions=True)
                await follower.put_away()
        asyncio.run(work())
    yield run
    source.close()


def cluster(n):
    return {"cluster": {"a": {"endpoints": [f"127.0.0.1:{n}"]}}}


def test_a_frame_that_does_not_get_on_ends_the_connection(followed, monkeypatch):
    monkeypatch.setattr(snapshots, "STALLED_S", 0.05)

    def test(follower, source):
        conn = source.accept()
        conn.sock.sendall(frame({"type": "report"})[:-1])
        assert conn.closed() and source.accept().hello["have"] is None
    followed(test)


def test_answers_that_nobody_reads_end_the_connection(followed, monkeypatch):
    monkeypatch.setattr(snapshots, "STALLED_S", 0.1)

    def test(follower, source):
        conn = source.accept()
        bad = frame({"type": "snapshot", "version": "v", "resources": {"cluster": {f"c{i}": {"balance": "x"} for i in range(500)}}})
        try:
            for _ in range(400):
                conn.sock.sendall(bad)
        except ConnectionError:
            pass
        assert source.accept()
    followed(test)


def test_faults_of_ours_are_answered_too(followed, caplog):
    def test(follower, source):
        conn = source.accept()
        assert conn.snapshot("v1", cluster(1))["type"] == "ack"
        for trouble, code in ((RuntimeError("a bug"), "internal"), (ValueError("no such filter"), "apply"), (OSError(98, "listener web: taken"), "apply")):
            follower.proxy.trouble = trouble
            answer = conn.delta("v1", "v2", set=cluster(2))
            assert (answer["type"], answer["errors"][0]["code"]) == ("nack", code)
        assert answer["errors"][0] == {"path": "resources.listener.web.bind", "code": "apply", "message": "listener web: taken"}
        assert conn.delta("v1", "v3", set=cluster(3))["type"] == "ack" and follower.version == "v3"
    followed(test)
    assert "a bug" in caplog.text


def test_what_piles_up_is_applied_once(followed):
    """And when the newest of it cannot be, the one before it is."""
    def test(follower, source):
        conn = source.accept()
        assert conn.snapshot("v0", cluster(1))["type"] == "ack"
        many = b"".join(frame({"type": "snapshot", "version": f"v{i}", "resources": cluster(i)}) for i in range(1, 51))
        conn.sock.sendall(many)
        assert [conn.receive() for _ in range(50)] == [{"type": "ack", "version": f"v{i}"} for i in range(1, 51)]
        assert len(follower.proxy.applied) < 25 and follower.version == "v50"
        assert follower.proxy.applied[-1].clusters[0].endpoints[0].address == "127.0.0.1:50"
        n = len(follower.proxy.applied)
        assert conn.snapshot("v50", cluster(50))["type"] == "ack" and len(follower.proxy.applied) == n  # nothing has changed
        follower.proxy.trouble = ValueError("no")
        conn.sock.sendall(b"".join(frame({"type": "snapshot", "version": f"w{i}", "resources": cluster(60 + i)}) for i in range(2)))
        answers = [conn.receive() for _ in range(2)]
        assert {one["type"] for one in answers} == {"ack", "nack"} and follower.version == next(one["version"] for one in answers if one["type"] == "ack")
    followed(test)


def test_the_same_complaint_is_made_once(followed, caplog):
    caplog.set_level(logging.WARNING, "fastproxy.snapshots")

    def test(follower, source):
        conn = source.accept()
        for _ in range(5):
            assert conn.snapshot("v1", {"x": {}})["type"] == "nack"
    followed(test)
    assert caplog.text.count("unknown kind") == 1


# ---- on disk -------------------------------------------------------------------------------------------------------------

def packed(**resources):
    return {kind: {name: Packed(msgpack.packb(one)) for name, one in named.items()} for kind, named in resources.items()}


HIDDEN = packed(secret={"s": {"key": "hidden"}}, cluster={"a": {"endpoints": []}})


def test_save_and_load(tmp_path, monkeypatch):
    monkeypatch.setattr(seal, "key_of", lambda node, make: b"k" * 32)
    path = str(tmp_path / "a" / "b")
    assert last_good.load(path, "n") is None
    assert last_good.save(path, "n", "v1", HIDDEN) and last_good.load(path, "n") == ("v1", HIDDEN, True)
    assert b"hidden" not in pathlib.Path(path).read_bytes()
    monkeypatch.setattr(seal, "key_of", lambda node, make: b"l" * 32)
    assert last_good.load(path, "n") == ("v1", {"cluster": HIDDEN["cluster"]}, False)   # another key
    monkeypatch.setattr(seal, "key_of", lambda node, make: None)
    assert last_good.load(path, "n") == ("v1", {"cluster": HIDDEN["cluster"]}, False)   # none
    assert not last_good.save(path, "n", "v2", HIDDEN) and last_good.load(path, "n") == ("v2", {"cluster": HIDDEN["cluster"]}, False)
    assert b"hidden" not in pathlib.Path(path).read_bytes() and os.listdir(tmp_path / "a") == ["b"]
    with pytest.raises(last_good.Unusable, match="belongs to the node n"):
        last_good.load(path, "m")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / "b")
    last_good.save(path, "n", "v1", packed(cluster={"a": {}}))

    def full(fd):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        last_good.save(path, "n", "v2", packed(cluster={"a": {}}))
    assert os.listdir(tmp_path) == ["b"] and last_good.load(path, "n")[0] == "v1"


def test_names_of_files():
    names = [last_good.file_name(node) for node in ("a/b", "a_b", "../../etc/passwd", "x" * 255, "web-1")]
    assert len(set(names)) == 5 and all("/" not in name and len(name) < 90 and not name.startswith("..-") for name in names)


def test_the_keeper_writes_the_newest_and_seldom(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(last_good, "PAUSE_S", 0.2)
    monkeypatch.setattr(last_good, "save", lambda path, node, version, packed: written.append(version) or True)

    async def work():
        keeper = last_good.Keeper(str(tmp_path / "k"), "n")
        for i in range(100):
            keeper.keep(str(i), Resources())
            await asyncio.sleep(0.001)
        await keeper.close()
    asyncio.run(work())
    assert written[-1] == "99" and len(written) < 20


def test_sealing():
    key = b"k" * 32
    sealed = seal.seal(key, b"text", b"about")
    assert seal.unseal(key, sealed, b"about") == b"text" and sealed != seal.seal(key, b"text", b"about") and b"text" not in sealed
    assert seal.unseal(key, sealed, b"other") is None and seal.unseal(b"x" * 32, sealed, b"about") is None and seal.unseal(key, sealed[:-1], b"about") is None
    assert seal.unseal(key, b"", b"about") is None


def test_a_key_in_a_file_on_memory(tmp_path, monkeypatch):
    folder = str(tmp_path / "k")
    key = seal.in_file(folder, "n", make=True)
    assert len(key) == 32 and seal.in_file(folder, "n", make=False) == key == seal.in_file(folder, "n", make=True)
    assert seal.in_file(folder, "m", make=True) != key and sorted(os.listdir(folder)) == ["m", "n"]
    with pytest.raises(OSError):
        seal.in_file(folder, "none", make=False)
    os.chmod(folder, 0o755)
    with pytest.raises(PermissionError):
        seal.in_file(folder, "n", make=True)
    os.chmod(folder, 0o700)
    os.chmod(tmp_path / "k" / "n", 0o640)
    with pytest.raises(PermissionError):
        seal.in_file(folder, "n", make=True)
    os.unlink(tmp_path / "k" / "n")
    os.symlink(tmp_path / "k" / "m", tmp_path / "k" / "n")
    with pytest.raises(OSError):
        seal.in_file(folder, "n", make=True)


def test_a_key_is_never_put_on_a_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(seal, "on_memory", lambda place: False)
    monkeypatch.setattr(seal, "in_keyring", lambda node, make: None)
    assert seal.key_of("n", make=True) is None and os.listdir(tmp_path) == []
    monkeypatch.undo()
    assert seal.on_memory("/proc") is False and seal.on_memory("/no/such/place") is False


@pytest.mark.skipif(not pathlib.Path("/dev/shm").is_dir() or not seal.on_memory("/dev/shm"), reason="no tmpfs")
def test_a_tmpfs_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/shm")
    name = f"test-{os.getpid()}"
    try:
        key = seal.in_memory(name, make=True)
        assert len(key) == 32 and seal.in_memory(name, make=False) == key and seal.in_memory("none-" + name, make=False) is None
    finally:
        folder = pathlib.Path(f"/dev/shm/fastproxy-{os.getuid()}")
        (folder / name).unlink(missing_ok=True)
        if folder.is_dir() and not os.listdir(folder):
            folder.rmdir()
