"""What `fastproxy check` learns by itself: of the machine, and by connecting or binding to addresses."""

import errno
import os
import resource
import select
import socket
import stat
import time

import fastproxy
from fastproxy.proxy import listen

DIAL_S = 1.0
SYSCTLS = {"pipe_max_bytes": "fs/pipe-max-size", "pipe_user_pages": "fs/pipe-user-pages-soft", "somaxconn": "net/core/somaxconn"}


def machine():
    """A sysctl that cannot be read is None."""
    return {"cores": len(os.sched_getaffinity(0)), "max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "reuseport": has_reuseport(),
            "now": time.time(), "installed_at": os.stat(fastproxy.__file__).st_mtime, **{name: sysctl(path) for name, path in SYSCTLS.items()}}


def sysctl(path):
    try:
        with open(f"/proc/sys/{path}") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def has_reuseport():
    try:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        return False
    return True


def dial(addresses):
    """{address: None, or what failed}: connects to all of them at once, and closes again."""
    found, waiting, poll = {}, {}, select.poll()
    for address in dict.fromkeys(addresses):
        family, where = target(address)
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(where)
        except BlockingIOError:
            if family != socket.AF_UNIX:        # of a Unix socket: its queue is full, so somebody listens
                poll.register(sock, select.POLLOUT)
                waiting[sock.fileno()] = address, sock
                continue
        except OSError as error:
            found[address] = error.strerror
        found.setdefault(address)
        sock.close()
    end = time.monotonic() + DIAL_S
    while waiting and (left := end - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            address, sock = waiting.pop(fd)
            poll.unregister(fd)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # Reset: it did stand, and was closed at once, as a tcp listener does that has no endpoint.
            found[address] = os.strerror(code) if code not in (0, errno.ECONNRESET) else None
            sock.close()
    for address, sock in waiting.values():
        found[address] = f"no answer within {DIAL_S:g} s"
        sock.close()
    return found


def target(address):
    """(family, where to connect to); an address for all interfaces is reached on loopback."""
    if listen.is_unix(address):
        return socket.AF_UNIX, address[5:]
    name, port = listen.split(address)
    if ":" in name:
        return socket.AF_INET6, ("::1" if name == "::" else name, port)
    return socket.AF_INET, ("127.0.0.1" if name == "0.0.0.0" else name, port)


def bindable(bind):
    """None, or why nobody can listen there. Leaves nothing behind."""
    if not listen.is_unix(bind):
        try:
            for sock in listen.open_sockets(bind)[0]:
                sock.close()
        except listen.ListenError as error:
            return error.strerror.partition(": ")[2]
        return None
    path = bind[5:]
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return f"there is no directory {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written to"
    if os.path.exists(path):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return "the file there is no socket"
        if listen.answers(path):
            return "another process listens there"
    return None
