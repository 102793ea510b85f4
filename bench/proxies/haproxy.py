"""HAProxy: one thread, upstream conns always re-used, room for a 16 KiB body in one read, splice for what is larger."""
import os
import shutil

from . import version_of

NAME = "haproxy"
PORTS = {"http", "http_unix", "tcp", "bulk", "routes"}
MISSING = "Debian package haproxy"


def find():
    return shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")


def version(program):
    return version_of([program, "-v"])


def command(program, setup):
    parts = [f"""
global
    nbthread {setup.workers}
    maxconn {setup.conns}
    no strict-limits
    tune.bufsize 32768
    tune.pipesize 1048576
    tune.pool-high-fd-ratio 60
    tune.pool-low-fd-ratio 50
defaults
    mode http
    maxconn {setup.conns}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    http-reuse always
    option splice-response
"""]

    def origin(port):
        return setup.origin[port].replace("unix:", "unix@")

    if setup.routes:
        parts.append(f"frontend web\n    bind {setup.address('http')} backlog 4096\n    use_backend %[path,field(2,/)]\n")
        parts += [f"backend {r}\n    server s {origin('http')}\n" for r in setup.route_names()]
    else:
        for port in setup.ports:
            mode = "http" if port.startswith("http") else "tcp"
            parts.append(f"frontend {port}_in\n    mode {mode}\n    bind {setup.address(port)} backlog 4096\n"
                         f"    default_backend {port}_out\n"
                         f"backend {port}_out\n    mode {mode}\n    server s {origin(port)}\n")
    return [program, "-db", "-q", "-f", setup.write("haproxy.cfg", "".join(parts))]
