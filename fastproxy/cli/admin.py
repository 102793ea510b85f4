"""Finds a proxy's admin address and asks it."""

import functools
import glob
import http.client
import os
import re
import socket
import sys

TIMEOUT_S = 10.0


class NoTarget(Exception):
    """No address was given, and there is none or more than one to be found."""


class Unreachable(Exception):
    """Nobody answers there."""


class Denied(Exception):
    """It answers, and says no."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout_s):
        super().__init__("localhost", timeout=timeout_s)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def asks(command):
    """The exit codes of a command that asks a proxy: 1 it says no, 2 which proxy?, 3 nobody answers."""
    @functools.wraps(command)
    def run(*args, **options):
        try:
            return command(*args, **options)
        except (Denied, NoTarget, Unreachable) as error:
            print(f"fastproxy: {error}", file=sys.stderr)
            return {Denied: 1, NoTarget: 2, Unreachable: 3}[type(error)]
    return run


def find(given=None):
    """The given address, else the environment's, else the well-known socket, else the only one there is."""
    if given or (given := os.environ.get("FASTPROXY_ADMIN")):
        if not re.fullmatch(r"unix:.+|[^:\s]+:\d{1,5}|\[[^]\s]+\]:\d{1,5}", given):
            raise NoTarget(f"`{given}` is no admin address: unix:/path or ip:port")
        return given
    folders = [os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}", "/run", "/run/fastproxy"]
    for folder in folders:
        if os.path.exists(f"{folder}/fastproxy.sock"):
            return f"unix:{folder}/fastproxy.sock"
    patterns = [f"{folders[0]}/fastproxy*.sock", "/run/fastproxy*.sock", "/run/fastproxy/*.sock"]
    found = sorted({path for pattern in patterns for path in glob.glob(pattern)})
    if len(found) == 1:
        return f"unix:{found[0]}"
    raise NoTarget("which proxy? --admin with one of: " + ", ".join(f"unix:{path}" for path in found) if found
                   else "no admin socket found: --admin ADDRESS, as the proxy's configuration has it")


def call(address, path, method="GET", timeout_s=TIMEOUT_S):
    """-> (status, text). Raises Unreachable."""
    if address.startswith("unix:"):
        conn = UnixConnection(address[5:], timeout_s)
    else:
        name, _, port = address.rpartition(":")
        conn = http.client.HTTPConnection(name.strip("[]"), int(port), timeout=timeout_s)
    try:
        conn.request(method, path, headers={"x-fastproxy-admin": "1"} if method == "POST" else {})
        response = conn.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{address}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        conn.close()


def get(address, path, method="GET"):
    """The body of a successful answer. Raises Denied with what another says, or Unreachable."""
    status, text = call(address, path, method)
    if not 200 <= status < 300:
        raise Denied(f"{address}{path}: {status} {text.strip()}")
    return text
