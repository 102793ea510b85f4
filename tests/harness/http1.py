"""A strict HTTP/1 message reader for tests: it refuses whatever a second reader might see otherwise (RFC 9112)."""

import re

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")


class ProtocolFault(AssertionError):
    """The other side sent something that is not unambiguous HTTP/1."""


class Message:
    """One message as received: start (bytes), fields [(name, value)], body, trailers, raw, complete."""

    def __init__(self, raw_head):
        self.raw_head = self.raw = raw_head
        lines = raw_head[:-4].split(b"\r\n")
        self.start, self.body, self.trailers, self.complete = lines[0], b"", [], False
        self.fields = [split_field(line) for line in lines[1:]]

    @property
    def status(self):
        return int(self.start.split(b" ", 2)[1])

    @property
    def method(self):
        return self.start.split(b" ")[0]

    @property
    def target(self):
        return self.start.split(b" ")[1]

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        return values[-1] if values else default

    def __repr__(self):
        return f"<{self.start!r} {self.fields} body {len(self.body)} complete={self.complete}>"


def split_field(line):
    name, colon, value = line.partition(b":")
    if not colon or not TOKEN.match(name) or re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise ProtocolFault(f"bad field line {line!r}")
    return name, value.strip(b" \t")


def head_of(raw):
    return raw.partition(b"\r\n\r\n")[0]


def fields_of(raw):
    return Message(head_of(raw) + b"\r\n\r\n").fields


def field(raw, name):
    return Message(head_of(raw) + b"\r\n\r\n").get(name)


class Reader:
    """Messages out of a byte source: more() gives the next bytes, b"" at the end (a reset raises)."""

    def __init__(self, more):
        self.more, self.held = more, b""

    def until(self, marker):
        while marker not in self.held:
            data = self.more()
            if not data:
                raise EOFError(self.held)
            self.held += data
        out, _, rest = self.held.partition(marker)
        self.held = rest
        return out + marker

    def exactly(self, n, into):
        """Append n bytes to `into` (a list of parts); EOFError when the source ends first."""
        while n:
            if not self.held:
                self.held = self.more()
                if not self.held:
                    raise EOFError
            part, self.held = self.held[:n], self.held[n:]
            into.append(part)
            n -= len(part)

    def to_end(self, into):
        while self.held or (data := self.more()):
            into.append(self.held or data)
            self.held = b""

    def message(self, body=True, close_delimited=False, head_only=False):
        """The next message. body=False: no body follows whatever the fields say. A cut body leaves complete False."""
        message = Message(self.until(b"\r\n\r\n"))
        message.complete = True
        if not body or head_only:
            return message
        lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
        if codings:
            if lengths or [coding.lower() for coding in codings] != [b"chunked"]:
                raise ProtocolFault(f"ambiguous framing: {message.raw_head!r}")
            self.chunked(message)
        elif lengths:
            if len(lengths) > 1 or not re.fullmatch(rb"\d{1,18}", lengths[0]):
                raise ProtocolFault(f"ambiguous length: {message.raw_head!r}")
            self.take(message, lambda parts: self.exactly(int(lengths[0]), parts))
        elif close_delimited:
            self.take(message, self.to_end)
        return message

    def take(self, message, pump):
        parts = []
        try:
            pump(parts)
        except (EOFError, ConnectionError):
            message.complete = False
        message.body = b"".join(parts)
        message.raw = message.raw_head + message.body

    def chunked(self, message):
        parts, raw = [], []
        try:
            while True:
                line = self.until(b"\r\n")
                raw.append(line)
                if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}(;[^\r\n]*)?\r\n", line):
                    raise ProtocolFault(f"bad chunk size {line!r}")
                size, here = int(line.split(b";")[0], 16), []
                if not size:
                    break
                self.exactly(size, here)
                parts += here
                self.exactly(2, end := [])
                raw += here + end
                if b"".join(end) != b"\r\n":
                    raise ProtocolFault(f"bad chunk end {end!r}")
            while (line := self.until(b"\r\n")) != b"\r\n":
                raw.append(line)
                message.trailers.append(split_field(line[:-2]))
            raw.append(line)
        except (EOFError, ConnectionError):
            message.complete = False
        message.body = b"".join(parts)
        message.raw = message.raw_head + b"".join(raw)
