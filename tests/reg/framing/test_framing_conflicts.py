"""Two readers of one request can never disagree on where it ends (RFC 9112 section 6): ambiguous framing is refused whole."""

import pytest

from harness.verdict import forwarded, refused

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

LENGTHS = ["", " ", "+3", "-3", "-0", "0x3", "3a", "3 3", "3,3", "3, 3", "3,", ",3", "3;3", "1e1", "3.0", "\"3\"", "'3'", "three", "\x0b3", "3\x0b", "\x0c3",
           "\xa03", "\xb3", "9223372036854775808", "18446744073709551616", "18446744073709551619", "99999999999999999999999999"]
CODINGS = ["", "identity", "gzip", "chunked, chunked", "chunked,chunked", "gzip, chunked", "chunked, gzip", "chunked, identity", "identity, chunked", "x", "xchunked",
           "chunkedx", "chunked;q=1", "chunked; a=b", "\"chunked\"", "'chunked'", "chunked,", ",chunked", ", chunked", "chunked x", "\x0bchunked", "chunked\x0b",
           "\x0cchunked", "chunk ed", "chunked\x00", "\xa0chunked", "deflate", "trailers", "chunked\t,", "c\thunked"]
BODY = "3\r\nabc\r\n0\r\n\r\n"
PAIRS = [
    ["Content-Length: 3", "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", "Content-Length: 3"], ["Content-Length: 0", "Transfer-Encoding: chunked"],
    ["content-length: 3", "tRANSFER-eNCODING: CHUNKED"], ["Content-Length: 3", "Transfer-Encoding: identity"], ["Content-Length: 3", "Transfer-Encoding:"],
    ["Content-Length: 3", "Content-Length: 4"], ["Content-Length: 3", "Content-Length: 3"], ["Content-Length: 3", "content-length: 03"], ["Content-Length: 0", "Content-Length: 3"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", "Transfer-Encoding: x"], ["Transfer-Encoding: ", "Transfer-Encoding: chunked"],
    ["Content_Length: 3"], ["Transfer_Encoding: chunked"], ["Content-Length : 3"], ["Transfer-Encoding : chunked"], ["Transfer-Encoding\t: chunked"], ["Content-Length\x0b: 3"],
    ["Transfer-Encoding:", " chunked"], ["X: y", " Transfer-Encoding: chunked"], ["Content-Length:", "\t3"], ["Transfer-Encoding\x00: chunked"], ["X: y\nTransfer-Encoding: chunked"],
    ["X: y\rTransfer-Encoding: chunked"], ["Connection: content-length\x00", "Content-Length: 3"], ["Transfer-Encod\xefng: chunked"], ["\x01Transfer-Encoding: chunked"],
]
CASES = [[f"Content-Length: {v}"] for v in LENGTHS] + [[f"Transfer-Encoding: {v}"] for v in CODINGS] + PAIRS


def payload(lines, version="1.1"):
    return "\r\n".join([f"POST / HTTP/{version}", "Host: example.com", *lines, "", ""]).encode("latin-1") + BODY.encode()


@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    app = origin_once()
    return proxy_once(CONFIG, app=app.address), app


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("lines", CASES, ids=lambda lines: ascii("|".join(lines)))
def test_refused(setup, lines, bytewise):
    refused(*setup, payload(lines), bytewise=bytewise)


def test_chunked_in_http_1_0_is_refused(setup):
    refused(*setup, payload(["Transfer-Encoding: chunked"], "1.0"))


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked\t"])
def test_one_chunked_coding_in_any_case_is_one_request(setup, value):
    seen, reply = forwarded(*setup, payload([f"Transfer-Encoding: {value}"]))
    assert (seen.body, reply.status) == (b"abc", 200)


@pytest.mark.parametrize("value", ["3", " 3 ", "\t3", "03", "0000000003"])
def test_one_decimal_length_is_one_request(setup, value):
    seen, reply = forwarded(*setup, payload([f"Content-Length: {value}"])[: -len(BODY)] + b"abc")
    assert (seen.body, reply.status) == (b"abc", 200)


def test_connection_cannot_remove_the_framing(setup):
    faults, before = len(setup[1].faults), len(setup[1].requests)
    for name, body in (("Content-Length: 3", b"abc"), ("Transfer-Encoding: chunked", BODY.encode())):
        raw = payload([name, f"Connection: {name.split(':')[0]}"])[: -len(BODY)] + body
        with setup[0].connect() as client:
            client.send(raw)
            assert client.response().status in (200, 400)
        assert not setup[1].faults[faults:] and all(r.body == b"abc" for r in setup[1].requests[before:])
