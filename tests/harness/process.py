"""The proxy as its users run it: a process, a file, two kinds of lines on standard output, signals."""

import json
import os
import pathlib
import re
import resource
import signal
import string
import subprocess
import sys
import threading
import time

from harness.client import RawClient, request
from harness.wait import SCALE, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]


def command():
    """FASTPROXY names another build; else the environment `make build` leaves; else the one that runs the tests."""
    for path in (os.environ.get("FASTPROXY"), ROOT / ".venv/bin/fastproxy", pathlib.Path(sys.executable).parent / "fastproxy"):
        if path and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return None


def debug_build():
    """Whether the command is of a build with assertions: debug, or with a sanitizer."""
    return pathlib.Path(command() or "").parent.parent.name in ("debug", "asan", "tsan")
def alive(pid):
    """Also of a process that is not our child; one that nobody has collected yet is not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Proxy:
    """One running process. `$name` in the configuration stands for a given value, `$dir` for its directory; wrap(argv, directory)
    makes another command line of the usual one. `run`: what `fastproxy run` is given in place of a file."""

    def __init__(self, directory, text, nofile=None, args=(), env=None, wait=True, wrap=None, run=None, **values):
        self.directory, self.values = directory, {"dir": str(directory), **values}
        self.file, self.sockets = directory / "proxy.yaml", directory
        self.write(text)
        self.log = open(directory / "stderr.log", "w+b")
        self.lines, self.addresses, self.ready = [], {}, threading.Event()
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))) if nofile else None
        started = time.monotonic()
        argv = [command(), "run", *(run or ["-c", str(self.file)]), *args]
        self.process = subprocess.Popen(wrap(argv, directory) if wrap else argv, stdout=subprocess.PIPE, stderr=self.log,
                                        preexec_fn=limit, env={**os.environ, **(env or {})}, cwd=directory)
        self.pid, self.killed = self.process.pid, False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if wait:
            self.wait_ready()
            self.ready_after = time.monotonic() - started

    def wait_ready(self):
        try:
            wait_for(lambda: self.ready.is_set() or self.process.poll() is not None, 15, "ready")
            assert self.ready.is_set(), f"exit {self.process.returncode} before ready\n{self.errors}"
        except AssertionError:
            self.process.kill()
            raise

    def read(self):
        for line in self.process.stdout:
            line = line.decode().rstrip("\n")
            self.lines.append(line)
            if match := re.fullmatch(r"listening (\S+) (\S+)", line):
                self.addresses[match[1]] = match[2]
            elif line == "ready":
                self.ready.set()

    def write(self, text, **values):
        """Replace the file at once, as an editor or a deployment does."""
        self.values.update(values)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(string.Template(text).substitute(self.values))
        fresh.replace(self.file)

    def hup(self):
        self.process.send_signal(signal.SIGHUP)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def restart(self, wait=True):
        """A hot restart (SIGUSR2); with `wait` until the new process serves, whose `pid` this has from then on."""
        before, n = self.pid, self.lines.count("ready")
        os.kill(self.pid, signal.SIGUSR2)
        if wait:
            wait_for(lambda: self.lines.count("ready") > n, 10, "the new process serves")
            self.pid = self.stats()["pid"]
            assert self.pid != before
        return before

    def end_restarted(self):
        """Processes that went on in place of the one we started are not our children."""
        if self.pid != self.process.pid and alive(self.pid):
            os.kill(self.pid, signal.SIGTERM)
            try:
                wait_for(lambda: not alive(self.pid), 2)
            except AssertionError:
                os.kill(self.pid, signal.SIGKILL)

    def wait_exit(self, timeout=10.0):
        return self.process.wait(timeout * SCALE)

    def connect(self, name="web", **options):
        return RawClient(self.addresses[name], **options)

    def get(self, target="/", *lines, listener="web", **options):
        """One request on a connection of its own."""
        with self.connect(listener) as client:
            return client.get(target, *lines, **options)

    def exchange(self, raw, method="GET", listener="web"):
        with self.connect(listener) as client:
            client.send(raw)
            return client.response(method)

    def admin(self, path, method="GET", *lines, service="admin"):
        """Over the Unix socket that the configuration has as `unix:$dir/SERVICE.sock`."""
        with RawClient(f"unix:{self.sockets}/{service}.sock") as client:
            client.send(request(method, path, "Connection: close", *lines, name="localhost"))
            return client.response(method)

    def stats(self):
        """The admin socket's /stats."""
        return json.loads(self.admin("/stats").body)

    def metrics(self):
        """{'name{label="value",...}': float} of the admin socket's /metrics."""
        text = self.admin("/metrics").body.decode()
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")}

    def metric(self, name, **labels):
        """The sum of the series of a name whose labels hold these values."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(value for key, value in self.metrics().items() if re.split(r"[{ ]", key)[0] == name and all(w in key for w in wanted))

    @property
    def rss_bytes(self):
        pages = int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def errors(self):
        self.log.flush()
        return (self.directory / "stderr.log").read_text(errors="replace")

    def kill(self):
        """As the kernel does: it is not asked how it ended."""
        self.process.kill()
        self.process.wait()
        self.killed = True

    def stop(self):
        """End it and hold it to account: it drains, or at a second signal ends with what is open; by itself, with code 0, and
        without a report. Debug and sanitizer builds then assert that all that was taken was given back."""
        self.end_restarted()
        for seconds in (0.3, 30):
            if self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(seconds * SCALE)
                except subprocess.TimeoutExpired:
                    pass
        hung = self.process.poll() is None
        if hung:
            self.process.kill()
            self.process.wait()
        self.reader.join(5)
        self.process.stdout.close()
        self.log.close()
        text = (self.directory / "stderr.log").read_text(errors="replace")
        for sign in ("Sanitizer", "runtime error:", "Traceback", "Exception ignored", "assertion failed", "Segmentation"):
            assert sign not in text, f"the proxy wrote:\n{text[-8000:]}"
        assert not hung, f"the proxy did not end\n{text[-4000:]}"
        assert self.process.returncode == 0 or self.killed, f"exit {self.process.returncode}\n{text[-4000:]}"
