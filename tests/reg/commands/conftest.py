"""`cli(...)` runs the command against a proxy, or none: no variable of the environment leads it to another one."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from harness.process import command
from harness.wait import SCALE


@pytest.fixture
def cli(tmp_path):
    """cli(*argv, at=Proxy) -> code, out, err; `json` of what it printed."""
    env = {name: value for name, value in os.environ.items() if name != "FASTPROXY_ADMIN"} | {"XDG_RUNTIME_DIR": str(tmp_path)}

    def run(*argv, at=None, **more):
        target = ["--admin", f"unix:{at.directory}/admin.sock"] if at else []
        done = subprocess.run([command(), *argv, *target], capture_output=True, text=True, timeout=60 * SCALE, env=env | more, cwd=tmp_path)
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr, json=lambda: json.loads(done.stdout))
    return run
