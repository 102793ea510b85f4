"""Gateway API header modifier cases, requests and responses: set, add, remove (B6)."""

from harness import answering

CONFIG = """
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    routes:
      - cluster: app
        request_headers: {set: {X-Set: new, X-Fresh: f}, add: {X-Add: b}, remove: [X-Gone]}
        response_headers: {set: {X-Set: new, X-Fresh: f}, add: {X-Add: b}, remove: [X-Gone]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""

def test_request_and_response(proxy, origin):
    app = origin(answering(b"HTTP/1.1 200 OK\r\nX-Set: old\r\nX-Gone: 1\r\nX-Add: a\r\nContent-Length: 0\r\n\r\n"))
    reply = proxy(CONFIG, app=app.address).get("/", "x-set: old", "X-SET: older", "X-Gone: 1", "x-gone: 2", "X-Add: a", "X-Kept: k")
    for message in (app.requests[0], reply):
        assert message.all(b"x-set") == [b"new"]
        assert message.all(b"x-fresh") == [b"f"]
        assert b",".join(value.replace(b" ", b"") for value in message.all(b"x-add")) == b"a,b"
        assert message.all(b"x-gone") == []
    assert app.requests[0].all(b"x-kept") == [b"k"]
    assert b"gone" not in app.received.lower()
