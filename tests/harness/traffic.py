"""Clients of every kind, and an origin, at work while something happens to the proxies between them; each failure is noted.

All run in one event loop in a thread of its own. A client moves on to another connection only where HTTP lets it: after an answer
with `Connection: close`, or when an idle one is closed. Whatever else ends under it is a fault."""

import asyncio
import itertools
import threading
import time

import uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class End(asyncio.Protocol):
    """The origin's: answers requests, switches to an echo when asked to, and echoes what is no HTTP."""

    def __init__(self, traffic):
        self.traffic, self.held, self.echoes = traffic, b"", False

    def connection_made(self, link):
        self.link = link

    def data_received(self, data):
        if self.echoes or data.startswith(b"echo"):
            self.echoes = True
            return self.link.write(data)
        self.held += data
        *whole, self.held = self.held.split(b"\r\n\r\n")
        for head in whole:
            if b"pgrade: websocket" in head:
                self.echoes = True
                self.link.write(SWITCH)
            else:
                self.traffic.at_origin += 1
                self.link.write(OK)


class Link(asyncio.Protocol):
    """A client's connection: `ask` sends and waits for an answer of known end."""

    def __init__(self):
        self.held, self.want, self.waiting, self.over = b"", b"", None, None

    def connection_made(self, link):
        self.link = link

    def data_received(self, data):
        self.held += data
        if self.waiting and not self.waiting.done() and self.held.endswith(self.want):
            self.waiting.set_result(self.held)
            self.held = b""

    def connection_lost(self, error):
        self.over = f"reset ({error})" if error else "closed"
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(ConnectionError(f"{self.over} without an answer; came: {self.held[:80]!r}"))

    def ask(self, data, want):
        self.want, self.waiting = want, asyncio.get_running_loop().create_future()
        self.link.write(data)
        return self.waiting


class Traffic:
    """`with Traffic() as traffic:` has the origin; `traffic.run(...)` starts clients, `stop()` ends them and raises what went wrong."""

    def __init__(self):
        self.at_origin, self.counts, self.faults, self.refused = 0, {}, [], 0
        self.loop, self.tasks, self.stopping = uvloop.new_event_loop(), [], False
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self):
        self.thread.start()
        self.origin = self.call(self.loop.create_server(lambda: End(self), "127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.origin.sockets[0].getsockname()[1]
        return self

    def call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def __exit__(self, *_):
        self.stopping = True
        self.call(self.end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def end(self):
        self.origin.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def run(self, kind, addresses, n=1, pause=0.0):
        """n clients of a kind: `keep` and `post` (keep-alive), `new` (a connection for each), `ws`, `tcp` (one
        session), `ws_short`, `tcp_short` (many); with a pause between requests."""
        async def start():
            for i in range(n):
                turn = itertools.cycle(addresses[i % len(addresses):] + addresses[:i % len(addresses)])
                self.tasks.append(asyncio.ensure_future(self.client(kind, turn, len(addresses), pause)))
        self.call(start())

    async def client(self, kind, turn, n, pause):
        try:
            await getattr(self, kind)(turn, n, pause)
        except Exception as error:
            self.faults.append(f"{kind}: {type(error).__name__}: {error}")

    async def dial(self, turn, n):
        """The next address that accepts. With only one, a refusal is a fault."""
        for _ in range(n):
            address = next(turn)
            try:
                if address.startswith("unix:"):
                    return (await self.loop.create_unix_connection(Link, address[5:]))[1]
                name, port = address.rsplit(":", 1)
                return (await self.loop.create_connection(Link, name, int(port)))[1]
            except ConnectionRefusedError:
                self.refused += 1
        raise ConnectionRefusedError("by all")

    def count(self, kind):
        self.counts[kind] = self.counts.get(kind, 0) + 1

    async def keep(self, turn, n, pause, head=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", kind="keep"):
        link = None
        while not self.stopping:
            if not link or link.over:
                link = await self.dial(turn, n)
            answer = await link.ask(head, b"\r\n\r\nok\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            self.count(kind)
            if b"onnection: close" in answer:
                self.count("told to close")
                link.link.close()
                link = None
            await asyncio.sleep(pause)
        if link:
            link.link.close()

    async def post(self, turn, n, pause):
        await self.keep(turn, n, pause, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "post")

    async def new(self, turn, n, pause):
        while not self.stopping:
            link = await self.dial(turn, n)
            answer = await link.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\nok\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            self.count("new")
            link.link.close()
            await asyncio.sleep(pause)

    async def ws(self, turn, n, pause):
        link = await self.dial(turn, n)
        assert (await link.ask(UPGRADE, b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await self.echo(link, "ws", pause)

    async def ws_short(self, turn, n, pause):
        while not self.stopping:
            link = await self.dial(turn, n)
            assert (await link.ask(UPGRADE, b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            await self.echo(link, "ws", pause, 10)

    async def tcp_short(self, turn, n, pause):
        while not self.stopping:
            await self.echo(await self.dial(turn, n), "tcp", pause, 10)

    async def tcp(self, turn, n, pause):
        await self.echo(await self.dial(turn, n), "tcp", pause)

    async def echo(self, link, kind, pause, n=1 << 30):
        for i in range(n):
            if self.stopping:
                break
            word = b"echo %d;" % i
            assert await link.ask(word, b";") == word
            self.count(kind)
            await asyncio.sleep(pause)
        link.link.close()

    def stop(self):
        """Ends the clients, each after its last answer; AssertionError with whatever went wrong. -> requests per second"""
        self.stopping = True
        tasks, self.tasks = self.tasks, []
        self.call(asyncio.wait_for(asyncio.gather(*tasks), 20))
        self.tasks = []
        self.stopping = False
        assert not self.faults, (len(self.faults), self.faults[:5])

    def running(self, seconds):
        """Lets them run; they must all be at it afterwards."""
        time.sleep(seconds)
        assert not self.faults, (len(self.faults), self.faults[:5])

    @property
    def answered(self):
        """Requests that the origin must have seen."""
        return sum(self.counts.get(kind, 0) for kind in ("keep", "post", "new"))
