"""Listening sockets: opened by the process, handed to the core.

A TCP address gets one SO_REUSEPORT socket per worker, so that the kernel spreads connections. The first of them is bound
without the option and takes it on afterwards: a second process on the port then fails to start, instead of silently taking
every other connection. A Unix path gets one socket for all workers.
"""

import errno
import os
import socket
import stat

BACKLOG = 4096  # capped by net.core.somaxconn, which is 4096 since Linux 5.4


class ListenError(OSError):
    """An address cannot be listened on; the text says which and why."""


def is_unix(bind):
    return bind.startswith("unix:")


def split(bind):
    """('127.0.0.1', 80) of '127.0.0.1:80', ('::1', 80) of '[::1]:80'."""
    name, _, port = bind.rpartition(":")
    return name.strip("[]"), int(port)


def address_of(sock):
    """As it is written in the configuration: '127.0.0.1:80', '[::1]:80', 'unix:/path'."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def open_sockets(bind, count=1, mode=None):
    """Listening, non-blocking sockets and the address with its real port: `count` of them for TCP, one for a Unix path.

    Raises ListenError, and leaves nothing open then. `mode` is of a Unix socket; without it, the umask rules."""
    try:
        if is_unix(bind):
            return [open_unix(bind[5:], mode)], bind
        return open_tcp(bind, count)
    except OSError as error:
        if isinstance(error, ListenError):
            raise
        raise ListenError(error.errno, f"cannot listen on {bind}: {reason(error)}") from error


def reason(error):
    if error.errno == errno.EADDRINUSE:
        return "another process listens there"
    if error.errno == errno.EACCES:
        return "permission denied (a port below 1024 needs CAP_NET_BIND_SERVICE)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return error.strerror or str(error)


def open_tcp(bind, count):
    name, port = split(bind)
    # As bytes, or Python imports the tables of international names for it: a megabyte, and no address needs them.
    family, _, _, _, address = socket.getaddrinfo(name.encode() or b"0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sockets = []
    try:
        for i in range(count):
            sock = tcp_socket(family)
            sockets.append(sock)
            if i:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            if not i:
                address = sock.getsockname()
                if count > 1:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for sock in sockets:
            sock.listen(BACKLOG)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets, address_of(sockets[0])


def tcp_socket(family):
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted sockets inherit these two, which saves two calls for each connection.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 and [::] may both be bound
    return sock


def adopt(fds, count):
    """-> (sockets, late): of another process's listening sockets, which stay its own as well. All of them, since one that is closed
    loses its queue; for TCP at least `count`. The `late` are new among them, and are to listen() when nothing more can go wrong."""
    sockets, late = [], []
    try:
        for fd in fds:
            sockets.append(socket.socket(fileno=os.dup(fd)))
            sockets[-1].setblocking(False)
        if sockets[0].family != socket.AF_UNIX and len(sockets) < count:
            for one in sockets:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            while len(sockets) < count:
                sock = tcp_socket(sockets[0].family)
                sockets.append(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind(sockets[0].getsockname())
                late.append(sock)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets, late


def open_unix(path, mode):
    """Takes the place of a stale socket file at once, never of a living one or of another kind of file."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        found = None
    if found and not stat.S_ISSOCK(found.st_mode):
        raise ListenError(errno.EEXIST, f"cannot listen on unix:{path}: the file there is no socket")
    if found and answers(path):
        raise OSError(errno.EADDRINUSE, "")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    fresh = os.path.join(os.path.dirname(path) or ".", f".{os.urandom(4).hex()}") if found else path
    bound = False
    try:
        sock.bind(fresh)
        bound = True
        if mode is not None:
            os.chmod(fresh, mode)  # nobody can connect before listen()
        sock.listen(BACKLOG)
        if found:
            os.rename(fresh, path)
    except OSError:
        sock.close()
        if bound:
            os.unlink(fresh)
        raise
    return sock


def answers(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
    return True


def identity(bind):
    """Of a socket file, to tell later whether the file at the path is still ours; None for TCP."""
    if not is_unix(bind):
        return None
    found = os.stat(bind[5:])
    return found.st_dev, found.st_ino


def remove_ours(bind, known):
    """Removes the socket file if it is still the one we made."""
    try:
        if known and identity(bind) == known:
            os.unlink(bind[5:])
    except OSError:
        pass
