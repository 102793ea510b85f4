"""A snapshot source written from docs/snapshot_protocol.md: raw sockets and a msgpack library, and nothing of the product."""

import os
import socket
import struct

import msgpack

from harness.wait import SCALE


def frame(message):
    payload = msgpack.packb(message)
    return struct.pack(">I", len(payload)) + payload


class SnapshotSource:
    """Listens on a Unix socket; `accept()` gives the next connection of a proxy."""

    def __init__(self, path, timeout=10.0):
        self.path, self.timeout = str(path), timeout * SCALE
        self.conns, self.sock = [], None
        self.listen()

    def listen(self):
        """Again, after close()."""
        self.sock = socket.socket(socket.AF_UNIX)
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.sock.bind(self.path)
        os.chmod(self.path, 0o600)
        self.sock.listen()
        self.sock.settimeout(self.timeout)

    def accept(self, hello=True):
        sock, _ = self.sock.accept()
        sock.settimeout(self.timeout)
        self.conns.append(SourceConn(sock))
        if hello:
            self.conns[-1].hello = self.conns[-1].receive()
        return self.conns[-1]

    def close(self):
        """As if the process were killed: every socket goes, the file stays."""
        self.sock.close()
        for conn in self.conns:
            conn.sock.close()
        self.conns.clear()


class SourceConn:
    def __init__(self, sock):
        self.sock, self.hello, self.rest = sock, None, b""

    def send(self, **message):
        self.sock.sendall(frame(message))

    def exactly(self, n):
        while len(self.rest) < n:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the proxy has closed")
            self.rest += data
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def receive(self):
        return msgpack.unpackb(self.exactly(int.from_bytes(self.exactly(4), "big")))

    def ask(self, **message):
        self.send(**message)
        return self.receive()

    def snapshot(self, version, resources, **more):
        return self.ask(type="snapshot", version=version, resources=resources, **more)

    def delta(self, base, version, **more):
        return self.ask(type="delta", base=base, version=version, **more)

    def closed(self):
        """Waits for the end; what comes before it is lost."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True
