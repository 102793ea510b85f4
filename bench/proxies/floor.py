"""The least that forwarding costs: bench/floor.c. Copies for TCP, splices for bulk."""
from ..native import program as compiled

NAME, ORDER = "floor", 8
PORTS = {"http", "http_unix", "tcp", "bulk"}
MISSING = "a C compiler (Debian package gcc)"


def find():
    return compiled("floor")


def version(program):
    return "this tree's"


def command(program, setup):
    argv = [program]
    for port in setup.ports:
        mode = {"tcp": "tcp", "bulk": "splice"}.get(port, "http")
        argv += [mode, setup.address(port), setup.origin[port]]
    return argv
