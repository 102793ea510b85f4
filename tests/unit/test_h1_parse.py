"""The fenced blocks of tests/parse/*.md (its README tells their form): every verdict, at every prefix and every split."""

import codecs
import pathlib
import re

import pytest

from fastproxy import _core

DOCUMENTS = pathlib.Path(__file__).parent.parent / "parse"
FENCE = re.compile(r"^```(\S+)(.*)\n((?:(?!```).*\n)*)```$", re.M)
HEADS = {
    "request-line": (b"", b"\r\nHost: a\r\n\r\n"),
    "target": (b"GET ", b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "field": (b"POST / HTTP/1.1\r\nHost: a\r\n", b"\r\n\r\n"),
    "host": (b"GET / HTTP/1.1\r\nHost: ", b"\r\n\r\n"),
    "status-line": (b"", b"\r\n\r\n"),
    "response-field": (b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n"),
}


def unescape(text):
    return codecs.escape_decode(text.encode())[0]


def blocks():
    """(kind, options, body, name) of each fenced block; README shows the form and holds none."""
    for path in sorted(DOCUMENTS.glob("*.md")):
        text = path.read_text()
        for match in FENCE.finditer(text) if path.stem != "README" else ():
            yield match[1], match[2].split(), match[3], f"{path.stem}:{text.count(chr(10), 0, match.start()) + 1}"


def messages():
    pending = None
    for kind, options, body, name in blocks():
        if kind == "expect":
            assert pending, f"{name}: expectation without a message"
            yield pytest.param(*pending[:3], body.splitlines(), id=pending[3])
            pending = None
        elif kind in ("request", "response", "chunked"):
            assert pending is None, f"{name}: message without expectation"
            pending = kind, dict(o.partition("=")[::2] for o in options), unescape(body.replace("\n", "")), name
    assert pending is None


def lines():
    """(kind, bytes, answer) of each line of the blocks that hold many."""
    for kind, options, body, name in blocks():
        if kind in HEADS or kind == "body":
            for i, line in enumerate(body.split("\n")[:-1], 1):
                before, after = HEADS.get(kind, (b"", b""))
                yield pytest.param(kind, before + unescape(line) + after, options[0], id=f"{name}+{i}")


def parse(kind, options, data):
    """dict, None, or the name of the error."""
    limits = {k: int(v) for k, v in options.items() if k != "method"}
    try:
        if kind == "response":
            return _core.parse_response(data, options.get("method", "GET").encode(), **limits)
        return _core.parse_request(data, **limits)
    except ValueError as error:
        return str(error)


def parse_at_every_prefix(kind, options, data):
    """The verdict on data; every prefix must have said the same or nothing yet, and surplus data must change nothing."""
    whole = parse(kind, options, data)
    said = [parse(kind, options, data[:n]) for n in range(len(data))]
    assert all(verdict in (None, whole) for verdict in said)
    settled = [verdict is not None for verdict in said]
    assert settled == sorted(settled), "a verdict was taken back"
    if isinstance(whole, dict):
        assert whole["len"] == len(data) and not any(settled)
        for more in (b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 40):
            assert parse(kind, options, data + more) == whole
    return whole


def feed(pieces, response=False):
    """(what is relayed, done, bytes left over) of a body that arrives in these pieces, or the name of the error."""
    decoder, relayed, held = _core.ChunkDecoder(response), b"", b""
    try:
        for piece in pieces:
            held += piece
            consumed, kept = decoder.feed(held)
            relayed, held = relayed + kept, held[consumed:]
    except ValueError as error:
        return str(error)
    return relayed, decoder.done, held


def feed_at_every_split(data, response=False):
    whole = feed([data], response)
    one_by_one = [data[i:i + 1] for i in range(len(data))]
    assert feed(one_by_one, response) == whole
    for i in range(1, len(data)):
        assert feed([data[:i], data[i:]], response) == whole
    if len(data) <= 64:
        for i in range(1, len(data)):
            for j in range(i + 1, len(data)):
                assert feed([data[:i], data[i:j], data[j:]], response) == whole
    return whole


def show(head, key):
    """What a document writes after `key: `."""
    if key == "hop":
        return " ".join(name.decode() for name, _, hop in head["fields"] if hop)
    if key == "flags":
        return " ".join(sorted(head["flags"]))
    value = head["content_length" if key == "length" else key]
    return value if isinstance(value, bytes) else b"" if value is None else str(value)


@pytest.mark.parametrize("kind, options, data, expected", list(messages()))
def test_message(kind, options, data, expected):
    if kind == "chunked":
        got = feed_at_every_split(data, "response" in options)
        if expected[0].startswith("error "):
            assert got == expected[0][6:]
            return
        relay, state = (line.partition(": ")[2] for line in expected)
        assert got[0] == unescape(relay) and got[1] == (state == "done")
        if got[1]:
            assert feed([data + b"GET /"])[2] == b"GET /"
        return
    head = parse_at_every_prefix(kind, options, data)
    if expected[0].startswith("error "):
        assert head == expected[0][6:]
        return
    if expected[0] == "more":
        assert head is None
        return
    assert isinstance(head, dict), head
    fields = []
    for line in expected:
        key, _, value = line.partition(":")
        value = unescape(value[1:])
        if key == "field":
            name, _, value = value.partition(b": ")
            fields.append((name, value))
        else:
            got = show(head, key)
            assert (got if isinstance(got, bytes) else got.encode()) == (
                b" ".join(sorted(value.split())) if key == "flags" else value), key
    if fields:
        assert [field[:2] for field in head["fields"]] == fields


@pytest.mark.parametrize("kind, data, answer", list(lines()))
def test_line(kind, data, answer):
    if kind == "body":
        got = feed_at_every_split(data)
        assert got == answer if answer != "ok" else not isinstance(got, str)
        return
    got = parse_at_every_prefix("response" if kind in ("status-line", "response-field") else "request", {}, data)
    if answer == "ok":
        assert isinstance(got, dict), got
    else:
        assert got == answer


# What needs more bytes than a document should hold.

ALIGNMENTS = range(40)


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_at_every_place_of_a_vector_step(octet):
    """A field value and a target treat an octet alike wherever it falls in the 16 byte steps of the scan."""
    c = bytes([octet])
    value_ok = octet == 9 or (octet >= 0x20 and octet != 0x7f)
    name_ok = c in b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    target_ok = 0x21 <= octet <= 0x7e and c not in b"#\\%"
    for n in ALIGNMENTS:
        pad, rest = b"v" * n, b"w" * (17 - n % 17)
        got = parse("request", {}, b"GET / HTTP/1.1\r\nHost: a\r\nX: v%s%s%sv\r\n\r\n" % (pad, c, rest))
        assert isinstance(got, dict) == value_ok
        got = parse("request", {}, b"GET / HTTP/1.1\r\nHost: a\r\nn%s%s%s: v\r\n\r\n" % (pad, c, rest))
        assert isinstance(got, dict) == (name_ok or (c == b":" ))
        got = parse("request", {}, b"GET /a%s%s%s HTTP/1.1\r\nHost: a\r\n\r\n" % (pad, c, rest))
        assert isinstance(got, dict) == target_ok


@pytest.mark.parametrize("path, answer", [(b"/..", "bad_path"), (b"/%2e/", "bad_path"), (b"/\\", "bad_path"),
                                          (b"/%zz", "bad_target"), (b"#", "bad_target")])
def test_path_hygiene_at_every_place_of_a_vector_step(path, answer):
    for n in ALIGNMENTS:
        for rest in (b"", b"/tail", b"/" + b"t" * 30):
            data = b"GET /" + b"a" * n + path + rest + b" HTTP/1.1\r\nHost: a\r\n\r\n"
            assert parse("request", {}, data) == answer


def test_one_chunk_costs_bounded_extensions_and_trailers():
    assert feed([b"1;" + b"x" * 251 + b"\r\na\r\n"])[0] == b"1\r\na\r\n"      # a size line of 256 bytes
    assert feed([b"1;" + b"x" * 253 + b"\r\na\r\n"]) == "bad_chunk"
    assert feed([b"1;" + b"x" * 300]) == "bad_chunk"
    small = b"1;" + b"x" * 99 + b"\r\na\r\n"
    assert isinstance(feed([small * 40]), tuple)
    assert feed([small * 41]) == "bad_chunk"
    large = b"640;" + b"x" * 99 + b"\r\n" + b"a" * 0x640 + b"\r\n"           # 100 bytes of extension, 1,600 of data
    assert isinstance(feed([large * 200]), tuple)
    trailer = b"A: " + b"b" * 1019 + b"\r\n"                                 # 1,024 bytes
    assert feed([b"0\r\n" + trailer * 8 + b"\r\n"])[1]
    assert feed([b"0\r\n" + trailer * 8 + b"A"]) == "bad_chunk"
    assert feed([b"0\r\n" + trailer * 7 + trailer[:-2] + b"b\r\n\r\n"]) == "bad_chunk"
    assert feed([b"0\r\nA: " + b"b" * 8189]) == "bad_chunk"
    assert feed([b"0\r\n" + b"A: b\r\n" * 64 + b"\r\n"])[1]
    assert feed([b"0\r\n" + b"A: b\r\n" * 65]) == "bad_chunk"


def test_names_and_connection_options_are_bounded():
    fields = b"".join(b"f%d: x\r\n" % i for i in range(98))
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + b",".join(b"f%d" % i for i in range(32)) + b"\r\n" + fields + b"\r\n"
    got = parse("request", {}, head)
    assert sum(hop for _, _, hop in got["fields"]) == 33
    assert parse("request", {"fields": "99"}, head) == "too_many_fields"
    many = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * 200 + b"\r\n"
    assert parse("request", {"fields": "10000"}, many) == "too_many_fields"  # the array's own bound
    name = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"n" * 65536 + b": x\r\n\r\n"
    assert parse("request", {"head_bytes": "200000"}, name) == "bad_field"
    assert parse("request", {}, name) == "head_too_large"


def trickle(data, **limits):
    """(verdict, number of readings) of a head that comes byte by byte to a reader that asks may_decide."""
    seen = readings = 0
    for n in range(1, len(data) + 1):
        if _core.may_decide(data[:n], seen, limits.get("head_bytes", 61440), limits.get("line_bytes", 61440)):
            readings += 1
            got = parse("request", limits, data[:n])
            if got is not None:
                return got, readings
        seen = n
    return None, readings


def test_a_trickled_head_is_read_a_bounded_number_of_times():
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: " + b"b" * 8000 + b"\r\nB: " + b"c" * 8000 + b"\r\n\r\n"
    got, readings = trickle(head)
    assert got == parse("request", {}, head) and readings <= 1024 + 3
    for bad in (b"\0", b"\n", b"\r\r", b"\x7f"):
        got, _ = trickle(head[:9000] + bad + head[9000:])
        assert got == parse("request", {}, head[:9000] + bad + head[9000:])
    for at in range(1, 12):  # bounds of the line and of the head, whatever stands before it
        line = b"\r\n" * (at % 5) + b"GET /" + b"a" * 5000
        for limits in ({"line_bytes": "2000"}, {"head_bytes": "2000"}, {"head_bytes": "3000", "line_bytes": "2990"}):
            ints = {k: int(v) for k, v in limits.items()}
            assert trickle(line, **ints)[0] == parse("request", ints, line) == "line_too_long"
