"""A proxy as a part of a program: an origin and the proxy in front of it in one event loop."""
import asyncio

from fastproxy import Proxy

CONFIG = {"workers": 0, "listeners": [{"name": "web", "bind": "127.0.0.1:0", "protocol": "http", "routes": [{"cluster": "app"}]}]}

async def origin(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n")

async def main():
    app = await asyncio.start_server(origin, "127.0.0.1", 0)
    clusters = [{"name": "app", "endpoints": ["127.0.0.1:%d" % app.sockets[0].getsockname()[1]]}]
    async with Proxy.from_config({**CONFIG, "clusters": clusters}) as proxy:
        curl = await asyncio.create_subprocess_exec("curl", "-s", proxy.addresses["web"])
        print("curl ended with", await curl.wait(), "after", proxy.stats()["routes"][0]["requests"], "request")

asyncio.run(main())
