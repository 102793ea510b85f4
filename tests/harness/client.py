"""A downstream client that sends exactly the bytes it is given, cut wherever the test wants."""

import socket
import struct

from harness.http1 import Reader
from harness.wait import SCALE, pace


def dial(address, timeout=10.0, receive_bytes=None):
    """A blocking socket to `host:port`, `[v6]:port` or `unix:/path`."""
    if address.startswith("unix:"):
        sock, target = socket.socket(socket.AF_UNIX), address[5:]
    else:
        name, _, port = address.rpartition(":")
        name = name.strip("[]")
        sock = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET)
        target = (name, int(port))
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(timeout * SCALE)
    sock.connect(target)
    if not address.startswith("unix:"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class RawClient:
    def __init__(self, address, **options):
        self.received = bytearray()  # every byte that came
        self.reset = False
        try:
            self.sock = dial(address, **options)
        except ConnectionResetError:  # accepted and reset so fast that connect() has seen it
            self.sock, other = socket.socketpair()
            other.close()
            self.reset = True
        self.reader = Reader(self.more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def more(self):
        try:
            data = self.sock.recv(262144)
        except ConnectionError:
            self.reset, data = True, b""
        self.received += data
        return data

    def send(self, data):
        """False when the proxy has closed already: what it said can still be read."""
        try:
            self.sock.sendall(data)
            return True
        except ConnectionError:
            return False

    def send_at(self, data, *cuts, pause=0.001):
        """Send in pieces that end at the given offsets, each in a segment of its own."""
        for start, end in zip((0, *cuts), (*cuts, len(data))):
            if start and not end == start:
                pace(pause)
            if not self.send(data[start:end]):
                return False
        return True

    def send_bytewise(self, data, pause=0.0002):
        return self.send_at(data, *range(1, len(data)), pause=pause)

    def response(self, method="GET", interim=False):
        """The next response; 1xx other than 101 are skipped (or, with interim, returned). EOFError when nothing came."""
        while True:
            reader, peeked = self.reader, self.reader.until(b"\r\n\r\n")
            reader.held = peeked + reader.held
            status = int(peeked.split(b" ", 2)[1])
            bodiless = method == "HEAD" or status < 200 or status in (204, 304)
            message = reader.message(body=not bodiless, close_delimited=True)
            if interim or status >= 200 or status == 101:
                return message

    def get(self, target="/", *lines, name="example.com", method="GET"):
        self.send(request(method, target, *lines, name=name))
        return self.response(method)

    def exactly(self, n):
        parts = []
        self.reader.exactly(n, parts)
        return b"".join(parts)

    def rest(self):
        """All bytes up to the end of the connection (FIN or RST; see .reset)."""
        parts = []
        self.reader.to_end(parts)
        return b"".join(parts)

    def closed(self, timeout=5.0):
        """True when the proxy ends the connection without another byte; False while it stays open for timeout."""
        self.sock.settimeout(timeout * SCALE)
        try:
            return self.rest() == b""
        except TimeoutError:
            return False

    def shut_write(self):
        self.sock.shutdown(socket.SHUT_WR)

    def abort(self):
        """RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def request(method="GET", target="/", *lines, name="example.com", body=b""):
    """A well-formed request; lines are further field lines."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {name}", *lines]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body
