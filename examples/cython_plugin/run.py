"""The filter and the balancer at work: two origins, the proxy in front of them, and what it made of some requests.

    pip install ./examples/cython_plugin && python examples/cython_plugin/run.py
"""

import asyncio

from fastproxy import Proxy

CONFIG = """\
workers: 2
listeners:
  - {name: web, bind: "127.0.0.1:0", filters: [example-key], routes: [{cluster: app}]}
clusters:
  - {name: app, balance: {name: example-fill}, endpoints: [ORIGINS]}
"""


async def origin(name, reader, writer):
    """Says its name and whose request it is; /slow takes a while."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        if head.startswith(b"GET /slow"):
            await asyncio.sleep(0.5)
        tenant = next((line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"x-tenant")), b"nobody")
        body = b"%s for %s" % (name.encode(), tenant)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


async def fetch(address, path="/", *fields):
    """(status, body)"""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write("\r\n".join([f"GET {path} HTTP/1.1", "Host: app", "Connection: close", *fields, "", ""]).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.decode()


async def main(folder):
    async def serve(name):
        async def on_connection(reader, writer):
            try:
                await origin(name, reader, writer)
            except (asyncio.IncompleteReadError, asyncio.CancelledError):  # the conn ended, or the program
                writer.close()
        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        return '"127.0.0.1:%d"' % server.sockets[0].getsockname()[1]

    file = folder / "proxy.yaml"
    file.write_text(CONFIG.replace("ORIGINS", f"{await serve('first')}, {await serve('second')}"))
    async with Proxy.from_file(file) as proxy:  # the names in it are enough to have the extension imported
        web, key = proxy.addresses["web"], "X-Api-Key: sesame"
        print("without the key     ", (await fetch(web))[0])
        print("with a wrong one    ", (await fetch(web, "/", "X-Api-Key: barley"))[0])
        for _ in range(3):
            print("with the key        ", *await fetch(web, "/", key))
        slow = asyncio.ensure_future(fetch(web, "/slow", key))
        await asyncio.sleep(0.2)
        print("while first is busy ", *await fetch(web, "/", key))
        print("the slow one        ", *await slow)
    import fastproxy_example
    print("passed, refused     ", *fastproxy_example.counts())


if __name__ == "__main__":
    import pathlib
    import tempfile
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(pathlib.Path(made)))
