"""`load(proxy)`: requests until it is left, of which none may fail; `named(...)`: a DNS server."""

import contextlib
import threading

import pytest

from harness import DnsServer, RawClient


@pytest.fixture
def load():
    @contextlib.contextmanager
    def run(proxy, target="/", clients=3):
        """Yields a list of (X-Name or body, status) of what was answered; each client keeps its connection but for the last."""
        ending, seen, faults = threading.Event(), [], []

        def client(keep):
            try:
                link = None
                while not ending.is_set():
                    if link is None or not keep:
                        if link:
                            link.sock.close()
                        link = RawClient(proxy.addresses["web"])
                    reply = link.get(target, *([] if keep else ["Connection: close"]))
                    seen.append((bytes(reply.body), reply.status))
                link.sock.close()
            except Exception as fault:
                faults.append(fault)

        threads = [threading.Thread(target=client, args=(i < clients - 1,)) for i in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        assert not faults, faults
        assert seen and {status for _, status in seen} == {200}
    return run


@pytest.fixture
def named():
    made = []

    def make(**names):
        """named(app=(ttl, [address, ...])): the name app.test."""
        made.append(DnsServer({f"{name}.test": found for name, found in names.items()}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def saying(origin):
    """saying(b"a", ...) -> an origin whose body is that."""
    from harness import answering

    def make(body, **options):
        return origin(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)), **options)
    return make
