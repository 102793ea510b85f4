"""Hot restart: a running process starts the next one, gives it its listening sockets and its counters, and drains.

The two talk over a Unix socket pair, whose one end the new process inherits. A message is a 4-byte length and a msgpack map.

  old -> new   offer {protocol, restarts, stays, sockets, snapshot}   the descriptors come with its first bytes
  new -> old   serving {taken}, the numbers of the sockets it uses; or failed {why}, or its end: then the old one goes on
  old -> new   counts {...}, as metrics.collect has them; again while it drains, the last time when it has drained

Until `serving` both accept from the same sockets; afterwards the new one alone. No socket is closed by both with a connection in
its queue. Where the old process stays (main.py: as PID 1, for its command), a second pair, `line`, joins it to each process that it
has started: the next restart is asked for there, and its parent is always the process that stays.
"""

import asyncio
import logging
import os
import signal
import socket
import sys

from msgspec import DecodeError, Struct, ValidationError, msgpack

from fastproxy.proxy import metrics
from fastproxy.proxy.main import forward

log = logging.getLogger("fastproxy.process")
VARIABLE = "FASTPROXY_HANDOVER"
PROTOCOL = 1
START_S = 10.0                  # for the new process to serve
COUNTS_S = 1.0                  # between two reports of one that drains
FDS = 250                       # descriptors at once; the kernel takes 253
SIGNALS_OF_OURS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)  # Python, or we, ignore or handle them; a child must not


class Failed(Exception):
    """Why there was no hot restart: this process goes on."""


class Offer(Struct, eq=False):
    """One listening address that is handed over, with all its sockets."""

    kind: str                   # listener | service
    name: str
    bind: str
    address: str
    identity: tuple             # of a Unix socket's file, else ()
    n: int
    fds: list = []

    def fits(self, name, bind):
        return bind == self.address or (bind == self.bind and (name == self.name or not bind.endswith(":0")))


class Hello(Struct):
    protocol: int
    restarts: int               # how many there were, with this one
    stays: bool                 # the old process does not end before the new one
    sockets: list[Offer]
    snapshot: tuple = ()        # (version or None, packed resources) of who follows a source


class Answer(Struct):
    taken: list[int] = []
    why: str = ""               # not empty: it failed


def framed(message):
    body = msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


def packed(counts):
    return {**counts, "series": list(counts["series"].items())}


def unpacked(counts):
    return {**counts, "series": {tuple(labels): record for labels, record in counts["series"]}}


async def receive(sock, type):
    """Raises EOFError, OSError or what msgspec does."""
    loop = asyncio.get_running_loop()

    async def exactly(n):
        data = bytearray()
        while len(data) < n:
            more = await loop.sock_recv(sock, min(n - len(data), 1 << 20))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    return msgpack.decode(await exactly(int.from_bytes(await exactly(4), "big")), type=type)


def receive_fds(sock, n, most):
    """-> (bytes, descriptors)"""
    data, fds, _, _ = socket.recv_fds(sock, n, most)
    for fd in fds:
        os.set_inheritable(fd, False)   # recv_fds drops MSG_CMSG_CLOEXEC
    return data, fds


# ---- the new process -------------------------------------------------------------------------------------------------------

class Inherited:
    """What the process before this one hands over. Its sockets stay with it, too, until `take_over`."""

    def __init__(self, sock, line, hello):
        self.sock, self.line, self.hello = sock, line, hello
        self.listeners = [one for one in hello.sockets if one.kind == "listener"]
        self.services = [one for one in hello.sockets if one.kind == "service"]
        self.done = asyncio.Event()     # nothing more comes from there

    @classmethod
    def receive(cls):
        """None if there is nothing. Raises OSError or ValueError: then this process must not start."""
        given = os.environ.pop(VARIABLE)
        try:
            sock, line = (*(socket.socket(fileno=int(text)) for text in given.split(",")), None)[:2]
            for one in filter(None, (sock, line)):
                one.set_inheritable(False)
        except (OSError, ValueError):
            raise ValueError(f"{VARIABLE}={given}: no socket of a process before this one") from None
        sock.settimeout(START_S)
        data, got = bytearray(), []
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            more, fds = receive_fds(sock, 1 << 20, FDS)
            if not more:
                raise ValueError("the process before this one has ended")
            data += more
            got += fds
        hello = msgpack.decode(bytes(data[4:]), type=Hello)     # its errors are ValueErrors
        if hello.protocol != PROTOCOL:
            raise ValueError(f"the process before this one hands over by protocol {hello.protocol}, and this is {PROTOCOL}")
        for one in hello.sockets:
            one.fds, got = got[:one.n], got[one.n:]
            if len(one.fds) != one.n:
                raise ValueError("descriptors are missing (is the limit of open files too low?)")
        return cls(sock, line, hello)

    def fail(self, why):
        """The last that the old process hears."""
        try:
            self.sock.sendall(framed(Answer(why=why)))
        except OSError:
            pass

    async def take_over(self, proxy, services):
        """We serve: the old process stops. Afterwards `proxy.before` has its counters."""
        places = [*proxy.running.opened.values(), *services]
        taken = [self.hello.sockets.index(place.offer) for place in places if place.offer]
        for one in self.hello.sockets:
            for fd in one.fds:
                os.close(fd)            # what we use are copies; the rest is still the old process's
        proxy.restarts = self.hello.restarts
        self.sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_sendall(self.sock, framed(Answer(taken))), START_S)
            proxy.before = unpacked(await asyncio.wait_for(receive(self.sock, dict), START_S))
        except (EOFError, OSError, DecodeError, asyncio.TimeoutError) as error:
            log.warning("the process before this one has not said what it has counted: %s", str(error) or "it has ended")
        proxy.running.own()
        self.following = asyncio.ensure_future(self.follow(proxy))

    async def follow(self, proxy):
        """What it counts while it drains."""
        try:
            while True:
                proxy.before = unpacked(await receive(self.sock, dict))
        except (EOFError, OSError, DecodeError):
            pass
        finally:
            self.done.set()
            self.sock.close()


# ---- the old process -------------------------------------------------------------------------------------------------------

class Heir:
    """The process that is started to go on in our place; our child."""

    def __init__(self, pid, ended, line):
        self.pid, self.ended, self.line = pid, ended, line
        self.verdict = None             # a future, while it hands over to the next one

    @classmethod
    def start(cls, process, stays):
        """-> (Heir, our end of the pair). Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        line, given = socket.socketpair() if stays else (None, None)
        ends = [theirs, given] if stays else [theirs]
        try:
            for one in ends:
                os.set_inheritable(one.fileno(), True)
            env = {**os.environ, VARIABLE: ",".join(str(one.fileno()) for one in ends)}
            argv = [sys.executable or sys.orig_argv[0], *sys.orig_argv[1:]]
            pid = os.posix_spawnp(argv[0], argv, env, setsigmask=process.mask, setsigdef=SIGNALS_OF_OURS)
        except OSError:
            ours.close()
            if line:
                line.close()
            raise
        finally:
            for one in ends:
                one.close()
        heir = cls(pid, process.watch_child(pid), line)
        if line:
            line.setblocking(False)
            asyncio.get_running_loop().add_reader(line, heir.on_line, process)
        return heir, ours

    def signal(self, number):
        if not self.ended.done():
            os.kill(self.pid, number)

    async def kill(self):
        self.signal(signal.SIGKILL)
        self.hang_up()
        await self.ended

    def hang_up(self):
        if self.line:
            asyncio.get_running_loop().remove_reader(self.line)
            self.line.close()
            self.line = None

    def on_line(self, process):
        """b"w": it was asked for a restart, which is ours to begin. b"y", b"n": what became of one."""
        try:
            said = self.line.recv(1)
        except OSError:
            said = b""
        if said == b"w":
            process.on_restart()
        elif self.verdict and not self.verdict.done():
            self.verdict.set_result(said == b"y")
        if not said:
            self.hang_up()

    async def ask_to_hand_over(self, sock):
        """To the process at the other end of `sock`."""
        with sock:
            if not self.line:
                raise Failed("the process that serves cannot be asked")
            self.verdict = asyncio.get_running_loop().create_future()
            socket.send_fds(self.line, [b"h"], [sock.fileno()])
        if not await self.verdict:
            raise Failed("the process that serves has said why")


def offers(proxy):
    """-> ([Offer], [place]): the same in both, which stands open."""
    places = [("listener", place.name, place) for place in proxy.running.opened.values()]
    places += [("service", kind, service) for kind, (_, service) in proxy.services.items()]
    out = []
    for kind, name, place in places:
        fds = place.fds if kind == "listener" else [place.sock.fileno()]
        out.append(Offer(kind, name, place.bind, place.address, place.identity or (), len(fds), list(fds)))
    return out, [place for _, _, place in places]


async def restart(process):
    """Starts the next process. It goes on in our place, or in that of our heir; or all stays as it is, and the log says why."""
    log.info("hot restart: starting %s", " ".join(sys.orig_argv))
    heir = None
    try:
        heir, sock = Heir.start(process, process.stays)
        if process.heir:
            await process.heir.ask_to_hand_over(sock)
        else:
            async with process.changing:
                await hand_over(process, sock)
    except (Failed, OSError) as error:
        why = str(error)
        if heir:
            await asyncio.wait({heir.ended}, timeout=0.2)
            why += f": exit code {heir.ended.result()}" if heir.ended.done() else ""
            await heir.kill()
        log.error("no hot restart, all stays as it was: %s", why)
    except BaseException as error:
        if heir:
            await heir.kill()
        if not isinstance(error, Exception):
            raise
        log.exception("internal error; no hot restart")   # a task's top: the old process must go on, whatever it was
    else:
        before, process.heir = process.heir, heir
        if before:
            before.hang_up()
        log.info("hot restart: process %d serves", heir.pid)
        process.handed_over()


def on_parent(process):
    """What the process that stays says to us, which it has started: hand over to another one that it has started."""
    try:
        said, fds = receive_fds(process.line, 1, 1)
    except OSError:
        said, fds = b"", []
    if not said:        # it has ended; then the next restart is ours to begin
        asyncio.get_running_loop().remove_reader(process.line)
        process.line = None
    for fd in fds:
        process.restarting = asyncio.ensure_future(hand_on(process, socket.socket(fileno=fd)))


async def hand_on(process, sock):
    sock.setblocking(False)
    try:
        if not process.ready or process.end.is_set():
            raise Failed("it is draining")
        async with process.changing:
            await hand_over(process, sock)
    except Failed as error:
        sock.close()
        log.error("no hot restart, all stays as it was: %s", error)
        process.line.send(b"n")
    else:
        process.line.send(b"y")
        process.handed_over()


async def outlive(process):
    """The old process stays as the parent of the one that serves, and of the command. -> its exit code."""
    command, told = process.command, False
    while True:
        heir = process.heir
        await asyncio.wait({heir.ended} | ({command.ended} if command and not told else set()), return_when=asyncio.FIRST_COMPLETED)
        if command and command.ended.done() and not told:
            told = True
            forward(signal.SIGTERM) if os.getpid() == 1 else heir.signal(signal.SIGTERM)
        if heir.ended.done():
            if process.restarting and not process.restarting.done():
                await process.restarting            # it may just have handed over
            if process.heir is heir:
                break
    if command and not command.ended.done():
        log.error("process %d has ended with exit code %d: so has the command to", heir.pid, heir.ended.result())
        process.end_command(signal.SIGTERM)
        await command.ended
    await process.wait_for_children()
    return command.code if command else heir.ended.result()


async def hand_over(process, sock):
    """To the process at the other end of the pair, up to the moment from which on it serves. Raises Failed."""
    proxy, loop = process.proxy, asyncio.get_running_loop()
    found, places = offers(proxy)
    fds = [fd for one in found for fd in one.fds]
    for one in found:
        one.fds = []
    hello = framed(Hello(PROTOCOL, proxy.restarts + 1, process.stays, found, process.snapshot()))

    async def give():
        n = 0
        for at in range(0, len(fds), FDS):
            while True:
                try:
                    socket.send_fds(sock, [hello[n:n + 1]], fds[at:at + FDS])
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.01)
            n += 1
        await loop.sock_sendall(sock, hello[n:])
        return await receive(sock, Answer)

    try:
        answer = await asyncio.wait_for(give(), START_S)
    except asyncio.TimeoutError:
        raise Failed(f"the new process does not serve after {START_S:g} s") from None
    except (EOFError, ConnectionError):
        raise Failed("the new process has ended") from None
    except (OSError, DecodeError, ValidationError) as error:
        raise Failed(str(error)) from error
    if answer.why:
        raise Failed(answer.why)
    process.gone = True
    await give_up([places[i] for i in answer.taken], proxy)
    process.reporting = asyncio.ensure_future(report(process, sock))


async def give_up(taken, proxy):
    """What the new process has taken is not ours any more; nobody is told counters by us that it does not know yet."""
    services = [service for _, service in proxy.services.values()]
    for service in services:
        if service in taken:
            service.identity = None
    proxy.services = {}
    await asyncio.gather(*(service.close() for service in services))
    proxy.running.leave([place for place in taken if place not in services])


async def report(process, sock):
    """Our counters, until `process.drained`; then the last of them."""
    loop, last = asyncio.get_running_loop(), None
    try:
        while True:
            drained = process.drained.is_set()
            counts = framed(packed(metrics.collect(process.proxy)))
            if counts != last:
                await loop.sock_sendall(sock, counts)
            last = counts
            if drained:
                return
            try:
                await asyncio.wait_for(process.drained.wait(), COUNTS_S)
            except asyncio.TimeoutError:
                pass
    except OSError as error:
        log.error("the new process does not take our counters: %s", error.strerror)
    finally:
        sock.close()
