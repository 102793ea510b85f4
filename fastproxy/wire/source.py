"""A snapshot source for asyncio programs: it keeps every proxy that connects at what was published last.

    async with Source("/run/app/snapshots.sock", on_answer=print) as source:
        source.publish({"listener": {...}, "cluster": {...}})
"""

import asyncio
import os
import socket
import stat
import struct
from hashlib import blake2b

from msgspec import Raw, msgpack

from fastproxy.wire.frames import Decoder, FrameError
from fastproxy.wire.messages import PROTOCOL, Delta, Hello, Nack, Resync, Snapshot, encode, from_proxy

HELLO_S = 10.0
READ_BYTES = 256 * 1024
KEPT = 16                       # published versions from which a delta can be made


class Source:
    """`uids`: who may connect besides ourselves and root. `on_answer(node, message)`: an Ack, Nack, Resync or Report."""

    def __init__(self, path, *, uids=(), mode=0o600, on_answer=None):
        self.path, self.uids, self.mode = os.fspath(path), {os.getuid(), 0, *uids}, mode
        self.on_answer = on_answer or (lambda node, message: None)
        self.kept = {}              # version -> resources, the oldest first
        self.version = None
        self.proxies = set()
        self.server = self.identity = None

    async def __aenter__(self):
        sock = listen(self.path, self.mode)
        found = os.stat(self.path)
        self.identity = found.st_dev, found.st_ino
        self.server = await asyncio.start_unix_server(self.on_connection, sock=sock)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        tasks = [one.task for one in self.proxies]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self.identity:
                os.unlink(self.path)
        except OSError:
            pass

    def publish(self, resources, version=None):
        """Replaces what was published before. `resources`: {kind: {name: {...}}}, not changed by anybody afterwards. -> the version.

        Without one, the version is a hash of the resources: a source that starts again then knows what its proxies have."""
        version = version or blake2b(msgpack.encode(resources, order="deterministic"), digest_size=16).hexdigest()
        self.kept.pop(version, None)
        self.kept[version], self.version = resources, version
        for old in list(self.kept)[:-KEPT]:
            del self.kept[old]
        for proxy in self.proxies:
            proxy.wake.set()
        return version

    async def on_connection(self, reader, writer):
        proxy = Connected(self, reader, writer)
        self.proxies.add(proxy)
        try:
            if peer_uid(writer.get_extra_info("socket").fileno()) in self.uids:
                await proxy.converse()
        except (OSError, FrameError, asyncio.TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self.proxies.discard(proxy)
            writer.transport.abort()


class Connected:
    """One proxy. `has`: the version that it has, or will have once it has taken what is on its way; None if that is not known."""

    def __init__(self, source, reader, writer):
        self.source, self.reader, self.writer = source, reader, writer
        self.task, self.wake, self.decoder = asyncio.current_task(), asyncio.Event(), Decoder()
        self.node = self.has = None
        self.greeted = False        # whether the hello has had its answer

    async def receive(self):
        while (payload := self.decoder.take()) is None:
            data = await self.reader.read(READ_BYTES)
            if not data:
                raise ConnectionResetError("the proxy has gone")
            self.decoder.feed(data)
        return from_proxy(payload)

    async def converse(self):
        hello = await asyncio.wait_for(self.receive(), HELLO_S)
        if type(hello) is not Hello or hello.protocol != PROTOCOL:
            raise FrameError("not a hello of this protocol")
        self.node, self.has = hello.node, hello.have
        self.wake.set()
        sending = asyncio.ensure_future(self.send())
        try:
            while True:
                message = await self.receive()
                if type(message) in (Nack, Resync):
                    self.has = None
                if type(message) is Resync:
                    self.greeted = False
                    self.wake.set()
                self.source.on_answer(self.node, message)
        finally:
            sending.cancel()

    async def send(self):
        """The latest version, whenever there is one that the proxy has not got. One it was too slow for is left out."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            version = self.source.version
            if version is None or (self.has == version and self.greeted):
                continue
            self.writer.write(encode(self.news(version)))
            self.has, self.greeted = version, True
            await self.writer.drain()

    def news(self, version):
        """A delta if what the proxy has is known, else all."""
        resources, before = self.source.kept[version], self.source.kept.get(self.has)
        if before is None:
            return Snapshot(version=version, resources=packed(resources))
        changed = {kind: {name: one for name, one in named.items() if before.get(kind, {}).get(name) != one} for kind, named in resources.items()}
        gone = {kind: [name for name in named if name not in resources.get(kind, {})] for kind, named in before.items()}
        return Delta(base=self.has, version=version, set=packed({kind: named for kind, named in changed.items() if named}),
                     remove=packed({kind: names for kind, names in gone.items() if names}))


def packed(value):
    return Raw(msgpack.encode(value))


def peer_uid(fileno):
    """Of the process that made this Unix socket connect, or listen."""
    with socket.socket(fileno=os.dup(fileno)) as sock:
        return uid_of(sock)


def uid_of(sock):
    _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid


def listen(path, mode):
    """A listening Unix socket at `path`; a socket file that nobody listens on gives way."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode) and not answers(path):
                os.unlink(path)
        except FileNotFoundError:
            pass
        sock.bind(path)
        os.chmod(path, mode)        # nobody can connect before listen()
        sock.listen(64)
    except OSError:
        sock.close()
        raise
    return sock


def answers(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            return True             # its queue is full
        except ConnectionRefusedError:
            return False
    return True
