"""Many swaps under open tunnels: nothing of an old plan stays but what a stream pins."""

import asyncio
import os
import pathlib
import threading

import pytest

from fastproxy import Proxy
from harness import Origin, RawClient
from harness.client import request
from harness.wait import wait_for

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def config(app, n):
    """The route, the listener and every cluster differ from one to the next."""
    clusters = [{"name": "app", "connect_timeout": f"{n % 2 + 1}s", "endpoints": [app]}]
    clusters += [{"name": f"c{i}", "endpoints": [f"127.0.0.1:{1 + (n + i) % 60000}"]} for i in range(20)]
    listener = {"name": "web", "bind": "127.0.0.1:0", "via": f"v{n % 2}", "routes": [{"name": "app", "cluster": "app", "timeout": f"{n % 2 + 1}m"}]}
    return {"workers": 1, "listeners": [listener], "clusters": clusters}


def rss():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("swaps, tunnels", [(300, 60), pytest.param(10_000, 1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_swaps_under_open_tunnels_leave_memory_flat(swaps, tunnels):
    app = Origin(lambda conn: conn.head() and conn.send(UPGRADED) or conn.send(conn.exactly(4)) or conn.drain(), keep=False)

    async def main():
        async with Proxy.from_config(config(app.address, 0)) as proxy:
            clients = []

            def open_all():
                for _ in range(tunnels):
                    clients.append(RawClient(proxy.addresses["web"]))
                    clients[-1].send(request("GET", "/", "Connection: upgrade", "Upgrade: websocket"))
                    assert clients[-1].response().status == 101

            await asyncio.to_thread(open_all)
            for n in range(1, swaps // 5):
                await proxy.apply(config(app.address, n))
            before = rss()
            for n in range(swaps // 5, swaps + 1):
                await proxy.apply(config(app.address, n))
            grown = rss() - before
            plans = proxy.running.core.held_plans()

            def end_all():
                for client in clients:
                    client.send(b"ping")
                    assert client.exactly(4) == b"ping"
                    client.abort()

            await asyncio.to_thread(end_all)
            await asyncio.to_thread(wait_for, lambda: proxy.running.core.active()["streams"] == 0)
            return grown, plans

    threading.stack_size(256 << 10)
    try:
        grown, plans = asyncio.run(main())
    finally:
        threading.stack_size(0)
        app.close()
    assert plans <= 2, plans                             # the present one, and one on its way out
    assert grown < (2 << 20) + (0 if "LD_PRELOAD" not in os.environ else 64 << 20), grown
