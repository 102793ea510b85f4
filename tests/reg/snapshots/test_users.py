"""Who may be the source: ourselves, root, and who is listed. As root only, since it takes a second user."""

import os
import subprocess
import sys

import pytest

from harness import wait_for
from harness.process import ROOT

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root: two users")
NOBODY = 65534
SOURCE = """
import os, socket, sys
sys.path.insert(0, sys.argv[2])
from harness.source import SnapshotSource
os.setgid(65534)
os.setuid(65534)
source = SnapshotSource(sys.argv[1])
print("listening", flush=True)
while True:
    try:
        conn = source.accept()
        print(conn.snapshot("v1", {"listener": {"web": {"bind": "127.0.0.1:0", "routes": [{"direct_response": {"status": 200, "body": "nobody"}}]}}})["type"], flush=True)
    except (EOFError, ConnectionError):
        print("refused", flush=True)
"""


@pytest.fixture
def foreign(tmp_path):
    """The path of the socket and the output of a source that runs as another user."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    for one in (tmp_path, *tmp_path.parents[:2]):
        if one.stat().st_uid == os.getuid() and str(one) != "/tmp":
            one.chmod(one.stat().st_mode | 0o011)
    # Modules are loaded before the user changes: the tree may be unreadable for him.
    process = subprocess.Popen([sys.executable, "-c", SOURCE, str(folder / "s.sock"), str(ROOT / "tests")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "listening\n"
    yield folder / "s.sock", process.stdout
    process.kill()
    process.wait()


def start(proxy, path, tmp_path, *args):
    return proxy("", run=["--snapshots", f"unix:{path}", "--node", "n", *args], wait=False, env={"XDG_STATE_HOME": str(tmp_path)})


def test_another_user_is_refused(proxy, foreign, tmp_path):
    path, output = foreign
    one = start(proxy, path, tmp_path)
    wait_for(lambda: "uid 65534, which is not allowed" in one.errors)
    assert output.readline() == "refused\n" and one.lines == [] and one.process.poll() is None


def test_a_listed_user_is_not(proxy, foreign, tmp_path):
    path, output = foreign
    one = start(proxy, path, tmp_path, "--source-uid", str(NOBODY))
    assert output.readline() == "ack\n"
    one.wait_ready()
    assert one.get().body == b"nobody"
