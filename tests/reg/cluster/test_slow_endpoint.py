"""Two choices keep away from a slow endpoint, and a pool's tail is that of its fast ones (C2)."""

import asyncio
import time

import pytest
import uvloop

from harness.client import request

CONFIG = """
listeners:
  - {name: web, bind: "127.0.0.1:0", protocol: http, routes: [{cluster: app}]}
clusters:
  - {name: app, balance: $balance, endpoints: $endpoints}
"""
ENDPOINTS, CLIENTS, SECONDS, FAST_S = 40, 40, 2, 0.02


class Slow(asyncio.Protocol):
    """Answers each request after a time, with its number."""

    def __init__(self, number):
        self.seconds = FAST_S * 10 if number == 0 else FAST_S
        self.answer = b"HTTP/1.1 200 OK\r\nX-Number: %02d\r\nContent-Length: 0\r\n\r\n" % number

    def connection_made(self, link):
        self.link = link

    def data_received(self, data):
        asyncio.get_running_loop().call_later(self.seconds, self.link.write, self.answer)


class Client(asyncio.Protocol):
    """One request after the other; notes (number, seconds) of each."""

    def __init__(self, seen, until):
        self.seen, self.until, self.done = seen, until, asyncio.get_running_loop().create_future()

    def connection_made(self, link):
        self.link = link
        self.ask()

    def ask(self):
        self.start = time.monotonic()
        if self.start > self.until:
            return self.done.set_result(None)
        self.link.write(request())

    def data_received(self, data):
        self.seen.append((int(data.partition(b"X-Number: ")[2][:2]), time.monotonic() - self.start))
        self.ask()

    def connection_lost(self, error):
        self.done.done() or self.done.set_exception(ConnectionError(error))


def p99(seconds):
    return sorted(seconds)[int(len(seconds) * 0.99)]


@pytest.mark.parametrize("balance", ["least_request", "ewma"])
def test_one_of_forty_is_ten_times_slower(proxy, balance):
    async def run():
        loop, seen = asyncio.get_running_loop(), []
        origins = [await loop.create_server(lambda number=number: Slow(number), "127.0.0.1", 0) for number in range(ENDPOINTS)]
        ports = [one.sockets[0].getsockname()[1] for one in origins]
        one = proxy(CONFIG, balance=balance, endpoints=str([f"127.0.0.1:{port}" for port in ports]))
        name, _, port = one.addresses["web"].rpartition(":")
        clients = [(await loop.create_connection(lambda: Client(seen, time.monotonic() + SECONDS), name, int(port)))[1] for _ in range(CLIENTS)]
        await asyncio.gather(*(client.done for client in clients))
        for origin in origins:
            origin.close()
        return seen

    loop = uvloop.new_event_loop()
    seen = loop.run_until_complete(run())
    loop.close()
    share = sum(number == 0 for number, _ in seen) / len(seen)
    pool, fast = p99([seconds for _, seconds in seen]), p99([seconds for number, seconds in seen if number])
    print(f"{balance}: {len(seen)} requests, share {share:.4f} of fair {1 / ENDPOINTS}, p99 {pool * 1e3:.1f} ms, of the fast {fast * 1e3:.1f} ms")
    assert {number for number, _ in seen} == set(range(ENDPOINTS)) or balance == "ewma"
    assert share < 1 / ENDPOINTS / 3
    assert pool <= 1.5 * fast
