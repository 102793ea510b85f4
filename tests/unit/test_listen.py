"""Listening sockets: what they inherit, who else is there, and that a failure leaves nothing open."""

import errno
import os
import socket
import stat

import pytest

from fastproxy.proxy.listen import ListenError, identity, open_sockets, remove_ours


@pytest.fixture
def opened():
    kept = []

    def opened(*args, **options):
        sockets, address = open_sockets(*args, **options)
        kept.extend(sockets)
        return sockets, address
    yield opened
    for sock in kept:
        sock.close()


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0"])
def test_one_socket_for_each_worker(opened, bind):
    sockets, address = opened(bind, 3)
    assert len({sock.getsockname()[1] for sock in sockets}) == 1 and address.rpartition(":")[2] != "0"
    for sock in sockets:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) and sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.getblocking() and not os.get_inheritable(sock.fileno())
        assert sock.family != socket.AF_INET6 or sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_accepted_sockets_inherit(opened):
    (listening,), address = opened("127.0.0.1:0")
    name, port = address.split(":")
    with socket.create_connection((name, int(port))):
        conn, _ = listening.accept()
        with conn:
            assert conn.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) and conn.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_process_on_the_port_is_noticed(opened, workers):
    _, address = opened("127.0.0.1:0", workers)
    before = len(os.listdir("/proc/self/fd"))
    for count in (1, 2):
        with pytest.raises(ListenError, match=f"{address}: another process listens there") as error:
            open_sockets(address, count)
        assert error.value.errno == errno.EADDRINUSE
    assert len(os.listdir("/proc/self/fd")) == before


def test_unix(opened, tmp_path):
    path = tmp_path / "a.sock"
    (first,), address = opened(f"unix:{path}", 4, mode=0o600)
    assert address == f"unix:{path}" and stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ListenError, match="another process listens there"):
        open_sockets(address)
    first.close()  # as after a crash: the file stays, nobody answers
    known = identity(address)
    opened(address, mode=0o660)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660 and list(tmp_path.iterdir()) == [path]
    socket.socket(socket.AF_UNIX).connect(str(path))
    remove_ours(address, known)
    assert path.exists(), "another one's socket"
    remove_ours(address, identity(address))
    assert not path.exists()


def test_unix_refusals(tmp_path):
    file = tmp_path / "file"
    file.write_text("data")
    with pytest.raises(ListenError, match="no socket"):
        open_sockets(f"unix:{file}")
    assert file.read_text() == "data"
    with pytest.raises(ListenError, match="too long"):
        open_sockets(f"unix:{tmp_path}/{'x' * 120}")
    with pytest.raises(ListenError, match="No such file"):
        open_sockets(f"unix:{tmp_path}/absent/a.sock")


def test_an_address_of_another_machine():
    with pytest.raises(ListenError, match="no such address"):
        open_sockets("192.0.2.1:0")
