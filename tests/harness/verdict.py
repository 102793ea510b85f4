"""Verdicts on hostile input, judged by effect: what the client got, and that not one byte reached the origin."""

MARK = b"GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n"


def refused(proxy, origin, payload, statuses=(400,), bytewise=False, follow=MARK, silent=False):
    """One error reply, then the end of the connection; the origin saw nothing, also not of what follows the payload."""
    before = len(origin.received), len(origin.conns)
    with proxy.connect(timeout=3) as client:
        whole = payload + follow
        client.send_bytewise(whole) if bytewise else client.send(whole)
        if silent:
            assert not client.rest().startswith(b"HTTP/1.1 2")
        else:
            reply = client.response()
            assert reply.status in statuses, f"{reply.status} {reply.body!r} for {payload!r}"
            assert reply.complete
            assert client.closed(2), f"open, or more than one reply, after {payload!r}: {bytes(client.received)!r}"
    assert len(origin.received) == before[0], f"reached the origin: {origin.received[before[0]:]!r}"


def forwarded(proxy, origin, payload, method="GET"):
    """One request reaches the origin as one request; returns (request at the origin, response at the client)."""
    before, faults = len(origin.requests), len(origin.faults)
    with proxy.connect() as client:
        client.send(payload)
        reply = client.response(method)
    seen = origin.wait_requests(before + 1)
    assert not origin.faults[faults:], origin.faults
    assert len(seen) == before + 1, seen[before:]
    return seen[-1], reply
