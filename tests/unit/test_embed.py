"""`Proxy` in a program: on asyncio and uvloop, with every kind of workers, several at once, and nothing left of it afterwards."""

import asyncio
import ctypes
import gc
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
import uvloop

import fastproxy
from fastproxy import ConfigError
from fastproxy.proxy.listen import ListenError
from harness import Origin, RawClient, serve, wait_for
from harness.client import request
from harness.origin import OK
from harness.wait import SCALE

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
WORKERS = (0, 1, 2)
SANITIZED = "LD_PRELOAD" in os.environ
KINDS = [(loop, workers) for loop in LOOPS for workers in WORKERS]


def config(workers=1, version="0", app=None, **more):
    """One listener: /version answers by itself, the rest goes to `app`."""
    routes = [{"match": {"path": "/version"}, "direct_response": {"status": 200, "body": version}}]
    clusters = []
    if app:
        routes.append({"name": "app", "cluster": "app"})
        clusters.append({"name": "app", "endpoints": [app]})
    return {"workers": workers, "listeners": [{"name": "web", "bind": "127.0.0.1:0", "protocol": "http", "routes": routes}],
            "clusters": clusters, **more}


@pytest.fixture(params=LOOPS)
def live(request):
    """live(coroutine): runs it on a new loop of each kind."""
    loop = LOOPS[request.param]()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def app(origin):
    return origin()


def fetch(proxy, target="/version", listener="web"):
    """(status, body), by a connection of its own; in a thread, since the proxy may need the loop."""
    def get():
        with RawClient(proxy.addresses[listener]) as client:
            reply = client.get(target)
            return reply.status, reply.body
    return asyncio.to_thread(get)


def counted(proxy, n, **labels):
    """Waits for n requests in the rows of these labels: a worker counts a moment after the client has its answer."""
    def found():
        rows = [row for row in proxy.stats()["routes"] if all(row[key] == value for key, value in labels.items())]
        return sum(row["requests"] for row in rows) == sum(row["status"]["2xx"] for row in rows) == n
    return asyncio.to_thread(wait_for, found, 5, f"{n} requests counted")


async def fetch_applied(proxy, workers):
    """After apply(): workers that are threads take the new plan in a moment of their own."""
    if workers:
        await asyncio.sleep(0.02 * SCALE)
    return await fetch(proxy)


@pytest.mark.parametrize("workers", WORKERS)
def test_requests_pass(live, app, workers):
    async def main():
        async with fastproxy.Proxy.from_config(config(workers, "7", app.address)) as proxy:
            assert await fetch(proxy) == (200, b"7")
            assert await fetch(proxy, "/x") == (200, b"ok\n")
            await counted(proxy, 1, route="app")
            assert len([name for name in threads() if name.startswith("worker-")]) == workers
        assert not [name for name in threads() if name.startswith("worker-")] and proxy.addresses == {}
    live(main())
    assert len(app.requests) == 1


def threads():
    """Their names."""
    out = []
    for task in os.listdir("/proc/self/task"):
        try:
            out.append(pathlib.Path(f"/proc/self/task/{task}/comm").read_text().strip())
        except OSError:
            pass  # ended between the two looks
    return out


def test_from_file(live, tmp_path):
    file = tmp_path / "proxy.yaml"
    file.write_text('listeners: [{name: web, bind: "127.0.0.1:0", protocol: http, routes: [{direct_response: {status: 200, body: a}}]}]')

    async def main():
        async with fastproxy.Proxy.from_file(file) as proxy:
            assert await fetch(proxy) == (200, b"a")
    live(main())
    file.write_text("listners: []\nworkers: many")
    with pytest.raises(ConfigError) as refused:
        fastproxy.Proxy.from_file(file)
    assert len(refused.value.errors) >= 2
    with pytest.raises(OSError):
        fastproxy.Proxy.from_file(tmp_path / "none.yaml")


def test_no_signal_handler_is_touched(live):
    numbers = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]

    async def main():
        before = [signal.getsignal(number) for number in numbers]
        async with fastproxy.Proxy.from_config(config()):
            assert [signal.getsignal(number) for number in numbers] == before
    live(main())


@pytest.mark.parametrize("workers", WORKERS)
def test_two_in_one_process(live, app, workers):
    """One in front of the other, and each goes its own way."""
    async def main():
        async with fastproxy.Proxy.from_config(config(workers, "inner", app.address)) as inner:
            async with fastproxy.Proxy.from_config(config(workers, "outer", inner.addresses["web"])) as outer:
                assert await fetch(inner) == (200, b"inner") and await fetch(outer) == (200, b"outer")
                assert await fetch(outer, "/x") == (200, b"ok\n")
                await inner.apply(config(workers, "inner 2", app.address))
                assert await fetch(inner) == (200, b"inner 2") and await fetch(outer) == (200, b"outer")
                assert await fetch(outer, "/x") == (200, b"ok\n")
                await counted(outer, 4)
            assert await fetch(inner) == (200, b"inner 2")
            taken = config(workers)
            taken["listeners"][0]["bind"] = inner.addresses["web"]
            with pytest.raises(ListenError, match="listener web: cannot listen on 127.0.0.1:"):
                await fastproxy.Proxy.from_config(taken).start()
            assert await fetch(inner) == (200, b"inner 2")
    live(main())


class Load:
    """Clients in threads until `stop`: some keep their connection, one makes a new one for each request."""

    def __init__(self, address, keep=3):
        self.address, self.ending, self.count, self.faults, self.lock = address, threading.Event(), 0, [], threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(kept,)) for kept in [True] * keep + [False]]
        for thread in self.threads:
            thread.start()

    def run(self, kept):
        client = None
        try:
            while not self.ending.is_set():
                client = client if client and kept else self.renew(client)
                reply = client.get("/x", *([] if kept else ["Connection: close"]))
                assert (reply.status, reply.body) == (200, b"ok\n"), reply
                with self.lock:
                    self.count += 1
        except Exception as fault:
            self.faults.append(fault)
        finally:
            if client:
                client.sock.close()

    def renew(self, client):
        if client:
            client.sock.close()
        return RawClient(self.address)

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("workers", WORKERS)
def test_apply_under_load_fails_nothing(live, app, origin, workers):
    """Routes, clusters, endpoints and listeners come and go; no request, connection or count is lost."""
    other = origin()

    async def main():
        def model(i):
            out = config(workers, str(i), (app, other)[i % 2].address)
            if i % 3 == 0:
                out["listeners"].append({"name": "more", "bind": "127.0.0.1:0", "protocol": "tcp", "cluster": "app"})
            return out
        async with fastproxy.Proxy.from_config(model(0)) as proxy:
            load = Load(proxy.addresses["web"])
            try:
                for i in range(1, 25):
                    await proxy.apply(model(i))
                    assert await fetch_applied(proxy, workers) == (200, str(i).encode())
                    assert ("more" in proxy.addresses) == (i % 3 == 0)
                    if "more" in proxy.addresses:
                        assert await fetch(proxy, "/tcp", "more") == (200, b"ok\n")
                before = load.count
                await asyncio.to_thread(wait_for, lambda: load.count > before + 20 or load.faults)
            finally:
                await asyncio.to_thread(load.stop)
            assert not load.faults
            await counted(proxy, load.count, route="app")
            stats = proxy.stats()
            assert stats["listeners"]["web"]["accepted"] - stats["listeners"]["web"]["closed"] in (0, 1, 2, 3)  # the last ends may be on their way
            assert stats["reloads"] == {"ok": 24, "error": 0} and stats["errors"].get("no_route", 0) == 0
            return load.count
    count = live(main())
    assert app.requests and other.requests and len(app.requests) + len(other.requests) == count + 8


def test_concurrent_applies_take_turns(live, tmp_path):
    async def main():
        async with fastproxy.Proxy.from_config(config()) as proxy:
            await asyncio.gather(*(proxy.apply(config(version=str(i), admin=f"unix:{tmp_path}/a{i % 2}.sock")) for i in range(1, 7)))
            assert await fetch(proxy) == (200, b"6") and proxy.stats()["reloads"] == {"ok": 6, "error": 0}
    live(main())
    assert os.listdir(tmp_path) == []


def test_a_bad_configuration_changes_nothing(live, app, tmp_path):
    with_taken = config(1, "taken", app.address, admin=f"unix:{tmp_path}/a.sock")
    with_taken["listeners"] += [{"name": "one", "bind": "127.0.0.1:0", "protocol": "tcp", "cluster": "app"},
                                {"name": "two", "bind": app.address, "protocol": "tcp", "cluster": "app"}]
    with_filter = config(1, "filter", app.address, metrics="127.0.0.1:0")
    with_filter["listeners"][0]["filters"] = ["nobody-has-it"]
    no_cluster = config(1, "cluster", app.address)
    no_cluster["clusters"][0]["name"] = "ap"
    no_cluster["listner"] = []

    async def main():
        async with fastproxy.Proxy.from_config(config(1, "good", app.address)) as proxy:
            addresses, fds = proxy.addresses, None
            with RawClient(addresses["web"]) as kept:
                for _ in range(4):
                    assert kept.get("/x").status == 200  # on the same connection
                    with pytest.raises(ConfigError) as refused:
                        await proxy.apply(no_cluster)
                    assert len(refused.value.errors) >= 2
                    with pytest.raises(ListenError, match="listener two: cannot listen on"):
                        await proxy.apply(with_taken)
                    with pytest.raises(ValueError, match="nobody-has-it"):
                        await proxy.apply(with_filter)
                    fds = fds or open_fds()  # the first of all may make what the loop keeps
                assert kept.get("/x").status == 200
                await asyncio.to_thread(wait_for, lambda: len(open_fds()) <= len(fds))
            assert proxy.addresses == addresses and await fetch(proxy) == (200, b"good")
            assert proxy.stats()["reloads"] == {"ok": 0, "error": 12} and not proxy.services and os.listdir(tmp_path) == []
            await proxy.apply(config(1, "better", app.address))
            assert await fetch(proxy) == (200, b"better") and proxy.addresses == addresses
    live(main())


def open_fds():
    return os.listdir("/proc/self/fd")


@pytest.mark.parametrize("workers", WORKERS)
def test_leaving_the_block_drains(live, origin, workers):
    go = threading.Event()
    app = origin(serve(lambda message, conn: OK if go.wait(10) else False))

    async def main():
        async with fastproxy.Proxy.from_config(config(workers, app=app.address)) as proxy:
            client = RawClient(proxy.addresses["web"])
            client.send(request(target="/slow"))
            await asyncio.to_thread(app.wait_requests, 1)
            asyncio.get_running_loop().call_later(0.1, go.set)
            reply = asyncio.ensure_future(asyncio.to_thread(client.response))
        assert (await reply).body == b"ok\n" and await asyncio.to_thread(client.closed)
        client.sock.close()
        assert not any(proxy.running or proxy.services for proxy in [proxy])
    live(main())


def test_leaving_it_with_an_error_does_not_wait(live, origin):
    app = origin(lambda conn: (conn.head(), conn.drain()))

    async def main():
        async with fastproxy.Proxy.from_config(config(1, app=app.address, drain_timeout="1h")) as proxy:
            client = RawClient(proxy.addresses["web"])
            client.send(request(target="/slow"))
            await asyncio.to_thread(app.wait_requests, 1)
            raise KeyError("mine")
    with pytest.raises(KeyError, match="mine"):
        live(asyncio.wait_for(main(), 10 * SCALE))


def test_a_cancelled_drain_closes(live, origin):
    app = origin(lambda conn: (conn.head(), conn.drain()))
    proxy = fastproxy.Proxy.from_config(config(1, app=app.address, drain_timeout="1h"))

    async def main():
        async with proxy:
            client = RawClient(proxy.addresses["web"])
            client.send(request(target="/slow"))
            await asyncio.to_thread(app.wait_requests, 1)
    with pytest.raises(asyncio.TimeoutError):
        live(asyncio.wait_for(main(), 1 * SCALE))
    assert proxy.running is None


def test_order_of_calls(live):
    async def main():
        proxy = fastproxy.Proxy.from_config(config(version="1"))
        assert proxy.addresses == {}
        for use in (proxy.stats, proxy.begin_drain):
            with pytest.raises(RuntimeError, match="not running"):
                use()
        await proxy.close()
        await proxy.start()
        with pytest.raises(RuntimeError, match="is running"):
            await proxy.start()
        assert await fetch(proxy) == (200, b"1")
        await proxy.close()
        await proxy.close()
        with pytest.raises(RuntimeError, match="not running"):
            await proxy.apply(config())
        async with proxy:  # once more
            assert await fetch(proxy) == (200, b"1")
            await proxy.close()
    live(main())


def in_child(act):
    """What act() returns, a text, in a fork."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, act().encode())
        except BaseException as fault:
            os.write(writer, repr(fault).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as out:
        text = out.read()
    assert os.waitpid(child, 0)[1] == 0, text
    return text


@pytest.mark.parametrize("workers", WORKERS)
def test_a_forks_child_must_not_use_it(live, tmp_path, workers):
    def attempts():
        uses = {"stats": proxy.stats, "begin_drain": proxy.begin_drain, "apply": lambda: proxy.apply(config()).send(None),
                "drain": lambda: proxy.drain().send(None), "core": proxy.running.core.drain}
        out = []
        for name, use in uses.items():
            try:
                use()
            except RuntimeError:
                out.append(name)
        try:
            proxy.close().send(None)
        except StopIteration:
            out.append("close")
        gc.collect()
        return " ".join(out)

    async def main():
        async with proxy:
            kept = RawClient(proxy.addresses["web"])
            assert (await asyncio.to_thread(kept.get, "/version")).body == b"0"
            assert in_child(attempts) == "stats begin_drain apply drain core close"
            # What the child did and its end left ours as it was.
            assert (await asyncio.to_thread(kept.get, "/version")).body == b"0" and await fetch(proxy) == (200, b"0")
            kept.sock.close()
            await proxy.apply(config(workers, "1", admin=f"unix:{tmp_path}/a.sock"))
            assert await fetch(proxy) == (200, b"1") and (tmp_path / "a.sock").exists()
    proxy = fastproxy.Proxy.from_config(config(workers, admin=f"unix:{tmp_path}/a.sock"))
    live(main())


ENDS = """
import asyncio, os, sys
from fastproxy import Proxy
async def main():
    proxy = Proxy.from_config({config})
    await proxy.start()
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        reader, writer = await asyncio.open_connection(*proxy.addresses["web"].split(":"))
        writer.write(b"GET /version HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
        assert b"200 OK" in await reader.read()
        print("served", flush=True)
    sys.exit(0)
asyncio.run(main())
"""


@pytest.mark.parametrize("workers", [0] if SANITIZED else WORKERS)  # libasan's allocator may stay locked in a fork of threads
def test_the_interpreter_may_end_without_close(workers):
    """So may a fork's child, with all that runs at its exit."""
    out = subprocess.run([sys.executable, "-c", ENDS.format(config=config(workers))], capture_output=True, text=True, timeout=30 * SCALE)
    assert (out.returncode, out.stdout, out.stderr) == (0, "served\n", "")


class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


def allocated_bytes():
    """By malloc, now; None where neither a sanitizer nor glibc 2.33 tells."""
    libc = ctypes.CDLL(None)
    try:
        libc.__sanitizer_get_current_allocated_bytes.restype = ctypes.c_size_t
        return libc.__sanitizer_get_current_allocated_bytes()
    except AttributeError:
        pass
    try:
        libc.mallinfo2.restype = Heap
    except AttributeError:
        return None
    heap = libc.mallinfo2()
    return heap.uordblks + heap.hblkhd


def held():
    gc.collect()
    rss = int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"fds": len(open_fds()), "threads": len(threads()), "blocks": sys.getallocatedblocks(), "bytes": allocated_bytes(), "rss": rss}


def cycles(kind, workers, n):
    """Starts and stops, each with requests and a reload: what is held after a warm-up, and after n more."""
    async def once(i):
        async with fastproxy.Proxy.from_config(config(workers, "a", app.address)) as proxy:
            assert await fetch(proxy) == (200, b"a")
            if i % 10 == 0:
                assert await fetch(proxy, "/x") == (200, b"ok\n")
            await proxy.apply(config(workers, "b", app.address))
            assert await fetch(proxy) == (200, b"b")

    async def main():
        for i in range(max(50, n // 5)):
            await once(i)
        before = held()
        for i in range(n):
            await once(i)
        return before, held()

    def echo(conn):  # keeps no record, unlike other scripts
        conn.reader.until(b"\r\n\r\n")
        conn.send(OK)
    app = Origin(echo, keep=False)
    loop = LOOPS[kind]()
    try:
        return loop.run_until_complete(main())
    finally:
        app.close()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.mark.parametrize("kind, workers", [("asyncio", 0), ("uvloop", 1), ("asyncio", 2)])
@pytest.mark.timeout(120 * SCALE)
def test_a_thousand_starts_and_stops_leave_nothing(pytestconfig, kind, workers):
    n = 1000 if not SANITIZED or pytestconfig.getoption("--soak") else 100
    before, after = cycles(kind, workers, n)
    grown = {name: after[name] - before[name] for name in before if before[name] is not None}
    assert grown["fds"] <= 0 and grown["threads"] <= 2, grown  # the loop's own pool of threads may grow
    assert grown["blocks"] < n, grown                          # less than one object of Python for each
    assert grown.get("bytes", 0) < 64 * n + 32768, grown       # and less than the smallest record of the core
    assert SANITIZED or grown["rss"] < 4 << 20, grown


@pytest.mark.skipif(SANITIZED, reason="the example starts curl, which hangs under a preloaded libasan")
def test_the_example():
    file = ROOT / "examples/embed.py"
    assert len(file.read_text().splitlines()) < 20
    out = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=30 * SCALE)
    assert (out.returncode, out.stdout) == (0, "hello\ncurl ended with 0 after 1 request\n"), out.stderr
