"""h11 as the second reader: whatever we accept, it accepts, and finds the same method, target, fields, body and end.

The other way round we are stricter by intent. h11 takes, and we refuse: bare LF as line end, folded lines, blanks around a
repeated equal Content-Length, several Hosts in 1.0, any Host or target text, dot segments, other versions 1.x, unknown
Expect and Connection values, blanks before a chunk's CRLF. Only we take: empty lines before a request line (h11 takes them
between requests only), blanks before a chunk extension (BWS, RFC 9112 7.1.1) and what `h11_limit` names.
"""

import h11
from hypothesis import event, example, given, settings, strategies as st

from fastproxy import _core

NOISE = [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f", b"\xff", b"-", b"_", b"%2e", b"/..", b"\\",
         b"0", b"1", b"chunked", b"close", b"\r\n ", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n",
         b"Transfer-Encoding", b"identity, ", b"HTTP/1.0", b"5;x=y"]
TOKEN = st.text("aZ09!#$%&'*+-.^_`|~", min_size=1, max_size=8)
VALUE = st.text("aZ09 \t\"(),/:;<=>?@[\\]{}~\xe9", max_size=12)
FIELD = st.one_of(
    st.tuples(TOKEN, VALUE),
    st.sampled_from([("Connection", "close"), ("connection", "keep-alive, x"), ("Content-Length", "5"), ("content-length", "0"),
                     ("Transfer-Encoding", "chunked"), ("TE", "trailers"), ("Expect", "100-continue"), ("Upgrade", "x")]))
TARGET = st.one_of(st.text("/aZ9%.?&=~;", max_size=12).map(lambda t: "/" + t),
                   st.sampled_from(["/", "*", "http://h/", "https://h:1?q", "a:1", "/%2e%2e/", "/a#b"]))
CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=4)
EXTENSION = st.sampled_from([b"", b"", b"", b";a", b";a=b", b';a="b;c"', b" ;a", b" "])
NEXT = b"GET /next HTTP/1.1\r\nHost: n\r\n\r\n"


@st.composite
def noisy(draw, data):
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.sampled_from([0, 0, 1, 2]))
        data = data[:at] + draw(st.sampled_from(NOISE)) + data[at + cut:]
    return data


@st.composite
def heads(draw, first):
    blank = draw(st.sampled_from([" ", "", "  ", "\t"]))
    fields = draw(st.lists(FIELD, max_size=5))
    text = "\r\n".join([draw(first), *(f"{name}:{blank}{value}" for name, value in fields)]) + "\r\n\r\n"
    return draw(noisy(text.encode("latin-1")))


REQUESTS = heads(st.builds(lambda method, target, version: f"{method} {target} HTTP/{version}\r\nHost: h",
                           st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "TRACE", "x"]), TARGET,
                           st.sampled_from(["1.1", "1.1", "1.1", "1.0"])))
RESPONSES = heads(st.builds(lambda version, status, reason: f"HTTP/{version} {status}{reason}",
                            st.sampled_from(["1.1", "1.1", "1.0"]), st.sampled_from([200, 204, 304, 404, 599, 103]),
                            st.sampled_from([" OK", " ", "", " \xe9 \t x"])))


@st.composite
def chunked(draw):
    wire = b""
    for chunk in draw(CHUNKS):
        wire += b"%x" % len(chunk) + draw(EXTENSION) + b"\r\n" + chunk + b"\r\n"
    wire += b"0" + draw(EXTENSION) + b"\r\n"
    for name, value in draw(st.lists(st.tuples(TOKEN, VALUE), max_size=3)):
        wire += f"{name}: {value}\r\n".encode("latin-1")
    return draw(noisy(wire + b"\r\n"))


def fields_of(pairs):
    """h11 lowers names, and the value of Transfer-Encoding."""
    return [(n.lower(), v.lower() if n.lower() == b"transfer-encoding" else v) for n, v, *_ in pairs]


def body_for(head):
    if head["body"] == "length":
        return b"x" * head["content_length"], b"x" * head["content_length"]
    if head["body"] == "chunked":
        return b"3\r\nabc\r\n0\r\n\r\n", b"abc"
    return b"", b""


def read_body(connection):
    """(data, what follows the message)"""
    data = b""
    while True:
        got = connection.next_event()
        if isinstance(got, h11.Data):
            data += bytes(got.data)
        else:
            assert isinstance(got, h11.EndOfMessage), got
            return data, connection.trailing_data[0]


def h11_limit(head):
    """Messages that we take and h11 does not, or not so."""
    if head["content_length"] > 1000:
        return "a body too long to send"
    if any(n.lower() == b"content-length" and len(v) > 20 for n, v, _ in head["fields"]):
        return "a long length"
    return None


@settings(max_examples=800, deadline=None)
@given(REQUESTS)
@example(b"GET / HTTP/1.1\r\nHost: h\r\nA: \xff\r\n\r\n")
def test_requests(data):
    try:
        ours = _core.parse_request(data)
    except ValueError as error:
        event(str(error))
        return
    if ours is None or h11_limit(ours):
        return
    event("accepted")
    wire, expected = body_for(ours)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data[ours["start"]:ours["len"]] + wire + NEXT)
    theirs = connection.next_event()
    assert isinstance(theirs, h11.Request)
    assert (theirs.method, theirs.target) == (ours["method"], ours["target"])
    assert theirs.http_version == b"1.%d" % ours["minor"]
    assert fields_of(theirs.headers) == fields_of(ours["fields"])
    assert read_body(connection) == (expected, NEXT)


@settings(max_examples=500, deadline=None)
@given(RESPONSES, st.sampled_from([b"GET", b"HEAD"]))
def test_responses(data, method):
    try:
        ours = _core.parse_response(data, method)
    except ValueError as error:
        event(str(error))
        return
    if ours is None or ours["status"] < 200 or h11_limit(ours):
        return
    event("accepted")
    wire, expected = body_for(ours)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data[:ours["len"]] + wire + b"surplus")
    theirs = connection.next_event()
    assert isinstance(theirs, h11.Response)
    assert theirs.status_code == ours["status"]
    assert fields_of(theirs.headers) == fields_of(ours["fields"])
    if ours["body"] == "close":
        assert bytes(connection.next_event().data) == b"surplus"
    else:
        assert read_body(connection) == (expected, b"surplus")


def decode(pieces):
    decoder, relayed, held = _core.ChunkDecoder(), b"", b""
    for piece in pieces:
        held += piece
        consumed, kept = decoder.feed(held)
        relayed, held = relayed + kept, held[consumed:]
    return relayed, decoder.done, held


def h11_body(wire):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + wire)
    assert isinstance(connection.next_event(), h11.Request)
    return read_body(connection)


@settings(max_examples=500, deadline=None)
@given(chunked(), st.lists(st.integers(1, 30), max_size=12))
def test_chunked_bodies(wire, sizes):
    pieces, at = [], 0
    for size in [*sizes, len(wire) + len(NEXT)]:
        pieces.append((wire + NEXT)[at:at + size])
        at += size
    try:
        relayed, done, rest = decode(pieces)
    except ValueError as error:
        event(str(error))
        return
    if not done:
        return
    event("accepted")
    # What is relayed is the same body, and stays so when it is read again.
    body, surplus = h11_body(relayed)
    assert surplus == b""
    if b" ;" not in wire and b"\t;" not in wire:
        assert h11_body(wire + NEXT) == (body, rest)
    assert decode([relayed]) == (relayed, True, b"")
