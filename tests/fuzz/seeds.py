"""Seed inputs for the fuzz targets: `python tests/fuzz/seeds.py DIRECTORY`. Messages out of tests/parse/*.md, and SCRIPTS for fuzz_conn."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "unit"))
from test_h1_parse import lines, messages  # noqa: E402

TARGETS = {"request": "request", "request-line": "request", "target": "request", "field": "request", "host": "request",
           "response": "response", "status-line": "response", "response-field": "response", "chunked": "chunked", "body": "chunked"}

# Scripts of fuzz_conn: its commands by name, text as it is. Marks: \x01 a new one, \x02 that of the request at hand.
UNIX, TCP, RAW, RAW_TCP, STRICT = range(5)
SETTLE, SMALL, ECHO, ABRUPT = 1, 2, 4, 8


def client(n=0, listener=UNIX):
    return bytes([0xF0, n | listener << 2])


def cut(n, to=0, listener=UNIX):
    return bytes([0xF1, to | listener << 2, n])


def bytewise(n=0, listener=UNIX):
    return bytes([0xF2, n | listener << 2])


def up(n=0):
    return bytes([0xF3, n])                    # 0: the newest conn


def up_cut(n, to=0):
    return bytes([0xF4, to, n])


SHUT, CLOSE, RESET, PAUSE = range(4)


def end(how, n=0):
    return bytes([0xF5, n | how << 2])


def end_up(how, n=0):
    return bytes([0xF6, how | n << 2])


TURN, REST = b"\xf7", b"\xf8"
LEAPS = {"1ms": 0, "10ms": 1, "100ms": 2, "999ms": 3, "1s": 4, "10s": 5, "60s": 6, "300s": 7}


def leap(time):
    return bytes([0xF9, LEAPS[time]])


MALLOC, SOCKET, CONNECT, WATCH, PIPE, ACCEPT, EINTR, BROKEN = range(8)


def fault(what, after=0, lasts=False):
    return bytes([0xFA, what | after << 3 | lasts << 7])


CALM = b"\xfa\xff"
PLAN, DRAIN = b"\xfb\x00", b"\xfb\x03"


def unlisten(slot):
    return bytes([0xFB, 1 | slot << 2])


def listen(slot):
    return bytes([0xFB, 2 | slot << 2])


def text(kib):
    return b"\xfc\xff" * (kib // 256) + (bytes([0xFC, kib % 256 - 1]) if kib % 256 else b"")


def ask(path=b"/u/\x01", method=b"GET", *lines, version=b"1.1"):
    return method + b" " + path + b" HTTP/" + version + b"\r\n" + b"".join(line + b"\r\n" for line in (b"Host: a", *lines)) + b"\r\n"


def say(status=b"200 OK", *lines, version=b"1.1"):
    return b"HTTP/" + version + b" " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def length(n):
    return b"Content-Length: %d" % n


OK = say(b"200 OK", length(6)) + b"\x02"
CHUNKED = b"Transfer-Encoding: chunked"
WEBSOCKET = b"Connection: Upgrade", b"Upgrade: websocket"
LONG = b"10000\r\n" + text(64) + b"\r\n"

SCRIPTS = {  # name: (switches, script)
    "get": (SETTLE, ask() + client() + OK + up()),
    "get tcp": (SETTLE, ask() + client(listener=TCP) + OK + up()),
    "bytewise": (0, ask() + bytewise() + REST + OK + up() + REST),
    "every cut": (SETTLE, ask() + cut(7) + cut(20) + client() + OK + up_cut(5) + up_cut(40) + up()),
    "pooled": (SETTLE, (ask() + client() + OK + up()) * 3),
    "pooled tcp": (SETTLE, (ask(b"/t/\x01") + client(1) + OK + up()) * 3),
    "pipelined": (SETTLE | ECHO, ask() * 3 + ask(b"/t/\x01") + client()),
    "pipelined bodies": (SETTLE | ECHO, (ask(b"/u/\x01", b"POST", length(6)) + b"\x01" + ask(b"/t/\x01", b"POST", CHUNKED) + b"6\r\n\x01\r\n0\r\n\r\n") * 2 + client()),
    "body": (SETTLE, ask(b"/u/\x01", b"POST", length(12)) + client() + b"\x01" + client() + b"\x01" + client() + OK + up()),
    "chunked": (SETTLE, ask(b"/t/\x01", b"POST", CHUNKED) + b"6;x=y\r\n\x01" + client() + b"\r\n0\r\nX-T: 1" + client() + b"\r\n\r\n" + client() + OK + up()),
    "chunked answer": (SETTLE, ask() + client() + say(b"200 OK", CHUNKED) + b"6;x\r\n\x02\r" + up() + b"\n0\r\nX-T: 1\r\nHost: x\r\n\r\n" + up()),
    "chunked to 1.0": (SETTLE, ask(version=b"1.0") + client(listener=TCP) + say(b"200 OK", CHUNKED) + b"6\r\n\x02\r\n" + up() + b"0\r\n\r\n" + up()),
    "keep-alive 1.0": (SETTLE, (ask(b"/u/\x01", b"GET", b"Connection: keep-alive", version=b"1.0") + client() + OK + up()) * 2),
    "until close": (SETTLE, ask() + client(listener=TCP) + say() + b"\x02" + up() + text(2) + up() + end_up(CLOSE)),
    "until reset": (SETTLE, ask(b"/t/\x01") + client(listener=TCP) + say() + b"\x02" + up(0) + end_up(RESET)),
    "cut length": (SETTLE, ask() + client() + say(b"200 OK", length(60)) + b"\x02" + up() + end_up(CLOSE)),
    "cut chunked": (SETTLE, ask() + client() + say(b"200 OK", CHUNKED) + b"6\r\n\x02\r\n" + up() + end_up(SHUT)),
    "surplus": (SETTLE, ask() + client() + OK + OK + up() + ask() + client() + OK + up()),
    "unasked": (SETTLE, ask() + client() + OK + up() + OK + up() + ask() + client() + OK + up()),
    "unasked in one turn": (0, ask() + client() + REST + OK + up() + REST + ask() + client() + OK + up() + REST + OK + up() + REST),
    "stale": (0, ask() + client() + REST + OK + up() + REST + ask() + client() + TURN + end_up(RESET) + REST + OK + up() + REST),
    "stale post": (0, ask(b"/t/\x01") + client() + REST + OK + up() + REST + ask(b"/t/\x01", b"POST", length(6)) + client() + TURN + end_up(RESET) + REST),
    "HEAD 204 304": (SETTLE, ask(b"/u/\x01", b"HEAD") + client() + say(b"200 OK", length(9)) + up() + ask() + client() + say(b"204 No Content", length(0)) + up()
                     + ask() + client() + say(b"304 Not Modified", length(9), CHUNKED) + up() + ask() + client() + say(b"304 Not Modified") + up()),
    "interim": (SETTLE, ask() + client() + say(b"100 Continue") + say(b"103 Early Hints", b"Link: \x02") + up() + OK + up()),
    "expect": (SETTLE, ask(b"/u/\x01", b"PUT", length(6), b"Expect: 100-continue") + client() + say(b"100 Continue") + up() + b"\x01" + client() + OK + up()),
    "early answer": (SETTLE, ask(b"/u/\x01", b"PUT", length(65536)) + client() + OK + up() + text(64) + client()),
    "early close": (SETTLE, ask(b"/u/\x01", b"PUT", length(262144)) + client() + text(64) + client() + say(b"413 No", length(6), b"Connection: close") + b"\x02" + up() + end_up(CLOSE) + text(192) + client()),
    "upgrade": (SETTLE, ask(b"/u/\x01", b"GET", *WEBSOCKET) + b"\x01" + client() + say(b"101 Switching", *WEBSOCKET) + b"\x02hi" + up() + b"more" + client() + end_up(SHUT) + b"yes" + client() + end(SHUT)),
    "upgrade refused": (SETTLE, ask(b"/u/\x01", b"GET", *WEBSOCKET) + client() + OK + up() + ask(b"/l/\x01", b"GET", *WEBSOCKET) + client()),
    "unasked 101": (SETTLE, ask() + client() + say(b"101 Switching", *WEBSOCKET) + up()),
    "upgrade cut": (SETTLE, ask(b"/t/\x01", b"GET", *WEBSOCKET) + client(listener=TCP) + say(b"101 Switching", *WEBSOCKET) + b"\x02" + up() + b"more" + client() + end(RESET)),
    "big length": (SETTLE, ask() + client() + say(b"200 OK", length(524288)) + text(512) + up()),
    "big length tcp": (SETTLE, ask(b"/t/\x01") + client(listener=TCP) + say(b"200 OK", length(524288)) + text(256) + up() + text(256) + up()),
    "big small": (SETTLE | SMALL, ask(b"/t/\x01") + client(listener=TCP) + say(b"200 OK", length(262144)) + text(256) + up()),
    "big until close": (SETTLE | SMALL, ask() + client() + say() + text(300) + up() + end_up(CLOSE)),
    "big chunked": (SETTLE, ask() + client() + say(b"200 OK", CHUNKED) + LONG * 3 + b"0\r\n\r\n" + up()),
    "upload": (SETTLE | ECHO, ask(b"/u/\x01", b"PUT", length(262144)) + text(256) + client()),
    "upload tcp": (SETTLE | ECHO, ask(b"/t/\x01", b"PUT", length(524288)) + text(512) + client(listener=TCP)),
    "upload chunked": (SETTLE | ECHO | SMALL, ask(b"/t/\x01", b"POST", CHUNKED) + LONG * 3 + b"0\r\n\r\n" + client()),
    "many chunked": (SETTLE | ECHO, (ask(b"/t/\x01", b"POST", CHUNKED) + b"6\r\n\x01\r\n0\r\n\r\n") + (ask(b"/u/\x01", b"POST", CHUNKED) + LONG + LONG + b"0\r\n\r\n") * 2 + client()),
    "slow reader": (SETTLE | SMALL, ask(b"/t/\x01") + client(listener=TCP) + end(PAUSE) + say(b"200 OK", length(262144)) + text(256) + up() + leap("1s") + leap("60s") + end(PAUSE)),
    "slow reader of the last": (SETTLE | SMALL, ask() + client() + end(PAUSE) + say(b"200 OK", length(65536), b"Connection: close") + text(64) + up() + leap("1s") + end(PAUSE)),
    "slow upstream": (SETTLE | SMALL, ask(b"/u/\x01", b"PUT", length(262144)) + client() + end_up(PAUSE) + text(256) + client() + leap("10s") + end_up(PAUSE)),
    "abort": (SETTLE, ask() + client() + end(CLOSE) + OK + up()),
    "abort body": (SETTLE, ask(b"/u/\x01", b"PUT", length(60)) + b"\x01" + client() + end(SHUT)),
    "half-close": (SETTLE, ask() + client() + end(SHUT) + OK + up()),
    "own": (SETTLE, ask(b"/o/\x01") + client() + ask(b"/b/\x01") + ask(b"/r/\x01?q") + client() + ask(b"/none/\x01") + client() + ask(b"/o/\x01", b"POST", length(6)) + b"\x01" + client()),
    "own late body": (SETTLE, ask(b"/b/\x01", b"POST", length(70000)) + client() + text(64) + client()),
    "own chunked": (SETTLE, ask(b"/o/\x01", b"POST", CHUNKED) + b"6\r\n\x01\r\n0\r\n\r\n" + client() + ask(b"/o/\x01", b"POST", CHUNKED) + b"6\r\n" + client()),
    "failures": (SETTLE, ask(b"/d/\x01") + client() + ask(b"/n/\x01") + client() + ask(b"/m/\x01") + client() + OK + up() + ask(b"/m/\x01") + client() + OK + up()),
    "waiting": (SETTLE, ask(b"/l/\x01") + client() + ask(b"/l/\x01") + client(1) + ask(b"/l/\x01") + client(2) + ask(b"/l/\x01") + client(3) + OK + up() + OK + up(1) + OK + up() + end(CLOSE, 3)),
    "ejected": (SETTLE, (ask(b"/m/\x01") + client() + say(b"503 No", length(6)) + b"\x02" + up()) * 4 + leap("999ms") + leap("1s") + (ask(b"/m/\x01") + client() + OK + up()) * 4),
    "itself": (SETTLE | ECHO, ask(b"/self/\x01?a") + client() + ask(b"/loop/\x01") + client()),
    "routes": (SETTLE | ECHO, ask(b"/s/\x01") * 3 + ask(b"/x1/\x01?q") + ask(b"/q/\x01", b"GET", b"X-To: t") + ask(b"/l/\x01", b"GET", b"X-Gone: 1") + client()),
    "odd requests": (SETTLE | ECHO, ask(b"*", b"OPTIONS", b"Max-Forwards: 0") + ask(b"/u/\x01", b"OPTIONS", b"Max-Forwards: 3") + ask(b"http://b/t/\x01", b"GET", b"X-Forwarded-For: 1.2.3.4", b"TE: trailers")
                     + ask(b"/u/\x01", b"GET", b"X-Fastproxy-Hops: 7", b"Connection: x-a", b"X-A: b") + client() + ask(b"a:1", b"CONNECT") + client(1)),
    "malformed": (SETTLE, ask() + b"GET /u/\x01 HTTP/1.1\r\nHost : a\r\n\r\n" + ask() + client() + OK + up()),
    "bad chunk": (SETTLE, ask(b"/u/\x01", b"POST", CHUNKED) + b"6\r\n\x01\r\n" + client() + b"x\r\n" + client()),
    "bad answer": (SETTLE, ask() + client() + b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n" + up() + ask() + client() + say(b"200 OK", CHUNKED) + b"6\r\n\x02x\r\n" + up()),
    "strict": (SETTLE | ECHO, ask(b"/u/\x01") + client(listener=STRICT) + ask(b"/u/?refuse") + ask(b"/t/\x01", b"POST", length(2000)) + client() + ask(b"/t/\x01", b"POST", CHUNKED) + client(1, STRICT)
               + b"400\r\n" + text(1) + b"\r\n" + client(1) + b"GET /" + b"a" * 1100 + client(2, STRICT)),
    "raw": (SETTLE, b"\x01 one" + client(listener=RAW) + b"\x02 two" + up() + end(SHUT) + b"three" + up() + end_up(CLOSE)),
    "raw tcp": (SETTLE, b"\x01 one" + client(listener=RAW_TCP) + b"\x02 two" + up() + end_up(SHUT) + b"three" + client() + end(CLOSE)),
    "raw big": (SETTLE | SMALL, b"\x01" + text(300) + client(listener=RAW_TCP) + text(300) + up() + end(SHUT) + end_up(SHUT)),
    "raw reset": (SETTLE, b"\x01 one" + client(listener=RAW_TCP) + b"\x02" + up() + end_up(RESET)),
    "raw idle": (SETTLE, b"\x01 one" + client(listener=RAW_TCP) + leap("300s")),
    "head timeout": (SETTLE, b"GET / HT" + client() + leap("10s")),
    "timeouts": (SETTLE, ask() + client() + leap("60s") + ask(b"/t/\x01") + client() + say(b"200 OK", length(60)) + up() + leap("60s") + ask(b"/u/\x01", b"PUT", length(9)) + client() + leap("60s") + leap("300s")),
    "idle pool": (SETTLE, ask() + client() + OK + up() + leap("60s") + ask() + client() + OK + up()),
    "plans": (SETTLE, ask() + client() + PLAN + OK + up() + ask(b"/t/\x01") + client() + PLAN + ask(b"/t/\x01") + client() + OK + up() + PLAN),
    "plan without listener": (SETTLE, b"\x01" + client(listener=RAW_TCP) + ask() + client(1, STRICT) + PLAN + OK + up(1) + b"\x01" + client(2, RAW_TCP) + ask() + client(1) + client(3, STRICT)),
    "drain": (SETTLE, ask() + client() + client(1, RAW) + DRAIN + OK + up() + ask() + client()),
    "unlisten": (SETTLE, ask() + client() + unlisten(UNIX) + OK + up() + ask() + client() + listen(UNIX) + ask() + client(1) + OK + up() + listen(UNIX)),
    "no descriptors": (SETTLE, ask() + client() + fault(SOCKET) + fault(ACCEPT, lasts=True) + ask(b"/t/\x01") + client(1) + leap("100ms") + CALM + leap("100ms") + OK + up()),
    "no watch for a listener": (SETTLE, fault(ACCEPT) + ask() + client() + fault(WATCH) + leap("100ms") + ask() + client(1) + leap("100ms") + unlisten(TCP) + fault(WATCH) + listen(TCP) + ask() + client(2, TCP)),
    "no memory": (SETTLE, fault(MALLOC, 3) + ask() + client() + fault(MALLOC, 1) + OK + up() + fault(MALLOC, 2, True) + ask(b"/u/\x01", b"PUT", length(70000)) + text(64) + client()),
    "no pipes": (SETTLE, ask() + client() + fault(PIPE, lasts=True) + say(b"200 OK", length(262144)) + text(256) + up()),
    "no watch": (SETTLE, fault(WATCH, 1) + ask() + client() + fault(WATCH, 0) + ask() + client(1) + fault(CONNECT) + ask(b"/m/\x01") + client(2)),
    "abrupt": (SETTLE | ABRUPT, ask() + client() + b"\x01" + client(1, RAW) + ask() + client(2) + say(b"200 OK", length(60)) + up() + b"GET" + client(3)),
    "abrupt mail": (ABRUPT, ask() + client() + TURN + ask() + client() + PLAN + listen(UNIX) + PLAN),
    "route timeout": (SETTLE, ask() + client() + leap("10s") + leap("10s") + ask(b"/u/\x01", b"PUT", length(6)) + client() + leap("10s") + b"\x01" + client() + leap("10s") + leap("10s")),
    "black hole": (SETTLE, ask(b"/h/\x01") + client() + ask(b"/h/\x01") + client(1) + leap("1s") + OK + up() + OK + up(1)),
    "send breaks": (SETTLE, ask() + client() + OK + up() + fault(BROKEN, 1) + ask(b"/u/\x01", b"POST", length(6)) + b"\x01" + client() + OK + up()),
    "send breaks late": (SETTLE, ask(b"/t/\x01", b"PUT", length(60)) + client() + fault(BROKEN, 1) + b"\x01" + client() + OK + up() + ask() + client() + fault(BROKEN, 1) + OK + up()),
    "read breaks": (SETTLE, ask() + client() + fault(BROKEN) + OK + up() + ask() + client() + say(b"200 OK", length(262144)) + up() + fault(BROKEN, 3) + text(256) + up()),
    "tunnel breaks": (SETTLE | SMALL, b"\x01" + text(90) + client(listener=RAW_TCP) + end_up(PAUSE) + text(90) + client() + fault(BROKEN, 1) + end_up(PAUSE)),
    "last bytes and an end": (0, ask() + client() + TURN + end(SHUT) + TURN + ask(b"/t/\x01", b"POST", CHUNKED) + b"6" + client(1) + end(SHUT, 1) + REST + ask(b"/t/\x01", b"PUT", length(6)) + client(2) + REST + b"\x01" + client(2) + end(SHUT, 2) + REST),
    "own to a slow reader": (SETTLE | SMALL, client(listener=TCP) + end(PAUSE) + ask(b"/b/\x01") * 20 + client() + ask(b"/u/\x01") * 20 + client() + leap("10s") + end(PAUSE)),
    "own big and small": (SETTLE | SMALL, ask(b"/b/\x01") * 5 + client() + ask(b"/b/\x01", b"HEAD") + ask(b"/r/\x01", version=b"1.0") + client()),
    "overflow": (SETTLE, (ask(b"/l/\x01") + client(0) + ask(b"/l/\x01") + client(1) + ask(b"/l/\x01") + client(2) + ask(b"/l/\x01") + client(3) + end(CLOSE, 2)) * 2 + OK + up() + OK + up(1)),
    "interrupted": (SETTLE, fault(EINTR) + ask() + client() + fault(EINTR, 1) + OK + up() + fault(EINTR, 2) + ask() + client() + say(b"200 OK", length(262144)) + fault(EINTR, 5) + text(256) + up()),
}


def main(root):
    rows = [(row.values[0], row.values[2]) for row in messages()] + [row.values[:2] for row in lines()]
    for i, (kind, data) in enumerate(rows):
        target = TARGETS[kind]
        folder = root / f"fuzz_h1_{target}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"seed{i}").write_bytes((b"\x01" if target == "response" else b"") + data)
    folder = root / "fuzz_conn"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (switches, script) in SCRIPTS.items():
        (folder / name.replace(" ", "-")).write_bytes(bytes([switches]) + script)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
