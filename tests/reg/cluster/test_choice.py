"""Weighted split and balancers, counted at the origins (B2, C1, C2)."""

import threading

import pytest

from harness import serve, wait_for
from harness.origin import OK

SPLIT = """
listeners:
  - name: web
    bind: "127.0.0.1:0"
    protocol: http
    routes: [{split: [{cluster: a, weight: 90}, {cluster: b, weight: 10}, {cluster: c, weight: 0}]}]
clusters:
  - {name: a, endpoints: ["$a"]}
  - {name: b, endpoints: ["$b"]}
  - {name: c, endpoints: ["$c"]}
"""
ROBIN = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, balance: $balance, endpoints: [{address: "$a", weight: 1}, {address: "$b", weight: $two}, {address: "$c", weight: $three}]}
"""


def load(proxy, total, clients):
    from harness.client import request

    def run(share):
        with proxy.connect() as client:
            done = 0
            while done < share:
                batch = min(25, share - done)
                client.send(request() * batch)
                assert all(client.response().status == 200 for _ in range(batch))
                done += batch
        finished.append(done)

    finished = []
    threads = [threading.Thread(target=run, args=(total // clients + (i < total % clients),)) for i in range(clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(finished) == total


@pytest.mark.parametrize("clients", [1, 64])
def test_split_90_10(proxy, origin, clients):
    a, b, c = origin(), origin(kind="tcp6"), origin()
    load(proxy(SPLIT, a=a.address, b=b.address, c=c.address), 10000, clients)
    assert len(a.requests) + len(b.requests) == 10000 and not c.requests
    assert abs(len(a.requests) - 9000) <= 120  # 4 sigma


def test_round_robin_by_weight(proxy, origin):
    a, b, c = origin(), origin(kind="unix"), origin(kind="tcp6")
    load(proxy(ROBIN, a=a.address, b=b.address, c=c.address, balance="round_robin", two="2", three="3"), 6000, 2)
    for one, share in ((a, 1), (b, 2), (c, 3)):
        assert abs(len(one.requests) - 1000 * share) <= 20 * share  # 2 %


@pytest.mark.parametrize("balance", ["least_request", "ewma", "random"])
def test_every_balancer_uses_all_and_avoids_the_slow(proxy, origin, balance):
    def slow(request, conn):
        wait_for(lambda: conn.origin.gate.wait(0.02) or True)
        return OK

    a, b, c = origin(serve(slow)), origin(), origin()
    a.gate = threading.Event()
    load(proxy(ROBIN, a=a.address, b=b.address, c=c.address, balance=balance, two="1", three="1"), 1500, 10)
    counts = [len(one.requests) for one in (a, b, c)]
    assert sum(counts) == 1500 and min(counts) > 0
    assert balance == "random" or counts[0] < 1500 / 9 * 1.5, counts
