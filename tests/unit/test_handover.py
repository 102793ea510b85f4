"""The conversation of a hot restart, with an other side that fails in all ways; counters of several processes added up."""

import asyncio
import os
import socket

import pytest
from msgspec import msgpack

import fastproxy
from fastproxy.proxy import handover, listen, metrics

CONFIG = {"listeners": [{"name": "web", "bind": "127.0.0.1:0", "routes": [{"direct_response": {"status": 200, "body": ""}}]}]}


class Process:
    """As much of main.Process as hand_over looks at."""

    def __init__(self, proxy):
        self.proxy, self.stays, self.gone, self.reporting, self.drained = proxy, False, False, None, asyncio.Event()

    def snapshot(self):
        return ()


def failing(answer, monkeypatch, start_s=10.0):
    """What hand_over says when the other side, given what it got, answers so. The proxy goes on."""
    monkeypatch.setattr(handover, "START_S", start_s)

    async def main():
        async with fastproxy.Proxy.from_config(CONFIG) as proxy:
            process = Process(proxy)
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            asyncio.get_running_loop().call_later(0.05, answer, theirs)
            with ours, theirs, pytest.raises(handover.Failed) as failed:
                await handover.hand_over(process, ours)
            assert not process.gone and not proxy.draining
            await asyncio.open_connection(*proxy.addresses["web"].split(":"))
            return str(failed.value)
    return asyncio.run(main())


def test_what_a_new_process_may_do(monkeypatch):
    assert failing(lambda sock: sock.close(), monkeypatch) == "the new process has ended"
    assert failing(lambda sock: None, monkeypatch, 0.3) == "the new process does not serve after 0.3 s"
    assert failing(lambda sock: sock.sendall(handover.framed(handover.Answer(why="no port"))), monkeypatch) == "no port"
    assert "Expected" in failing(lambda sock: sock.sendall(handover.framed([1, 2])), monkeypatch)
    assert failing(lambda sock: sock.sendall(b"\0\0\0\1\xc1"), monkeypatch)


def inherit(monkeypatch, say):
    """Inherited.receive() of a pair at whose other end `say` has sent something."""
    ours, theirs = socket.socketpair()
    with theirs:
        say(theirs)
        theirs.shutdown(socket.SHUT_WR)
        monkeypatch.setenv(handover.VARIABLE, str(ours.detach()))
        return handover.Inherited.receive()


def test_what_an_old_process_may_send(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        offer = handover.Offer("listener", "web", "127.0.0.1:0", "127.0.0.1:1", (), 1)
        hello = handover.framed(handover.Hello(handover.PROTOCOL, 3, False, [offer]))
        got = inherit(monkeypatch, lambda to: (socket.send_fds(to, [hello[:1]], [sock.fileno()]), to.sendall(hello[1:])))
        assert got.hello.restarts == 3 and handover.VARIABLE not in os.environ and not os.get_inheritable(got.sock.fileno())
        (one,) = got.listeners
        assert os.path.samestat(os.fstat(one.fds[0]), os.fstat(sock.fileno())) and not os.get_inheritable(one.fds[0])
        assert one.fits("web", "127.0.0.1:0") and one.fits("other", "127.0.0.1:1") and not one.fits("other", "127.0.0.1:0")
        os.close(one.fds[0])
        got.sock.close()
    for wrong, why in ((lambda to: to.sendall(hello), "descriptors are missing"), (lambda to: to.sendall(hello[:9]), "has ended"),
                       (lambda to: to.sendall(handover.framed(handover.Hello(99, 0, False, []))), "protocol 99"), (lambda to: to.sendall(handover.framed(7)), "Expected")):
        with pytest.raises(ValueError, match=why):
            inherit(monkeypatch, wrong)
    for value in ("x", "99999", str(os.open("/dev/null", os.O_RDONLY))):
        monkeypatch.setenv(handover.VARIABLE, value)
        with pytest.raises(ValueError, match="no socket of a process before this one"):
            handover.Inherited.receive()


def test_more_sockets_than_were_handed_over():
    """They join the group of the first when they listen, which is the last thing that is done."""
    (first,), address = listen.open_sockets("127.0.0.1:0")
    sockets, late = listen.adopt([first.fileno()], 3)
    assert len(sockets) == 3 and sockets[1:] == late and {listen.address_of(sock) for sock in sockets} == {address}
    assert [sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in sockets] == [1, 0, 0]
    for sock in late:
        sock.listen()
    for sock in (first, *sockets):
        sock.close()


def test_counters_travel_and_add_up():
    from stand_in import Proxy
    proxy = Proxy(routes=2)
    once = metrics.collect(proxy)
    proxy.before = handover.unpacked(msgpack.decode(msgpack.encode(handover.packed(once))))
    proxy.before["series"]["gone", "route", "cluster"] = proxy.before["series"]["web", 'route "1"\\', "app"]
    twice = metrics.collect(proxy)
    one, two = (found["series"]["web", 'route "2"\\', "app"] for found in (once, twice))
    assert two["requests"] == 2 * one["requests"] and two["status"] == [2 * n for n in one["status"]]
    assert two["duration"]["count"] == 2 * one["duration"]["count"] and two["duration"]["buckets"] == [(bound, 2 * n) for bound, n in one["duration"]["buckets"]]
    assert twice["series"]["gone", "route", "cluster"]["requests"] == 1000
    assert twice["listeners"]["web"]["accepted"] == 10 and twice["listeners"]["web"]["active"] == once["listeners"]["web"]["active"] == 2
    ends = twice["clusters"]["app"]["endpoints"][0]
    assert ends["connects"] == twice["clusters"]["app"]["connects"] == 6 and ends["in_flight"] == 1
    assert twice["clusters"]["app"]["connect"]["count"] == 6 and twice["errors"]["no_route"] == 8 and twice["reloads"] == {"ok": 4, "error": 2}
    assert twice["workers"][0]["loops"] == 18 and twice["workers"][0]["memory_bytes"] == 4096
    assert 'fastproxy_requests_total{listener="gone"' in metrics.prometheus(proxy)
