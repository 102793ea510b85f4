"""The access log: records leave the workers through rings; here they become lines, and threads write them to files.

A worker never waits. The loop reads the rings every POLL_S while there is something in them, and otherwise sleeps until a
worker wakes it. A thread a file writes, so that a slow disk or a full pipe holds up nobody; what it cannot take is dropped and counted.
"""

import collections
import logging
import os
import signal
import threading
import time

from fastproxy._core import LOG_OPS, LogFormat

log = logging.getLogger("fastproxy.process")
POLL_S = 0.02
QUIET_POLLS = 5                 # without a record before it sleeps
BACKLOG_BYTES = 16 << 20        # of lines that wait for one file
CLOSE_S = 5.0                   # for what waits, at the end
STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}


class File:
    """Appends to one path in a thread of its own."""

    def __init__(self, path):
        self.path = path
        self.chunks, self.waiting = collections.deque(), 0
        self.dropped_bytes = 0
        self.ready, self.lock = threading.Semaphore(0), threading.Lock()
        self.fd = self.open()
        self.thread = threading.Thread(target=self.run, name="access-log", daemon=True)
        self.thread.start()

    def open(self):
        if self.path in STANDARD:
            return STANDARD[self.path]
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)

    def reopen(self):
        """After a rotation: what is written from here on goes to the path as it is now."""
        if self.path in STANDARD or self.in_place():
            return
        try:
            fresh = self.open()
        except OSError as error:
            log.error("access log %s: not opened again: %s", self.path, error.strerror)
            return
        with self.lock:
            old, self.fd = self.fd, fresh
        os.close(old)

    def in_place(self):
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except OSError:
            return False

    def write(self, data):
        if self.waiting + len(data) > BACKLOG_BYTES:
            self.dropped_bytes += len(data)
            return
        self.waiting += len(data)
        self.chunks.append(data)
        self.ready.release()

    def run(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())    # they are the main thread's
        failed = None
        while True:
            self.ready.acquire()
            data = self.chunks.popleft()
            if data is None:
                return
            view = memoryview(data)
            while view:
                try:
                    with self.lock:
                        view = view[os.write(self.fd, view):]
                    failed = None
                except BlockingIOError:
                    time.sleep(POLL_S)  # somebody made our standard output non-blocking
                except OSError as error:
                    if failed != error.errno:
                        log.error("access log %s: %s", self.path, error.strerror)
                    failed = error.errno
                    self.dropped_bytes += len(view)
                    break
            self.waiting -= len(data)

    def close(self):
        self.chunks.append(None)
        self.ready.release()
        self.thread.join(CLOSE_S)
        if self.path not in STANDARD and not self.thread.is_alive():
            os.close(self.fd)


class AccessLog:
    """All access logs of one proxy. `update` before a configuration is applied, `close` after the core is closed."""

    def __init__(self, core, series, loop):
        self.core, self.series, self.loop = core, series, loop
        self.formats, self.paths, self.files = [], [], {}     # LogFormat and path by number; path -> File
        self.names, self.timer, self.fd, self.quiet = [], None, None, 0
        self.records = 0

    def update(self, logs):
        """`logs`: [(path, Format)] by number, as compile numbers them; more than before, or the same. OSError if a file
        cannot be opened: nothing has changed."""
        for path, _ in logs[len(self.paths):]:
            if path not in self.files:
                try:
                    self.files[path] = File(path)
                except OSError as error:
                    raise OSError(error.errno, f"access log {path}: {error.strerror}") from error
        for path, made in logs[len(self.paths):]:
            steps = [(LOG_OPS[op], *rest) for op, *rest in made.steps]
            self.formats.append(LogFormat(steps))
            self.paths.append(path)
        if self.formats and self.fd is None:
            self.fd = self.core.open_log()
            self.loop.add_reader(self.fd, self.on_wake)
            self.sleep()

    def reopen(self):
        for one in self.files.values():
            one.reopen()

    def on_wake(self):
        os.eventfd_read(self.fd)
        if self.timer is None:
            self.quiet = 0
            self.poll()

    def poll(self):
        self.timer = None
        self.quiet = 0 if self.read() else self.quiet + 1
        if self.quiet < QUIET_POLLS:
            self.timer = self.loop.call_later(POLL_S, self.poll)
        else:
            self.sleep()

    def sleep(self):
        if not self.core.wait_log():
            self.timer = self.loop.call_later(POLL_S, self.poll)

    def read(self):
        """Whether there was anything."""
        labels = self.series.names
        if len(self.names) < len(labels):
            self.names += [tuple(text.encode() for text in triple) for triple in labels[len(self.names):]]
        n = self.core.read_log(self.formats, self.names, time.time_ns() - time.monotonic_ns())
        if n:
            self.records += n
            for path, one in zip(self.paths, self.formats):
                data = one.take()
                if data:
                    self.files[path].write(data)
        return n

    @property
    def dropped_bytes(self):
        return sum(one.dropped_bytes for one in self.files.values())

    def stop(self):
        """Before the core closes: its descriptor goes with it."""
        if self.timer:
            self.timer.cancel()
            self.timer = None
        if self.fd is not None and not self.loop.is_closed():
            self.loop.remove_reader(self.fd)

    def close(self):
        """After it has closed: what is in the rings, then the files."""
        while self.fd is not None and self.read():
            pass
        self.fd = None
        self.formats.clear()
        self.core.close_log()
        for one in self.files.values():
            one.close()
