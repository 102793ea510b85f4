"""A snapshot source: two endpoints of one cluster change places every few seconds, and the proxy says what it thinks of it.

    python examples/snapshot_source.py /tmp/source.sock
    fastproxy run --snapshots unix:/tmp/source.sock --node example
"""
import asyncio
import sys

from fastproxy.wire.source import Source

LISTENER = {"bind": "127.0.0.1:0", "routes": {"table": "all"}}
ROUTES = {"routes": [{"match": {"path": "/hello"}, "direct_response": {"status": 200, "body": "hello\n"}}, {"cluster": "app"}]}


def resources(address):
    return {"listener": {"web": LISTENER}, "route_table": {"all": ROUTES}, "cluster": {"app": {}}, "endpoints": {"app": {"endpoints": [address]}}}


async def main(path, pause_s=3.0):
    async with Source(path, on_answer=lambda node, answer: print(node, answer, flush=True)) as source:
        while True:  # the first is sent whole, the others as what has changed
            for port in (9080, 9081):
                print("published", source.publish(resources(f"127.0.0.1:{port}")), flush=True)
                await asyncio.sleep(pause_s)


asyncio.run(main(*sys.argv[1:2], *map(float, sys.argv[2:])))
