"""Discovery in a program: what is awaited, kept and taken together, on every loop and kind of workers, and nothing left of it."""

import asyncio
import json
import os
import threading
import time

import pytest
import uvloop

import fastproxy
from fastproxy.model import load_dict
from fastproxy.model.errors import ConfigError
from fastproxy.model.load import load_endpoints
from fastproxy.proxy import discovery
from harness import DnsServer, RawClient, answering, wait_for
from harness.wait import SCALE

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def live(request):
    """live(coroutine): runs it on a new loop of each kind."""
    loop = LOOPS[request.param]()
    complaints = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    yield loop.run_until_complete
    assert not asyncio.all_tasks(loop), "tasks are left"
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert not complaints


@pytest.fixture
def dns():
    made = DnsServer()
    yield made
    made.close()


@pytest.fixture
def named(origin):
    """named(b"a") -> an origin that answers with that."""
    return lambda body: origin(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)))


def config(workers, endpoints, **more):
    return {"workers": workers, "listeners": [{"name": "web", "bind": "127.0.0.1:0", "cluster": "app"}],
            "clusters": [{"name": "app", "endpoints": endpoints}], **more}


def by_name(dns, origin, name="app.test"):
    return {"dns": {"name": name, "port": int(origin.address.rpartition(":")[2]), "resolvers": [dns.address]}}


def write(file, *origins):
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps([one.address for one in origins]))
    fresh.replace(file)


def fetch(proxy):
    def get():
        with RawClient(proxy.addresses["web"]) as client:
            reply = client.get()
            return reply.body if reply.status == 200 else reply.status
    return asyncio.to_thread(get)


async def until(condition, timeout=5.0):
    end = time.monotonic() + timeout * SCALE
    while not await condition():
        assert time.monotonic() < end, condition
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_start_change_apply_close(live, tmp_path, dns, named, workers):
    file, a, b = tmp_path / "app.yaml", named(b"a"), named(b"b")
    write(file, a)
    dns.names["app.test"] = 1, ["127.0.0.1"]

    async def main():
        async with fastproxy.Proxy.from_config(config(workers, {"file": str(file)})) as proxy:
            assert await fetch(proxy) == b"a"                       # the first request finds it
            write(file, b)

            async def b_answers():
                return await fetch(proxy) == b"b"
            await until(b_answers)
            model = proxy.model
            await proxy.apply(config(workers, by_name(dns, a)))
            assert await fetch(proxy) == b"a"                       # so does the first after apply()
            assert proxy.stats()["clusters"]["app"]["discovery"]["results"]["ok"] == 1
            with pytest.raises(OSError):
                await proxy.apply(config(workers, {"file": str(file)}, metrics="127.0.0.1:1" if os.getuid() else f"unix:{tmp_path}"))
            assert list(proxy.discovery.sources) == [("dns", (dns.address,), "app.test")] and await fetch(proxy) == b"a"
            assert proxy.stats()["reloads"] == {"ok": 1, "error": 1}
            await proxy.apply(model)
            assert await fetch(proxy) == b"b" and [key[0] for key in proxy.discovery.sources] == ["file"] and not proxy.discovery.resolvers
            await proxy.apply(config(workers, [a.address]))
            assert await fetch(proxy) == b"a" and not proxy.discovery.sources and "discovery" not in proxy.stats()["clusters"]["app"]
    live(main())


def test_close_while_it_waits_for_the_first(live, dns):
    dns.names["app.test"] = "silent"
    proxy = fastproxy.Proxy.from_config(config(1, {"dns": {"name": "app.test", "port": 1, "resolvers": [dns.address]}}))

    async def main():
        starting = asyncio.ensure_future(proxy.start())
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="is running"):
            await proxy.start()
        await proxy.close()
        with pytest.raises(RuntimeError, match="closed"):
            await starting
        starting = asyncio.ensure_future(proxy.start())
        await asyncio.sleep(0.05)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert proxy.running is None and proxy.discovery is None
        await proxy.start()
        again = asyncio.ensure_future(proxy.apply(config(1, {"dns": {"name": "other.test", "port": 1, "resolvers": [dns.address]}})))
        dns.names["other.test"] = "silent"
        await asyncio.sleep(0.05)
        await proxy.close()
        with pytest.raises(RuntimeError, match="closed"):
            await again
    live(main())


def test_starts_and_stops_leave_nothing(live, tmp_path, dns, named, pytestconfig):
    file, a = tmp_path / "app.yaml", named(b"a")
    write(file, a)
    dns.names["app.test"] = 1, ["127.0.0.1"]
    value = config(1, by_name(dns, a))
    value["clusters"].append({"name": "more", "endpoints": {"file": str(file)}})

    async def main(n):
        for _ in range(n):
            async with fastproxy.Proxy.from_config(value) as proxy:
                assert await fetch(proxy) == b"a"
    live(main(3))
    held = open_fds(), len(os.listdir("/proc/self/task"))
    live(main(200 if pytestconfig.getoption("--soak") else 15))
    # c-ares puts its channels away in a thread of its own.
    wait_for(lambda: open_fds() <= held[0] and len(os.listdir("/proc/self/task")) <= held[1], 10, (held, open_fds(), threading.enumerate()))


def open_fds():
    return len(os.listdir("/proc/self/fd"))


def test_a_thousand_changes_in_a_second(live, monkeypatch):
    """At most 20 applies, the first of them at once, and the last state is not lost."""
    applied = []

    async def main():
        async def update():
            applied.append((time.monotonic(), state[0]))
            await asyncio.sleep(0.002)
        one, state = discovery.Discovery(update), [0]
        start = time.monotonic()
        while state[0] < 1000:
            state[0] += 1
            one.changed.set()
            await asyncio.sleep(max(0, start + state[0] / 1000 - time.monotonic()))
        took = time.monotonic() - start
        await until(lambda: asyncio.sleep(0, applied[-1][1] == 1000))
        assert len(applied) <= 20 * max(1, took) and applied[0][1] <= 100
        await one.close()
    live(main())


def test_an_apply_that_fails_is_tried_again(live, monkeypatch, caplog):
    monkeypatch.setattr(discovery, "RETRY_S", 0.01)
    tries = []

    async def main():
        async def update():
            tries.append(1)
            if len(tries) < 3:
                raise MemoryError
        one = discovery.Discovery(update)
        one.changed.set()
        await until(lambda: asyncio.sleep(0, len(tries) == 3))
        await asyncio.sleep(0.05)
        assert len(tries) == 3
        await one.close()
    live(main())
    assert caplog.text.count("the endpoints that were found are not applied") == 2


def test_a_file_is_read_when_it_stands_still(live, monkeypatch, tmp_path):
    """A list cut at a line is a good one, and short."""
    monkeypatch.setattr(discovery, "LOOK_S", 0.005)
    monkeypatch.setattr(discovery, "read_endpoints", lambda path: reads.append(looks[0]) or [])
    reads, looks = [], ["first"]
    monkeypatch.setattr(discovery.FileSource, "look", lambda self: looks.pop(0) if len(looks) > 1 else looks[0])

    async def main():
        one = discovery.FileSource(str(tmp_path), lambda: None)
        await one.tried.wait()
        for seen, read in ((["a", "b", "b"], ["b"]), (["c", "c"], ["c"]), ([None, "d", "d"], ["d"]), (["e", "f", "g", "g"], ["g"])):
            del reads[:]
            looks[:] = seen
            await until(lambda: asyncio.sleep(0, reads))
            await asyncio.sleep(0.05)
            assert reads == read, seen
        await asyncio.gather(one.close(), return_exceptions=True)
    live(main())


def test_ttl_bounds_and_no_cache(live, monkeypatch, dns):
    """A TTL of a day ends at the bound: nothing on the way remembers the answer for longer; one of 0 is no flood."""
    monkeypatch.setattr(discovery, "LONGEST_S", 0.6)
    monkeypatch.setattr(discovery, "SHORTEST_S", 0.6)
    monkeypatch.setattr(discovery, "JITTER_S", 0.01)
    dns.names |= {"day.test": (86400, ["127.0.0.1"]), "none.test": (86400, []), "zero.test": (0, ["127.0.0.1"])}
    model = load_dict({"listeners": [], "clusters": [{"name": name, "endpoints": {"dns": {"name": f"{name}.test", "port": 1, "resolvers": [dns.address]}}}
                                                     for name in ("day", "none", "zero")]})

    async def main():
        async def update():
            pass
        one = discovery.Discovery(update)
        start = time.monotonic()
        await one.prepare(model)
        assert {end.address for cluster in one.resolved(model).clusters for end in cluster.endpoints} == {"127.0.0.1:1"}
        dns.names["day.test"] = dns.names["none.test"] = 60, ["127.0.0.2", "::1"]
        await until(lambda: asyncio.sleep(0, [end.address for end in one.resolved(model).clusters[1].endpoints] == ["127.0.0.2:1", "[::1]:1"]
                                          and len(one.resolved(model).clusters[0].endpoints) == 2))
        assert dns.count("zero.test", "A") <= 1 + (time.monotonic() - start) / 0.6
        await one.close()
    live(main())


def test_what_has_not_changed_stays_the_same_object(live, tmp_path, named):
    """So that nothing of it is compiled again, over reloads too."""
    file = tmp_path / "app.yaml"
    write(file, named(b"a"))
    value = config(0, {"file": str(file)})

    async def main():
        async with fastproxy.Proxy.from_config(value) as proxy:
            first, built = proxy.running.model.clusters[0], proxy.running.parts.built
            os.unlink(file)
            await proxy.apply(value)
            assert proxy.running.model.clusters[0] is first and proxy.running.parts.built == built
            assert proxy.model.clusters[0].endpoints == [] and len(first.endpoints) == 1
    live(main())


def test_a_file_of_endpoints(tmp_path):
    file = tmp_path / "app.yaml"
    file.write_text('- "127.0.0.1:2"\n- {address: "unix:a.sock", weight: 3, zone: a, labels: {v: 1}}\n')
    first, second = load_endpoints(file)
    assert (first.address, first.weight, second.address, second.weight, second.labels) == ("127.0.0.1:2", 1, f"unix:{tmp_path}/a.sock", 3, {"v": "1"})
    assert discovery.read_endpoints(file) == [first, second]
    file.write_text('- "127.0.0.1:2"\n- {address: "127.0.0.1:3", weight: 0}\n- {adress: a}\n- "127.0.0.1:2"')
    with pytest.raises(ConfigError) as refused:
        load_endpoints(file)
    assert [str(one).replace(str(file), "F").partition(";")[0] for one in refused.value.errors] == [
        "F:2:36: [1].weight: expected a number from 1 to 65535, found 0", "F:3:3: [2]: `address` is missing",
        "F:3:4: [2].adress: unknown key `adress`", "F:4:3: [3]: the endpoint 127.0.0.1:2 is repeated"]


def test_a_snapshot_of_what_is_found():
    """Where endpoints are apart from their cluster; and a chain of fallbacks that a later delta closes."""
    import msgpack
    from fastproxy.model.resources import Resources
    from fastproxy.wire.messages import Packed

    def packed(**kinds):
        return {kind: {name: Packed(msgpack.packb(one)) for name, one in named.items()} for kind, named in kinds.items()}

    where = {"dns": {"name": "a.test.", "port": 80}}
    one, faults = Resources().replaced(packed(cluster={"a": {"fallback": "b"}, "b": {"endpoints": {"file": "/b.yaml"}}}, endpoints={"a": {"endpoints": where}}))
    a, b = one.clusters["a"], one.clusters["b"]
    assert not faults and (a.endpoints, a.discovery.name, a.discovery.resolvers, a.fallback, b.discovery.path) == ([], "a.test.", None, "b", "/b.yaml")
    two, faults = one.changed(packed(endpoints={"a": {"endpoints": ["127.0.0.1:1"]}}), {})
    assert not faults and two.clusters["a"].discovery is None and two.clusters["a"].endpoints and two.clusters["b"] is b
    three, faults = two.changed(packed(cluster={"b": {"endpoints": [], "fallback": "a"}}), {})
    assert three is None and [(path, message) for path, _, _, message in faults] == [
        (("resources", "cluster", "a", "fallback"), "the fallbacks go round: a, b, a"), (("resources", "cluster", "b", "fallback"), "the fallbacks go round: b, a, b")]
    four, faults = two.changed({}, {"cluster": ["b"]})
    assert four is None and "there is no cluster `b`" in faults[0][3]
