"""The other side dies, stalls or floods at the worst moment: nothing is lost, overrun, kept for ever or served out of turn."""

import os

from harness import serve

CONFIG = """
admin: unix:$dir/admin.sock
workers: 1
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{match: {path: /direct}, direct_response: {status: 200, body: "$body"}}, {cluster: app}]}
  - {name: ux, bind: "unix:$dir/l.sock", protocol: http, routes: [{cluster: app}]}
  - {name: tcp, bind: "127.0.0.1:0", protocol: tcp, cluster: app}
clusters:
  - {name: app, endpoints: ["$app"]}
"""


def test_pipelined_chunked_bodies_stay_within_the_scratch(proxy, origin):
    """What is read behind one chunked body waits; behind the next it must not be added to without bound."""
    app = origin(serve(lambda message, conn: b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n"))
    one = proxy(CONFIG, app=app.address, body="")
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = os.urandom(400_000)
    with one.connect() as client:
        client.send(head + b"5\r\nhello\r\n0\r\n\r\n" + (head + b"%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n") * 3)
        assert [client.response().status for _ in range(4)] == [200] * 4
    assert [message.body for message in app.requests] == [b"hello", data, data, data]
