"""Whatever the source does, the proxy serves what it has: killed, hung, garbage, halves of frames, a hundred snapshots a second."""

import socket
import struct
import threading

import msgpack
import pytest

from harness import wait_for
from harness.source import frame

VERSION = "/version"
MIB = 1 << 20


@pytest.fixture
def ready(source, following, resources):
    """(proxy, connection): version v1 serves."""
    one = following()
    conn = source.accept()
    assert conn.snapshot("v1", resources("one"))["type"] == "ack"
    one.wait_ready()
    return one, conn


def serves(one, body=b"one"):
    return one.get(VERSION).body == body


def test_a_killed_source(source, ready, resources):
    one, conn = ready
    source.close()
    wait_for(lambda: "it closed the connection" in one.errors)
    assert serves(one)
    source.listen()
    conn = source.accept()
    assert conn.hello["have"] == "v1"
    assert conn.delta("v1", "v1") == {"type": "ack", "version": "v1"}
    assert conn.delta("v1", "v2", set={"cluster": {"app": {"endpoints": []}}})["type"] == "ack"
    assert serves(one)


def test_a_killed_source_with_a_snapshot_on_its_way(source, ready, resources):
    one, conn = ready
    conn.sock.sendall(frame({"type": "snapshot", "version": "v2", "resources": resources("two")}))
    source.close()
    wait_for(lambda: serves(one, b"two"))
    source.listen()
    assert source.accept().hello["have"] == "v2"


def test_a_hung_source(source, ready):
    """It neither reads nor writes, and then does not even accept."""
    one, conn = ready
    for _ in range(20):
        assert serves(one)
    conn.sock.close()
    idle = source.accept(hello=False)
    assert serves(one)
    idle.sock.close()
    source.sock.listen(0)
    full = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for sock in full:
        sock.setblocking(False)
        try:
            sock.connect(source.path)
        except BlockingIOError:
            pass
    assert serves(one) and one.process.poll() is None
    for sock in full:
        sock.close()
    source.close()
    source.listen()
    assert source.accept().hello["have"] == "v1"


def test_a_source_which_never_answered_the_hello(source, following, resources):
    one = following()
    for _ in range(3):
        source.accept().sock.close()
    assert one.process.poll() is None and one.lines == []
    source.accept().snapshot("v1", resources("one"))
    one.wait_ready()


def framed(payload):
    return struct.pack(">I", len(payload)) + payload


BROKEN = {
    "length 0": b"\0\0\0\0", "length over the bound": b"\x04\0\0\x01", "length of 4 GB": b"\xff\xff\xff\xff", "http": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "not msgpack": framed(b"\xc1\xc1\xc1"), "an integer": framed(b"\x01"), "a list": framed(msgpack.packb(["snapshot"])), "cut": framed(b"\x83\xa4type"),
    "trailing": framed(msgpack.packb({"type": "report"}) + b"\0"), "a repeated key": framed(b"\x82\xa4type\xa6report\xa4type\xa6report"),
    "deep": framed(b"\x81\xa4type" + b"\x91" * MIB + b"\xc0"), "deep in a resource": framed(b"\x83\xa4type\xa8snapshot\xa7version\xa1x\xa9resources\x81\xa7cluster\x81\xa1a" + b"\x81\xa1a" * 300_000 + b"\xc0"),
    "claims 4 G keys": framed(b"\xdf\xff\xff\xff\xff"), "keys that are no texts": framed(b"\x81\x01\x02"), "bad UTF-8": framed(b"\x81\xa4type\xa2\xff\xfe"),
}


def test_garbage(source, ready):
    one, conn = ready
    for name, broken in BROKEN.items():
        assert conn.delta("v1", "v1")["type"] == "ack"  # what has made sense once is tried again sooner
        conn.sock.sendall(broken)
        answer = conn.receive()
        assert (answer["type"], answer["version"], answer["errors"][0]["code"]) == ("nack", None, "malformed") and answer["errors"][0]["message"], name
        assert conn.closed() and serves(one), name
        conn = source.accept()
        assert conn.hello["have"] == "v1", name
    assert conn.delta("v1", "v2", set={"cluster": {"app": {"endpoints": []}}})["type"] == "ack"


def test_what_is_good_before_garbage_counts(ready, resources):
    one, conn = ready
    conn.sock.sendall(frame({"type": "snapshot", "version": "v2", "resources": resources("two")}) + b"\0\0\0\0")
    assert conn.receive() == {"type": "ack", "version": "v2"}
    assert conn.receive()["version"] is None and conn.closed() and serves(one, b"two")


def test_halves_of_frames(source, ready, resources):
    one, conn = ready
    whole = frame({"type": "snapshot", "version": "v2", "resources": resources("two")})
    for cut in (1, 3, 4, 5, len(whole) // 2, len(whole) - 1):
        conn.sock.sendall(whole[:cut])
        conn.sock.close()
        conn = source.accept()
        assert conn.hello["have"] == "v1" and serves(one)
    for i in range(len(whole)):
        conn.sock.sendall(whole[i:i + 1])
    assert conn.receive() == {"type": "ack", "version": "v2"} and serves(one, b"two")


def test_random_damage(source, ready, resources, rng):
    """Single bytes of a good frame, changed: an answer or the end of the connection, never the end of the proxy."""
    one, conn = ready
    whole = frame({"type": "snapshot", "version": "v2", "resources": resources("two")})
    for _ in range(150):
        broken = bytearray(whole)
        broken[rng.randrange(4, len(whole))] = rng.randrange(256)
        try:
            conn.sock.sendall(broken)
            answer = conn.receive()
            assert answer["type"] in ("ack", "nack")
            if answer["version"] is None and answer["errors"][0]["code"] == "malformed":
                raise EOFError
        except (EOFError, ConnectionError):
            conn.sock.close()
            conn = source.accept()
    assert one.process.poll() is None
    assert conn.snapshot("v3", resources("three"))["type"] == "ack" and serves(one, b"three")


@pytest.mark.parametrize("resource", [b"\xdd\x00\xf0\x00\x00" + b"\x90" * (15 * MIB), b"\xdb\x02\x00\x00\x00" + b"x" * (32 * MIB), b"\xdd\x00\x40\x00\x00" + b"\xa2ab" * (4 * MIB)],
                         ids=["many lists", "a long text", "many texts"])
def test_large_resources_do_not_take_the_memory(ready, resource):
    one, conn = ready
    payload = b"\x83\xa4type\xa8snapshot\xa7version\xa1x\xa9resources\x81\xa7cluster\x81\xa1a" + resource
    before = one.rss_bytes
    conn.sock.sendall(framed(payload))
    answer = conn.receive()
    assert answer["type"] == "nack" and answer["errors"][0]["path"] == "resources.cluster.a"
    assert serves(one) and one.rss_bytes - before < 700 * MIB


def test_a_hundred_snapshots_a_second(ready, resources):
    """More than can be applied: each gets its answer, in order; the last one serves; no request fails."""
    one, conn = ready
    stop, failed, served = threading.Event(), [], []

    def load():
        with one.connect() as client:
            while not stop.is_set():
                reply = client.get(VERSION)
                (served if reply.status == 200 else failed).append(reply)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        n = 300
        sender = threading.Thread(target=lambda: [conn.send(type="snapshot", version=f"s{i}", seq=i, resources=resources(f"s{i}")) for i in range(n)])
        sender.start()
        answers = [conn.receive() for _ in range(n)]
        sender.join()
    finally:
        stop.set()
        thread.join()
    assert answers == [{"type": "ack", "version": f"s{i}", "seq": i} for i in range(n)]
    assert serves(one, b"s299") and served and not failed


def test_deltas_ahead_of_their_answers(ready, resources):
    """Each on the one before it, none waited for; a bad one in the middle takes with it what stands on it."""
    one, conn = ready
    good = lambda i: {"cluster": {f"c{i}": {"endpoints": []}}}  # noqa: E731
    messages = [{"type": "delta", "base": "v1" if i == 0 else f"d{i - 1}", "version": f"d{i}", "set": good(i) if i != 5 else {"cluster": {"x": {}}}} for i in range(8)]
    messages.append({"type": "delta", "base": "d4", "version": "last", "set": good(9)})
    conn.sock.sendall(b"".join(map(frame, messages)))
    answers = [conn.receive() for _ in messages]
    assert [one["type"] for one in answers] == ["ack"] * 5 + ["nack", "resync", "resync", "ack"]
    assert [one["version"] for one in answers] == [f"d{i}" for i in range(8)] + ["last"]
    assert conn.delta("last", "end", remove={"cluster": ["c0", "c4", "c9"]})["type"] == "ack"
    assert conn.delta("end", "no", remove={"cluster": ["c6"]})["type"] == "nack"
