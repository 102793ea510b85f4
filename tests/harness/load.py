"""Many clients and slow origins in one event loop, where a thread for each would be what is measured."""

import asyncio
import time

from harness.client import request


class Timed(asyncio.Protocol):
    """An origin that answers each request after a time; `number` comes back as X-Number."""

    def __init__(self, seconds, number=0):
        self.seconds, self.answer = seconds, b"HTTP/1.1 200 OK\r\nX-Number: %02d\r\nContent-Length: 0\r\n\r\n" % number

    def connection_made(self, link):
        self.link = link

    def data_received(self, data):
        asyncio.get_running_loop().call_later(self.seconds, self.link.write, self.answer)


class Client(asyncio.Protocol):
    """n requests one after the other; notes (X-Number, seconds) of each."""

    def __init__(self, seen, n):
        self.seen, self.left, self.done = seen, n, asyncio.get_running_loop().create_future()

    @classmethod
    async def start(cls, address, seen, n):
        """A future that is done with the last answer."""
        name, _, port = address.rpartition(":")
        _, client = await asyncio.get_running_loop().create_connection(lambda: cls(seen, n), name, int(port))
        return client.done

    def connection_made(self, link):
        self.link = link
        self.ask()

    def ask(self):
        self.start_s = time.monotonic()
        self.link.write(request())

    def data_received(self, data):
        self.seen.append((int(data.partition(b"X-Number: ")[2][:2]), time.monotonic() - self.start_s))
        self.left -= 1
        self.ask() if self.left else self.link.close()

    def connection_lost(self, error):
        self.done.set_exception(ConnectionError(error)) if self.left else self.done.set_result(None)
