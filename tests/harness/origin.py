"""A scripted origin: records exactly the bytes each connection received, answers with whatever a script sends."""

import os
import socket
import struct
import tempfile
import threading
import time

from harness.http1 import ProtocolFault, Reader
from harness.wait import SCALE, wait_for

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


class OriginConn:
    """One accepted connection. Scripts read with head/request/exactly/some, answer with send/close/reset/shut_write."""

    def __init__(self, sock, origin, index):
        self.sock, self.origin, self.index = sock, origin, index
        self.received = bytearray()
        self.requests = []
        self.ended = self.reset_seen = self.finished = False
        self.fault = None
        self.reader = Reader(self.more)

    def more(self):
        try:
            data = self.sock.recv(262144)
        except ConnectionError:
            self.reset_seen, data = True, b""
        if self.origin.keep:
            self.received += data
        self.ended = self.ended or not data
        return data

    def some(self):
        return self.more()

    def note(self, message):
        with self.origin.lock:
            self.origin.n_requests += 1
            message.order = self.origin.n_requests  # order of arrival over all connections
            message.when = time.monotonic()
            self.requests.append(message)
        return message

    def head(self):
        """The head alone; the body stays unread."""
        return self.note(self.reader.message(head_only=True))

    def request(self):
        message = self.reader.message()
        if message.complete:
            return self.note(message)
        raise EOFError("cut body")

    def exactly(self, n):
        parts = []
        self.reader.exactly(n, parts)
        return b"".join(parts)

    def send(self, data):
        self.sock.sendall(data)

    def shut_write(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def drain(self):
        """Read to the end of the connection."""
        while self.more():
            pass


def serve(reply):
    """A script: for each whole request send reply(request, conn) (None: the reply did it all; False: close)."""

    def script(conn):
        while True:
            out = reply(conn.request(), conn)
            if out is False:
                return
            if out is not None:
                conn.send(out)

    return script


def answering(raw, close=False):
    """A script that answers every request with the same bytes, and then closes or goes on."""

    def script(conn):
        while True:
            conn.request()
            conn.send(raw)
            if close:
                return

    return script


def status_body(request, conn):
    return OK


class Origin:
    """Listens on TCP (default), `tcp6` or `unix`; each connection runs the script in a thread of its own. `ip`, `port`: where, if it matters."""

    def __init__(self, script=None, kind="tcp", keep=True, backlog=512, receive_bytes=None, ip=None, port=0):
        self.script = script or serve(status_body)
        self.keep, self.conns, self.lock = keep, [], threading.Lock()
        self.directory, self.n_requests = None, 0
        if kind == "unix":
            self.directory = tempfile.TemporaryDirectory(prefix="fp-")
            self.sock, path = socket.socket(socket.AF_UNIX), os.path.join(self.directory.name, "o.sock")
            self.sock.bind(path)
            self.address = "unix:" + path
        else:
            self.sock = socket.socket(socket.AF_INET6 if kind == "tcp6" else socket.AF_INET)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if receive_bytes:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            self.sock.bind((ip or ("::1" if kind == "tcp6" else "127.0.0.1"), port))
            name, port = self.sock.getsockname()[:2]
            self.address = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        self.sock.listen(backlog)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            sock.settimeout(60 * SCALE)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                conn = OriginConn(sock, self, len(self.conns))
                self.conns.append(conn)
            threading.Thread(target=self.run, args=(conn,), daemon=True).start()

    def run(self, conn):
        try:
            self.script(conn)
        except ProtocolFault as fault:
            conn.fault = fault
        except (EOFError, OSError):
            pass
        finally:
            conn.finished = True
            conn.sock.close()

    @property
    def received(self):
        """All bytes of all connections, in order of accept."""
        return b"".join(bytes(conn.received) for conn in list(self.conns))

    @property
    def requests(self):
        """All whole requests in order of arrival."""
        with self.lock:
            return sorted((message for conn in self.conns for message in conn.requests), key=lambda message: message.order)

    @property
    def faults(self):
        return [conn.fault for conn in list(self.conns) if conn.fault]

    def wait_requests(self, n, timeout=5.0):
        return wait_for(lambda: len(self.requests) >= n and self.requests, timeout, f"{n} requests at the origin")

    def wait_conns(self, n, timeout=5.0):
        return wait_for(lambda: len(self.conns) >= n and list(self.conns), timeout, f"{n} conns at the origin")

    def close(self):
        """Stop listening and end every connection."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        for conn in list(self.conns):
            try:
                conn.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if self.directory:
            self.directory.cleanup()
