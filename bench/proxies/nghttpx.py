"""nghttpx: one worker. It chooses upstreams by request, not by port, so the Unix-socket scenario is not for it."""
import os
import shutil

from . import version_of

NAME = "nghttpx"
PORTS = {"http", "routes"}
MISSING = "Debian package nghttp2-proxy"


def find():
    return shutil.which("nghttpx", path=os.environ.get("PATH", "") + ":/usr/sbin")


def version(program):
    return version_of([program, "--version"])


def command(program, setup):
    to = setup.origin["http"].replace(":", ",")
    lines = [f"frontend=127.0.0.1,{setup.ports['http']};no-tls", f"workers={setup.workers}",
             
             f"errorlog-file={setup.dir}/nghttpx.log", f"pid-file={setup.dir}/nghttpx.pid", "backlog=4096",
             "frontend-keep-alive-timeout=1h", "backend-keep-alive-timeout=1h", "no-ocsp=yes",
             f"worker-frontend-connections={setup.conns}"]
    if setup.single:
        lines += ["single-process=yes"]
    lines += [f"backend={to};/{r}/" for r in setup.route_names()] + [f"backend={to};/"]
    return [program, "--conf", setup.write("nghttpx.conf", "\n".join(lines) + "\n")]
