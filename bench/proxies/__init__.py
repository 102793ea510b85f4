"""One small file per proxy. A file gives:

NAME      how tables call it
PORTS     the listeners that it can do: of "http", "http_unix", "tcp", "bulk", and "routes" for the large table
MISSING   how to get it, said when it is not on this machine
find()    path of the program, or None (it may raise native.Missing with a reason of its own)
version(program)
command(program, setup)   writes what the program needs into setup.dir, returns its argv

Tune it as its own experts would, with one worker (setup.workers), keep-alive and pooling on, the access log off. The
proxy must listen on setup.address(PORT) for each of setup.ports that it can do, and forward to setup.origin[PORT].
"""
import importlib
import pkgutil
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Setup:
    dir: Path
    ports: dict                 # {"http": 18001, ...}: where the proxy listens on 127.0.0.1
    origin: dict                # {"http": "127.0.0.1:1", "http_unix": "unix:/path", "tcp": ..., "bulk": ...}
    workers: int = 1
    routes: int = 0             # > 0: that many clusters, each behind the path prefix /rNNNN/, and only port "http"
    conns: int = 16_000         # most connections that it must hold
    root: bool = False
    single: bool = False        # one process in the foreground, to be run under valgrind
    kept: dict = field(default_factory=dict)

    def address(self, port):
        return f"127.0.0.1:{self.ports[port]}"

    def route_names(self):
        return [f"r{i:04d}" for i in range(self.routes)]

    def write(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return str(path)


def version_of(argv, pattern=r"(\d+\.\d+[\w.+-]*)"):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1) if found else "?"


def load_all():
    """{NAME: module}, fastproxy first and the floor last."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    modules.sort(key=lambda m: (getattr(m, "ORDER", 5), m.NAME))
    return {m.NAME: m for m in modules}
