"""What passes is byte-equal to direct, but for the fields that the proxy itself adds (A2)."""

import pytest

from harness import RawClient, serve
from harness.corpus import pairs

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
PAIRS = list(pairs())
ADDED = (b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id", b"x-fastproxy-hops")
ANSWERS = {raw.split(b" ")[0] + raw.split(b" ")[1]: answer for _, _, raw, answer in PAIRS}


def without(raw, names):
    head, end, body = raw.partition(b"\r\n\r\n")
    return b"\r\n".join(line for line in head.split(b"\r\n") if line.split(b":")[0].lower() not in names) + end + body


@pytest.fixture(scope="module")
def setup(proxy_once, origin_once):
    app = origin_once(serve(lambda request, conn: ANSWERS[request.method + request.target]))
    with proxy_once(CONFIG, app=app.address).connect() as client, RawClient(app.address) as direct:
        yield client, direct, app


def test_size():
    assert len(PAIRS) >= 200


@pytest.mark.parametrize("method, raw, answer", [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_byte_equal(setup, method, raw, answer):
    client, direct, app = setup
    for one in (direct, client):
        one.send(raw)
    assert client.response(method).raw == direct.response(method).raw == answer
    seen = [without(request.raw, ADDED) for request in app.requests[-2:]]
    assert seen == [raw, raw]
