"""It needs no privilege and writes nowhere but where it is told: an unprivileged user with a read-only root (I17)."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from harness.process import ROOT, command

# A user and mount namespace of its own: all is read-only but one directory, then every capability is dropped for good.
SCRIPT = 'mount -t tmpfs tmpfs "$1" && mount -o remount,bind,ro / && cd "$1" && shift && exec unshare --user --map-user=1000 --map-group=1000 "$@"'
INSIDE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"]
CONFIG = """
admin: unix:admin.sock
listeners:
  - {{name: web, bind: "127.0.0.1:0", routes: [{{direct_response: {{status: 200, body: "{version}"}}}}]}}
  - {{name: app, bind: "unix:app.sock", routes: [{{direct_response: {{status: 200, body: "{version}"}}}}]}}
"""
# Within: write a configuration, serve, look at oneself, reload, drain.
STORY = """
set -eu
grep -q '^CapEff:[[:space:]]*0000000000000000$' /proc/self/status
! touch /refused 2>/dev/null
cp {source}/0.yaml proxy.yaml
{command} run -c proxy.yaml > out 2> err & proxy=$!
until grep -q '^ready' out; do kill -0 $proxy; sleep 0.02; done
grep '^Uid:' /proc/$proxy/status
cp {source}/1.yaml fresh && mv fresh proxy.yaml && kill -HUP $proxy
until grep -q ' reloaded' err; do sleep 0.02; done
{command} stat --admin unix:admin.sock
kill -TERM $proxy && wait $proxy
cat err
echo exit $?
"""


@pytest.fixture
def inside(tmp_path):
    """inside(*argv) runs it there; its working directory is the one that can be written to."""
    if not shutil.which("unshare") or subprocess.run([*INSIDE, tmp_path, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    (tmp_path / "room").mkdir()
    return lambda *argv, **options: subprocess.run([*INSIDE, tmp_path / "room", *argv], capture_output=True, text=True, **options)


def test_it_serves_reloads_and_drains(inside, tmp_path):
    for version in "01":
        (tmp_path / f"{version}.yaml").write_text(CONFIG.format(version=version))
    out = inside("sh", "-c", STORY.format(source=tmp_path, command=command()), timeout=60, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
    assert out.returncode == 0 and out.stdout.splitlines()[-1] == "exit 0", (out.stdout, out.stderr)
    assert re.search(r"^Uid:\s+1000", out.stdout) and "admin on unix:" in out.stdout and "LISTENER" in out.stdout
    assert not re.search("WARNING|ERROR|Traceback", out.stdout)


@pytest.mark.soak
def test_the_whole_suite(inside, tmp_path):
    tests = [str(ROOT / "tests" / name) for name in ("reg", "adversity", "unit")]
    out = inside(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=t", f"--rootdir={ROOT}", "-c", ROOT / "pyproject.toml", *tests,
                 env={**os.environ, "HOME": "/nonexistent", "TMPDIR": str(tmp_path / "room")})
    print(out.stdout[-3000:])
    assert out.returncode == 0, out.stdout[-6000:] + out.stderr[-2000:]
