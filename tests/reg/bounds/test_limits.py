"""One byte over a limit is refused with its own status and reaches nobody; one byte under passes (A16)."""

import pytest

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
  - {name: small, bind: "127.0.0.1:0", protocol: http, limits: {head_bytes: 2KiB}, routes: [{cluster: app}]}
  - {name: body, bind: "127.0.0.1:0", protocol: http, limits: {body_bytes: 1000B}, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    app = origin_once()
    return proxy_once(CONFIG, app=app.address), app


def padded(size):
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Pad: "
    return head + b"p" * (size - len(head) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("listener, limit", [("web", 60 * 1024), ("small", 2048)])
@pytest.mark.parametrize("step", [-1, 0, 1, 4096])
def test_head_size(setup, listener, limit, step):
    proxy, app = setup
    before = len(app.requests)
    reply = proxy.exchange(padded(limit + step), listener=listener)
    assert reply.status == (431 if step > 0 else 200)
    assert len(app.requests) == before + (step <= 0)


@pytest.mark.parametrize("n, status", [(99, 200), (100, 200), (101, 431), (128, 431), (1000, 431)])
def test_number_of_fields(setup, n, status):
    lines = [f"X-{i}: {i}" for i in range(n - 1)]
    assert setup[0].get("/", *lines).status == status


def test_request_line(setup):
    assert setup[0].get("/" + "a" * 70000).status == 414
    assert setup[0].get("/" + "a" * 4000, listener="small").status == 414


@pytest.mark.parametrize("chunk", [0, 1, 100, 1001], ids=lambda n: f"chunks of {n}" if n else "length")
@pytest.mark.parametrize("size, status", [(999, 200), (1000, 200), (1001, 413), (5000, 413)])
def test_body_size(setup, size, status, chunk):
    """The data counts, not how it is framed."""
    proxy, app = setup
    before = len(app.requests)
    if chunk:
        parts = [min(chunk, size - at) for at in range(0, size, chunk)]
        raw = b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n" % n + b"b" * n + b"\r\n" for n in parts) + b"0\r\n\r\n"
    else:
        raw = b"Content-Length: %d\r\n\r\n" % size + b"b" * size
    for pooled in (False, True):
        with proxy.connect("body") as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + raw)
            assert client.response().status == status
    assert [len(one.body) for one in app.requests[before:]] == [size, size] * (status == 200)


def test_an_endless_line_costs_bounded_memory(setup):
    proxy, app = setup
    before = proxy.rss_bytes, len(app.received)
    for endless in (b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"A", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;"):
        with proxy.connect() as client:
            for _ in range(64):
                if not client.send(endless + b"a" * 65536):
                    break
                endless = b""
            assert client.response().status in (400, 414, 431)
    assert proxy.rss_bytes - before[0] < 8 * 2**20
