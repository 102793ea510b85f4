"""The cases of tests/parse/*.md: read whole, byte by byte, cut at every point and with bytes after them."""

import codecs
import pathlib
import re

import pytest

from fastproxy import _core

ROWS = []
for path in sorted((pathlib.Path(__file__).parent.parent / "parse").glob("*.md")):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if row := re.fullmatch(r"\| `(.*)` \| (.*) \|", line):
            data = codecs.escape_decode(row[1].encode())[0]
            ROWS.append(pytest.param(data, row[2], id=f"{path.stem}:{number}"))


def verdict(data):
    try:
        head = _core.parse_request(data)
    except ValueError as error:
        return str(error)
    if head is None:
        return "more"
    name = [(head[k] or b"-").decode() for k in ("method", "host", "path")]
    return " ".join(["ok", *name, head["body"]])


def first_verdict(data, sizes):
    """What is said first when the bytes arrive cut at `sizes`."""
    said = "more"
    for size in sizes:
        said = verdict(data[:size])
        if said != "more":
            return said
    return said


def test_documents_are_found():
    assert len(ROWS) > 40


@pytest.mark.parametrize("data, expected", ROWS)
def test_verdict_is_independent_of_the_split(data, expected):
    assert verdict(data) == expected
    assert first_verdict(data, range(1, len(data) + 1)) == expected
    for cut in range(1, len(data)):
        assert first_verdict(data, (cut, len(data))) == expected


@pytest.mark.parametrize("data, expected", [row for row in ROWS if row.values[1].startswith("ok")])
def test_bytes_after_a_head_change_nothing(data, expected):
    head = _core.parse_request(data + b"\x00\r\nGET")
    assert head["len"] == len(data)
    assert verdict(data + b"\x00\r\nGET") == expected


def test_limits():
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n"
    assert _core.parse_request(head, head_bytes=len(head), fields=2)
    for limit, error in (({"head_bytes": len(head) - 1}, "head_too_large"), ({"fields": 1}, "too_many_fields"),
                         ({"line_bytes": 8}, "line_too_long")):
        with pytest.raises(ValueError, match=error):
            _core.parse_request(head, **limit)


def test_connection_cannot_remove_framing_or_host():
    head = _core.parse_request(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: host, content-length, x\r\nX: y\r\n\r\n")
    assert {name for name, _, hop in head["fields"] if hop} == {b"Connection", b"X"}
