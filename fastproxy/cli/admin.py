"""Finds a proxy's admin address and asks it."""

import glob
import http.client
import os
import socket

TIMEOUT_S = 10.0


class NoTarget(Exception):
    """No address was given, and there is none or more than one to be found."""


class Unreachable(Exception):
    """Nobody answers there."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT_S)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self.path)


def find(given=None):
    """The given address, else the environment's, else the well-known socket, else the only one there is."""
    if given or (given := os.environ.get("FASTPROXY_ADMIN")):
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


def get(address, path):
    """The body of a successful answer."""
    if address.startswith("unix:"):
        conn = UnixConnection(address[5:])
    else:
        name, _, port = address.rpartition(":")
        conn = http.client.HTTPConnection(name.strip("[]"), int(port) if port.isdigit() else 80, timeout=TIMEOUT_S)
    try:
        conn.request("GET", path)
        response = conn.getresponse()
        text = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{address}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        conn.close()
    if response.status != 200:
        raise Unreachable(f"{address}{path}: {response.status} {text.strip()}")
    return text
