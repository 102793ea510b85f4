"""Two choices keep away from a slow endpoint, and a pool's tail is that of its fast ones (C2)."""

import asyncio

import pytest
import uvloop

from harness.load import Client, Timed

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, balance: $balance, endpoints: $endpoints}
"""
ENDPOINTS, CLIENTS, REQUESTS, FAST_S = 40, 40, 60, 0.02


def p99(seconds):
    return sorted(seconds)[int(len(seconds) * 0.99)]


@pytest.mark.parametrize("balance", ["least_request", "ewma"])
def test_one_of_forty_is_ten_times_slower(proxy, balance):
    async def run():
        loop, seen = asyncio.get_running_loop(), []
        origins = [await loop.create_server(lambda number=number: Timed(FAST_S if number else 10 * FAST_S, number), "127.0.0.1", 0) for number in range(ENDPOINTS)]
        one = proxy(CONFIG, balance=balance, endpoints=str(["127.0.0.1:%d" % app.sockets[0].getsockname()[1] for app in origins]))
        await asyncio.gather(*[await Client.start(one.addresses["web"], seen, REQUESTS) for _ in range(CLIENTS)])
        for app in origins:
            app.close()
        return seen

    for _ in range(3):                      # a busy machine makes the fast ones slow, too
        loop = uvloop.new_event_loop()
        seen = loop.run_until_complete(run())
        loop.close()
        share = sum(number == 0 for number, _ in seen) / len(seen)
        pool, fast = p99([seconds for _, seconds in seen]), p99([seconds for number, seconds in seen if number])
        print(f"{balance}: {len(seen)} requests, share {share * ENDPOINTS:.2f} of fair, p99 {pool * 1e3:.1f} ms, of the fast {fast * 1e3:.1f} ms")
        assert len(seen) == CLIENTS * REQUESTS and {number for number, _ in seen} >= set(range(1, ENDPOINTS))
        if share < 1 / ENDPOINTS / 3 and pool <= 1.5 * fast:
            return
    raise AssertionError("never as it should be")
