"""h11 as the oracle: what our parser accepts, h11 reads the same; bodies come out alike at every split."""

import h11
import pytest
from hypothesis import given, settings, strategies as st

from fastproxy import _core

TOKEN = st.text("abcXYZ-09", min_size=1, max_size=8).map(lambda s: "x-" + s)
VALUE = st.text("abc ,;=\t/\"é", max_size=12).map(str.strip)
MUTATION = st.sampled_from([b"\r", b"\n", b"\0", b" ", b":", b"\t", b",", b"chunked", b"Content-Length: 1\r\n", b"\x0b", b"\xff"])


@st.composite
def heads(draw):
    fields = draw(st.lists(st.tuples(TOKEN, VALUE), max_size=5))
    framing = draw(st.sampled_from([[], [("Content-Length", "3")], [("Transfer-Encoding", "chunked")],
                                    [("Content-Length", "3"), ("Transfer-Encoding", "chunked")]]))
    lines = [f"{name}: {value}" for name, value in [("Host", "a"), *fields, *framing]]
    data = ("POST /p?q HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(MUTATION) + data[at:]
    return data


def h11_request(data):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    return connection.next_event()


@settings(max_examples=1500, deadline=None)
@given(heads())
def test_what_we_accept_h11_reads_the_same(data):
    try:
        ours = _core.parse_request(data)
    except ValueError:
        return  # stricter than h11 is fine
    if ours is None:
        return
    event = h11_request(data)
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (ours["method"], ours["target"])
    assert [(n.lower(), v) for n, v in event.headers] == [
        (n.lower(), v.lower() if n.lower() == b"transfer-encoding" else v) for n, v, _ in ours["fields"]]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(1, 30), max_size=12))
def test_chunked_bodies_survive_any_split(chunks, sizes):
    wire = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\nX-T: v\r\n\r\n"
    decoder, kept, held, at = _core.ChunkDecoder(), b"", b"", 0
    for size in [*sizes, len(wire)]:
        held += wire[at:at + size]
        at += size
        used, out = decoder.feed(held)
        held, kept = held[used:], kept + out
    assert decoder.done and kept == wire and not held
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + kept)
    body = b""
    while not isinstance(event := oracle.next_event(), h11.EndOfMessage):
        body += event.data if isinstance(event, h11.Data) else b""
    assert body == b"".join(chunks)


@pytest.mark.parametrize("wire", [b"g\r\n", b"-1\r\n", b"1\n", b"1\r\nab\r\n", b"00000000000000001\r\n", b"fffffffffffffffff\r\n",
                                  b" 1\r\n", b"0x1\r\n", b"\r\n", b"0\r\nx y: 1\r\n\r\n", b"0\r\n x: 1\r\n\r\n"])
def test_malformed_chunks_are_refused(wire):
    with pytest.raises(ValueError, match="bad_chunk"):
        _core.ChunkDecoder().feed(wire)


def test_extensions_and_forbidden_trailers_do_not_pass():
    decoder = _core.ChunkDecoder()
    wire = b"3;x=y\r\nabc\r\n0;z\r\nContent-Length: 9\r\nX-Sum: 1\r\nHost: b\r\n\r\n"
    assert decoder.feed(wire) == (len(wire), b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
