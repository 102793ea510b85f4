"""`run -- COMMAND`: it starts when the proxy serves, and its end is ours, with its exit code (I7, I8)."""

import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness import SnapshotSource, wait_for
from harness.client import request
from harness.origin import OK
from harness.process import alive

CONFIG = """
admin: unix:$dir/admin.sock
drain_timeout: $drain
drain_grace: 200ms
listeners:
  - {name: web, bind: "unix:$dir/web.sock", routes: [{match: {path: /own}, direct_response: {status: 200, body: "served"}}, {cluster: app}]}
clusters:
  - {name: app, endpoints: ["$app"]}
"""
GIVEN = {"drain": "20s", "app": "127.0.0.1:1"}
# Connects as the first thing that it does, says what it got, then does the rest.
FIRST = """
import os, signal, socket, sys, time
def ask():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect("web.sock")
    sock.sendall(b"GET /own HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
    return b"".join(iter(lambda: sock.recv(65536), b"")).rpartition(b"\\n")[2].decode()
def say(*words):
    print(*words, flush=True)
"""


def python(text):
    return ("--", sys.executable, "-S", "-c", FIRST + text)


@pytest.fixture
def start(proxy):
    """start(text of the command, in Python) -> the proxy, when the command has said `up`."""
    def start(text, config=CONFIG, **options):
        one = proxy(config, **{**GIVEN, **options}, args=python(text))
        wait_for(lambda: "up" in one.lines, 10, "the command is up")
        return one
    return start


@pytest.fixture
def ended(proxy):
    """ended(*args) -> (exit code, the proxy)."""
    def ended(*args, **options):
        one = proxy(CONFIG, **GIVEN, args=args, wait=False, **options)
        code, one.process.returncode = one.wait_exit(), 0
        one.reader.join(5)
        return code, one
    return ended


def left(one):
    """Processes of the command, by its working directory."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and alive(int(pid)) and cwd(pid) == str(one.directory)]


def cwd(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def test_its_first_connect_succeeds(ended):
    code, one = ended(*python("say(ask()); sys.exit(7)"))
    assert code == 7 and one.lines[-2:] == ["ready", "served"]
    assert not (one.directory / "web.sock").exists()


def test_exit_codes(ended):
    """As of a shell: 128+n of what signal n killed, 127 and 126 of what could not be started."""
    assert ended(*python("os.kill(os.getpid(), 9)"))[0] == 137
    code, one = ended("--", "no-such-command", "-x")
    assert code == 127 and "fastproxy: no-such-command: no such command\n" in one.errors and one.lines[-1] == "ready"
    code, one = ended("--", "/dev/null")
    assert code == 126 and "fastproxy: /dev/null: Permission denied\n" in one.errors


def test_it_is_not_started_without_us(ended):
    code, one = ended("--bad", "--", "touch", "started")
    assert code == 2
    code, one = ended("--")
    assert code == 2 and "no command after --" in one.errors
    code, one = ended("-t", "--", "touch", "started")
    assert code == 2 and not (one.directory / "started").exists()


def test_its_end_drains(proxy, origin):
    """What runs when it ends is finished; new clients are refused."""
    go = threading.Event()
    app = origin(lambda conn: (conn.request(), go.wait(10), conn.send(OK)))
    one = proxy(CONFIG, **{**GIVEN, "app": app.address}, args=python("sys.stdin.readline(); sys.exit(3)"),
                wrap=lambda argv, _: ["sh", "-c", 'exec "$@" < input', "sh", *argv] if os.mkfifo(_ / "input") is None else None, wait=False)
    with open(one.directory / "input", "w") as stdin:
        one.wait_ready()
        one.addresses["web"] = f"unix:{one.directory}/web.sock"
        with one.connect() as client:
            client.send(request())
            app.wait_requests(1)
            stdin.write("end\n")
            stdin.flush()
            wait_for(lambda: b"draining" in one.admin("/ready").body, 5)
            assert one.process.poll() is None
            go.set()
            assert client.response().body == b"ok\n"
    code, one.process.returncode = one.wait_exit(), 0
    assert code == 3


def test_sigterm_goes_to_it_and_it_is_served(start):
    """It hears the signal first, and the proxy serves it until it has ended."""
    one = start("signal.signal(15, lambda *_: (say('TERM'), time.sleep(0.3), say(ask()), os._exit(4))); say('up'); time.sleep(60)")
    one.terminate()
    assert one.wait_exit() == 4
    one.process.returncode = 0
    one.reader.join(5)
    assert one.lines[-2:] == ["TERM", "served"] and one.errors.count("draining") == 1


def test_one_that_does_not_end(start):
    """drain_timeout bounds it."""
    one = start("signal.signal(15, signal.SIG_IGN); say('up'); time.sleep(60)", drain="500ms")
    began = time.monotonic()
    one.terminate()
    assert one.wait_exit() == 137 and time.monotonic() - began >= 0.5
    one.process.returncode = 0
    assert not left(one)


def test_a_second_sigterm_ends_both(start):
    one = start("signal.signal(15, lambda *_: say('TERM')); say('up'); [time.sleep(1) for _ in range(60)]")
    one.terminate()
    wait_for(lambda: one.lines[-1] == "TERM", 5)
    one.terminate()
    assert one.wait_exit(5) == 137
    one.process.returncode = 0
    assert not left(one)


def test_signals_that_are_its_own(start):
    """SIGUSR1 and SIGQUIT are passed on; SIGHUP reloads the proxy, and does not end a program that does not expect it."""
    one = start("[signal.signal(n, lambda n, _: say('got', n)) for n in (3, 10)]; signal.signal(2, signal.SIG_DFL); say('up'); [time.sleep(0.1) for _ in range(600)]")
    for number in (signal.SIGUSR1, signal.SIGQUIT):
        one.process.send_signal(number)
        wait_for(lambda: one.lines[-1] == f"got {int(number)}", 5)
    one.hup()
    wait_for(lambda: "reloaded (SIGHUP)" in one.errors, 5)
    one.process.send_signal(signal.SIGINT)      # sent to us alone
    assert one.wait_exit() == 130
    one.process.returncode = 0


def test_it_inherits_what_a_program_expects(ended):
    """Standard streams, default signals, no descriptor of ours."""
    code, one = ended(*python("""
say(sorted(fd for fd in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + fd)))
say(*(line for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn'))))
say([name for name in os.environ if 'HANDOVER' in name])
print('to standard error', file=sys.stderr)
"""))
    assert code == 0 and "['0', '1', '2']" in one.lines and "to standard error" in one.errors and one.lines[-1] == "[]", one.lines
    masks = {name: int(mask, 16) for name, mask in (line.split(":\t") for line in one.lines if "Sig" in line for line in [line.strip()])}
    ignored = {number for number in range(1, 65) if masks["SigIgn"] >> number - 1 & 1}
    assert masks["SigBlk"] == 0 and ignored <= {13, 25, 32, 33}     # the first two by Python, which it is; the others are the C library's own


def test_ctrl_c_reaches_it_once(proxy, tmp_path):
    """The terminal sends it to both; the command decides what becomes of it."""
    config = tmp_path / "proxy.yaml"
    config.write_text(CONFIG.replace("$dir", str(tmp_path)).replace("$drain", "20s").replace("$app", "127.0.0.1:1"))
    text = FIRST + """
n = []
def on(*_):
    n.append(1)
    say('INT', len(n))
    if len(n) == 2: sys.exit(6)
signal.signal(2, on)
say('up')
while True: time.sleep(0.01)
"""
    from harness.process import command
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(command(), [command(), "run", "-c", str(config), "--", sys.executable, "-S", "-c", text])
    seen = bytearray()

    def read():
        try:
            while data := os.read(terminal, 4096):
                seen.extend(data)
        except OSError:
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_for(lambda: b"up" in seen, 10, "the command is up")
    os.write(terminal, b"\x03")
    wait_for(lambda: b"INT 1" in seen, 5)
    time.sleep(0.2)
    assert b"INT 2" not in seen and b"draining" not in seen
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    reader.join(5)
    assert os.waitstatus_to_exitcode(status) == 6 and b"INT 3" not in seen, bytes(seen)


def test_a_hot_restart_keeps_it(start):
    """The first process stays: it is the command's parent, and has its exit code."""
    one = start("signal.signal(15, lambda *_: (say(ask()), os._exit(5))); say('up', os.getpid()) or say('up'); time.sleep(60)")
    first, (said,) = one.pid, [line for line in one.lines if line.startswith("up ")]
    one.restart()
    assert alive(int(said.split()[1])) and one.process.poll() is None and one.lines.count("up") == 1
    os.kill(first, signal.SIGTERM)
    assert one.wait_exit() == 5 and not alive(one.pid)
    one.process.returncode = 0
    one.reader.join(5)
    assert "served" in one.lines and not (one.directory / "web.sock").exists()


def test_with_snapshots(proxy, tmp_path):
    """It starts once there is something to serve."""
    source = SnapshotSource(tmp_path / "source.sock")
    try:
        one = proxy(CONFIG, **GIVEN, wait=False, env={"XDG_STATE_HOME": str(tmp_path)}, run=["--snapshots", f"unix:{source.path}", "--node", "n"],
                    args=python("say(ask()); sys.exit(8)"))
        conn = source.accept()
        conn.snapshot("1", {"listener": {"web": {"bind": f"unix:{one.directory}/web.sock", "routes": [{"direct_response": {"status": 200, "body": "served"}}]}}})
        assert one.wait_exit() == 8
        one.process.returncode = 0
        one.reader.join(5)
        assert one.lines[-2:] == ["ready", "served"]
    finally:
        source.close()


def namespaces():
    flags = ("--pid", "--fork", "--mount-proc")
    return shutil.which("unshare") and subprocess.run(["unshare", *flags, "true"], capture_output=True).returncode == 0


def children(pid):
    return [int(one) for one in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not namespaces(), reason="no PID namespaces here: not root, or not permitted")
@pytest.mark.parametrize("restarts", [0, 1])
def test_as_pid_1(proxy, restarts):
    """In a container: it collects what its command leaves behind, tells it to end when the command has ended, and passes on its code."""
    behind = "import os, signal, time; signal.signal(15, lambda *_: (open('told', 'w').close(), os._exit(0))); open('behind', 'w').close(); time.sleep(60)"
    text = f"""
if os.fork() == 0:
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, '-S', '-c', {behind!r}])
    os._exit(0)
os.wait()
signal.signal(15, lambda *_: (say(ask()), os._exit(9)))
say('up')
time.sleep(60)
"""
    one = proxy(CONFIG, **GIVEN, args=python(text), wrap=lambda argv, _: ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", *argv])
    wait_for(lambda: "up" in one.lines, 10)
    (init,) = children(one.pid)
    wait_for(lambda: len(children(init)) == 2 and (one.directory / "behind").exists(), 5, "what lost its parent is PID 1's")
    if restarts:
        one.pid, outer = init, one.pid
        os.kill(init, signal.SIGUSR2)
        wait_for(lambda: one.lines.count("ready") == 2, 10)
        assert len(children(init)) == 3 and one.stats()["pid"] != 1
        one.pid = outer
    os.kill(init, signal.SIGTERM)
    assert one.wait_exit() == 9
    one.process.returncode = 0
    one.reader.join(5)
    assert "served" in one.lines and (one.directory / "told").exists()
    assert not re.search("Traceback", one.errors)
