"""No field line that another reader could split, join or rename reaches the origin (RFC 9110 5.5, RFC 9112 5)."""

import pytest

from harness.verdict import forwarded, refused

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

CONTROLS = [c for c in [*range(0x00, 0x20), 0x7F] if c != 0x09]
CASES = {f"control {c:02x} in value": b"X-A: a" + bytes([c]) + b"b\r\n" for c in CONTROLS}
CASES |= {f"octet {c:02x} in name": b"X" + bytes([c]) + b"A: b\r\n" for c in [*CONTROLS, *b' "(),/;<=>?@[\\]{}\t', 0x80, 0xFF]}
CASES |= {
    "bare LF": b"X-A: b\nX-B: c\r\n", "bare CR": b"X-A: b\rX-B: c\r\n", "CR CR LF": b"X-A: b\r\r\n", "LF ends head": b"X-A: b\n\n", "CR ends head": b"X-A: b\r\r",
    "LF CR": b"X-A: b\n\r", "fold by space": b"X-A: b\r\n c\r\n", "fold by tab": b"X-A: b\r\n\tc\r\n", "blank line of blanks": b"X-A: b\r\n \r\n",
    "space before colon": b"X-A : b\r\n", "tab before colon": b"X-A\t: b\r\n", "leading space": b" X-A: b\r\n", "no colon": b"X-A\r\n", "no name": b": b\r\n",
    "NUL name": b"\x00: b\r\n", "Host by underscore is none": b"content_length: 3\r\n", "transfer underscore": b"transfer_encoding: chunked\r\n",
    "mixed underscore": b"Transfer_Encoding: chunked\r\n", "mixed length": b"CONTENT_LENGTH: 3\r\n", "VT name": b"Transfer-Encoding\x0b: chunked\r\n",
    "obs-fold framing": b"Transfer-Encoding:\r\n chunked\r\n", "non-ASCII look-alike": "Transfer-Encoding\u00a0: chunked\r\n".encode(),
    "long s": "Tran\u017ffer-Encoding: chunked\r\n".encode(), "Kelvin": "\u212aeep-Alive: x\r\n".encode(),
}
PASS = [b"X-A: \xe4\xf6\xfc", b"X-A: \xff\x80", b"X-A:b", b"X-A:\t b \t", b"X-A:", b"X-A: a:b:c", b"X_A: b", b"!#$%&'*+-.^_`|~0aZ: b", b"X-A: \"quoted, (comment)\"", b"X-A: a\tb"]


@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    app = origin_once()
    return proxy_once(CONFIG, app=app.address), app


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", CASES)
def test_refused(setup, case, bytewise):
    refused(*setup, b"GET / HTTP/1.1\r\nHost: example.com\r\n" + CASES[case] + b"\r\n", bytewise=bytewise)


@pytest.mark.parametrize("line", PASS, ids=ascii)
def test_passes_byte_for_byte(setup, line):
    seen, reply = forwarded(*setup, b"GET / HTTP/1.1\r\nHost: example.com\r\n" + line + b"\r\n\r\n")
    assert reply.status == 200
    name, _, value = line.partition(b":")
    assert (name, value.strip(b" \t")) in seen.fields


def test_the_first_line_may_not_be_a_blank(setup):
    for raw in (b"GET / HTTP/1.1\r\n Host: example.com\r\n\r\n", b"GET / HTTP/1.1\r\n\tHost: example.com\r\n\r\n", b" GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"):
        refused(*setup, raw)
