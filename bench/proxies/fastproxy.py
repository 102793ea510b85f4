"""fastproxy with its defaults: every safety, timeout and counter on."""
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from . import version_of

NAME, ORDER = "fastproxy", 0
PORTS = {"http", "http_unix", "tcp", "bulk", "routes"}
MISSING = "run `make build` (leaves .venv/bin/fastproxy), or set FASTPROXY to the command"
ACCESS_LOG = False              # a JSON line for each request, for `python -m bench log`
ROOT = Path(__file__).resolve().parents[2]


def find():
    given = os.environ.get("FASTPROXY")
    if given:
        return given if Path(given).exists() else None
    beside = ROOT / ".venv" / "bin" / "fastproxy"
    if beside.exists():
        return str(beside)
    try:
        if importlib.util.find_spec("fastproxy._core"):
            return sys.executable
    except ImportError:
        pass
    return shutil.which("fastproxy")


def argv_of(program):
    return [program, "-m", "fastproxy"] if os.path.basename(program).startswith("python") else [program]


def version(program):
    return version_of([*argv_of(program), "--version"])


def command(program, setup):
    lines = [f"workers: {setup.workers}", "listeners:"]
    if setup.routes:
        lines += ["  - name: http", f"    bind: {setup.address('http')}", "    protocol: http", "    routes:"]
        lines += [f"      - {{match: {{path_prefix: /{r}}}, cluster: {r}}}" for r in setup.route_names()]
        lines += ["clusters:"]
        lines += [f"  - {{name: {r}, endpoints: [\"{setup.origin['http']}\"]}}" for r in setup.route_names()]
    else:
        for port in setup.ports:
            http = port.startswith("http")
            lines += [f"  - name: {port}", f"    bind: {setup.address(port)}", f"    protocol: {'http' if http else 'tcp'}",
                      *(["    access_log: {path: access.log, json: true}"] if ACCESS_LOG else []),
                      f"    routes: [{{cluster: {port}}}]" if http else f"    cluster: {port}"]
        lines += ["clusters:"]
        lines += [f"  - {{name: {port}, endpoints: [\"{setup.origin[port]}\"]}}" for port in setup.ports]
    return [*argv_of(program), "run", "-c", setup.write("fastproxy.yaml", "\n".join(lines) + "\n")]
