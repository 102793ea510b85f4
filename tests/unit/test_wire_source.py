"""`Source`: what it sends to proxies that come, fall behind, refuse and go; who may come; and `fastproxy push`, which is one."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys

import msgpack
import pytest
import uvloop

from fastproxy.cli.main import main
from fastproxy.cli.push import read
from fastproxy.model import ConfigError
from fastproxy.wire.source import KEPT, Source
from harness.source import frame

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LIMIT_S = 20


@pytest.fixture(params=LOOPS)
def live(request):
    loop = LOOPS[request.param]()
    yield lambda work: loop.run_until_complete(asyncio.wait_for(work, LIMIT_S))
    loop.close()


class Fake:
    """A proxy, by hand."""

    @classmethod
    async def connect(cls, path, have=None, hello=True, node="n"):
        self = cls()
        self.reader, self.writer = await asyncio.open_unix_connection(str(path))
        if hello:
            self.send(type="hello", protocol=1, node=node, software="fake", features=[], have=have)
        return self

    def send(self, **message):
        self.writer.write(frame(message))

    async def receive(self):
        return msgpack.unpackb(await self.reader.readexactly(int.from_bytes(await self.reader.readexactly(4), "big")))

    async def ended(self):
        return not await self.reader.read()


def one(n):
    return {"cluster": {"a": {}}, "endpoints": {"a": {"endpoints": [f"127.0.0.1:{n}"]}}}


def test_whole_first_and_then_what_has_changed(live, tmp_path):
    answers = []

    async def work():
        async with Source(tmp_path / "s", on_answer=lambda node, answer: answers.append((node, answer))) as source:
            assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
            proxy = await Fake.connect(tmp_path / "s")
            source.publish(one(1), "v1")
            assert await proxy.receive() == {"type": "snapshot", "version": "v1", "resources": one(1)}
            source.publish({**one(2), "secret": {"s": {"key": "k"}}}, "v2")
            assert await proxy.receive() == {"type": "delta", "base": "v1", "version": "v2", "set": {"endpoints": one(2)["endpoints"], "secret": {"s": {"key": "k"}}}, "remove": {}}
            proxy.send(type="ack", version="v2")
            source.publish({"cluster": {"a": {"endpoints": []}}}, "v3")
            assert await proxy.receive() == {"type": "delta", "base": "v2", "version": "v3", "set": {"cluster": {"a": {"endpoints": []}}}, "remove": {"endpoints": ["a"], "secret": ["s"]}}
            proxy.send(type="nack", version="v3", errors=[{"path": "", "code": "value", "message": "no"}])
            await proxy.writer.drain()
            while len(answers) < 2:
                await asyncio.sleep(0.001)
            source.publish(one(4), "v4")    # what a proxy has that refused is not known
            assert (await proxy.receive())["type"] == "snapshot"
            proxy.send(type="resync")
            assert (await proxy.receive()) == {"type": "snapshot", "version": "v4", "resources": one(4)}
    live(work())
    assert [(node, answer.version) for node, answer in answers[:2]] == [("n", "v2"), ("n", "v3")] and answers[1][1].errors[0].message == "no"
    assert not (tmp_path / "s").exists()


def test_who_comes_back_gets_what_has_changed_since(live, tmp_path):
    async def work():
        async with Source(tmp_path / "s") as source:
            version = source.publish(one(1))
            same, older, foreign = [await Fake.connect(tmp_path / "s", have=have) for have in (version, version, "?")]
            assert await same.receive() == {"type": "delta", "base": version, "version": version, "set": {}, "remove": {}}
            assert (await foreign.receive())["type"] == "snapshot" and (await older.receive())["type"] == "delta"
            second = source.publish(one(2))
            assert second != version and source.publish(one(1)) == version and source.publish(one(2)) == second
            late = await Fake.connect(tmp_path / "s", have=version)
            assert await late.receive() == {"type": "delta", "base": version, "version": second, "set": {"endpoints": one(2)["endpoints"]}, "remove": {}}
            for i in range(KEPT):
                source.publish(one(100 + i))
            late = await Fake.connect(tmp_path / "s", have=version)
            assert (await late.receive())["type"] == "snapshot" and len(source.kept) == KEPT
    live(work())


def test_a_slow_proxy_gets_the_newest(live, tmp_path):
    async def work():
        async with Source(tmp_path / "s") as source:
            proxy = await Fake.connect(tmp_path / "s")
            big = "x" * (1 << 20)
            for i in range(200):
                source.publish({"cluster": {"a": {"endpoints": [], "name": f"{i}{big}"}}}, str(i))
                await asyncio.sleep(0)
            versions = []
            while not versions or versions[-1] != "199":
                versions.append((await proxy.receive())["version"])
            assert len(versions) < 100 and versions == sorted(versions, key=int)
    live(work())


@pytest.mark.parametrize("first", [{"type": "hello", "protocol": 2, "node": "n", "software": "s", "features": [], "have": None}, {"type": "ack", "version": "1"}, {"type": "hello"}, None])
def test_what_is_no_proxy_is_sent_away(live, tmp_path, first):
    async def work():
        async with Source(tmp_path / "s") as source:
            source.publish(one(1))
            proxy = await Fake.connect(tmp_path / "s", hello=False)
            proxy.writer.write(frame(first) if first else b"\xff\xff\xff\xffGET")
            try:
                assert await proxy.ended()
            except ConnectionError:
                pass
            assert (await (await Fake.connect(tmp_path / "s")).receive())["type"] == "snapshot"
    live(work())


def test_a_stale_socket_gives_way_and_a_living_one_does_not(live, tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))

    async def work():
        async with Source(tmp_path / "s"):
            with pytest.raises(OSError):
                await Source(tmp_path / "s").__aenter__()
            assert await Fake.connect(tmp_path / "s")
        (tmp_path / "s").write_text("precious")
        with pytest.raises(OSError):
            await Source(tmp_path / "s").__aenter__()
        assert (tmp_path / "s").read_text() == "precious"
    live(work())


CLIENT = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
os.setuid(65534)
sock.connect(sys.argv[1])
try:
    sock.sendall(bytes.fromhex(sys.argv[2]))
    print(sock.recv(1))
except ConnectionError:
    print(b"")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: two users")
@pytest.mark.parametrize("listed, wanted", [((), "b''"), ((65534,), "b'\\x00'")])
def test_other_users_are_sent_away(tmp_path, listed, wanted):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    hello = frame({"type": "hello", "protocol": 1, "node": "n", "software": "s", "features": [], "have": None}).hex()

    async def work():
        async with Source(tmp_path / "s", uids=listed, mode=0o666) as source:
            source.publish(one(1))
            client = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, str(tmp_path / "s"), hello, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            out, _ = await client.communicate()
            assert out.decode().strip() == wanted
    asyncio.run(work())


FILE = """
workers: 0
admin: unix:a.sock
drain_timeout: 1h
listeners:
- name: 8080
  bind: unix:web.sock
  via: true
  routes: [{match: {headers: {x: 0123, y: "5"}}, direct_response: {status: 200, body: 404}}, {cluster: a}]
- {name: db, bind: 127.0.0.1:1, protocol: tcp, cluster: a, timeouts: {idle: 0s}}
clusters:
- {name: a, endpoints: [unix:/abs, {address: unix:rel, weight: 2, zone: ~}]}
"""


def test_push_reads_a_file_as_run_does(tmp_path):
    from fastproxy.model import load
    from fastproxy.model.resources import Resources
    from fastproxy.wire.messages import Packed
    (tmp_path / "p.yaml").write_text(FILE)
    resources = read(tmp_path / "p.yaml")
    found, faults = Resources().replaced({kind: {name: Packed(msgpack.packb(value)) for name, value in named.items()} for kind, named in resources.items()})
    assert not faults and found.config == load(tmp_path / "p.yaml")
    (tmp_path / "p.json").write_text(json.dumps({"listeners": [], "clusters": [{"name": "a", "endpoints": []}]}))
    assert read(tmp_path / "p.json") == {"settings": {"proxy": {}}, "listener": {}, "cluster": {"a": {"endpoints": []}}}
    (tmp_path / "p.yaml").write_text("resources: {cluster: {a: {endpoints: [1, x, true]}}}")
    assert read(tmp_path / "p.yaml") == {"cluster": {"a": {"endpoints": [1, "x", True]}}}
    (tmp_path / "p.yaml").write_text("listeners: [")
    with pytest.raises(ConfigError):
        read(tmp_path / "p.yaml")


def test_push_says_what_is_wrong_without_a_proxy(tmp_path, capsys):
    (tmp_path / "p.yaml").write_text("listeners: []\nworkers: x\n")
    target = ["--snapshots", f"unix:{tmp_path}/s"]
    assert main(["push", str(tmp_path / "p.yaml"), *target]) == 1
    assert "p.yaml:2:10: workers" in capsys.readouterr().err
    assert main(["push", str(tmp_path / "none.yaml"), *target, "-o", "json"]) == 1
    assert "No such file" in json.loads(capsys.readouterr().out)["errors"][0]["message"]
    (tmp_path / "p.yaml").write_text("listeners: []\n")
    assert main(["push", str(tmp_path / "p.yaml"), *target, "--timeout", "0.05"]) == 3
    assert "no answer" in capsys.readouterr().err
    assert main(["push", str(tmp_path / "p.yaml"), "--snapshots", f"unix:{tmp_path}/none/s"]) == 3
    assert main(["push", str(tmp_path / "p.yaml"), "--snapshots", "127.0.0.1:1"]) == 2


@pytest.mark.parametrize("argv", [["run", "--snapshots", "unix:/s"], ["run", "--node", "n"], ["run", "--snapshots", "127.0.0.1:1", "--node", "n"], ["run", "--snapshots", "unix:/s", "--node", "a b"],
                                  ["run", "-c", "f", "--snapshots", "unix:/s", "--node", "n"], ["run", "-t", "--snapshots", "unix:/s", "--node", "n"], ["run"]])
def test_usage_of_run(argv, capsys):
    assert main(argv) == 2 and capsys.readouterr().err
