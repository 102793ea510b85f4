"""HTTPRoute rules of the Gateway API in our form, in the order of precedence that it asks for, over endpoints of both families."""

import json

from harness.http1 import Message
from harness.origin import Origin, serve


def precedence(match):
    """Exact path, longest prefix, method, most headers, most query parameters (Gateway API HTTPRouteRule.matches)."""
    return ("path" not in match, -len(match.get("path", match.get("path_prefix", "/")).rstrip("/")), "methods" not in match,
            -len(match.get("headers", {})), -len(match.get("query", {})))


def routes(*rules):
    """`rules`: (matches, rest of the route) in the order of the HTTPRoute; matches of one rule are alternatives."""
    flat = [(match, rest) for matches, rest in rules for match in matches]
    return [{"match": match, **rest} for match, rest in sorted(flat, key=lambda pair: precedence(pair[0]))]


def to(name, *matches, **rest):
    return matches or ({},), {"cluster": name, **rest}


class Backends:
    """Clusters with an IPv4 and an IPv6 endpoint each, which answer with the cluster's name and the given lines (A19)."""

    def __init__(self, *names):
        self.lines = ()
        self.of = {name: [Origin(serve(lambda message, conn, name=name: self.answer(name)), kind=kind) for kind in ("tcp", "tcp6")] for name in names}

    def answer(self, name):
        return "\r\n".join(["HTTP/1.1 200 OK", *self.lines, f"X-Cluster: {name}", "Content-Length: 0", "", ""]).encode()

    def config(self, **listeners):
        """`listeners`: name -> the rest of it; each is there once more as NAME6, over IPv6."""
        return json.dumps({"listeners": [{"name": name + suffix, "bind": bind, **rest} for name, rest in listeners.items()
                                         for suffix, bind in (("", "127.0.0.1:0"), ("6", "[::1]:0"))],
                           "clusters": [{"name": name, "balance": "round_robin", "endpoints": [one.address for one in ends]}
                                        for name, ends in self.of.items()]})

    @property
    def last(self) -> Message:
        """The request that came last, wherever."""
        return max((one.requests[-1] for ends in self.of.values() for one in ends if one.requests), key=lambda seen: seen.when)

    def close(self):
        for ends in self.of.values():
            for one in ends:
                one.close()


def chosen(proxy, target="/", *lines, listener="web", **options):
    """The cluster that answered over either listener, each asked twice so that both endpoints have their turn; None: 404."""
    replies = [proxy.get(target, *lines, listener=name, **options) for name in (listener, listener + "6") for _ in range(2)]
    assert len({reply.status for reply in replies}) == len({reply.get(b"x-cluster") for reply in replies}) == 1, replies
    if replies[0].status == 404:
        return None
    assert replies[0].status == 200
    return replies[0].get(b"x-cluster").decode()
