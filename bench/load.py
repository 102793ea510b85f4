"""Runs bench/load.c and reads its counters while it runs."""
import mmap
import struct
import subprocess
import time
from pathlib import Path

from . import measure, native

HEADER, BUCKETS, SIZE = 4096, 4096, 4096 + 4096 * 8
CONNECTING, RUNNING, DONE = range(3)


class LoadFailed(Exception):
    """The proxy answered wrongly, or not at all; the text is the load generator's first error."""


class Load:
    def __init__(self, directory, address, cpus, mode, seconds=60, **arguments):
        self.path = Path(directory, f"load-{time.monotonic_ns()}")
        self.path.write_bytes(bytes(SIZE))
        with open(self.path, "r+b") as f:
            self.memory = mmap.mmap(f.fileno(), SIZE)
        argv = [native.program("load"), mode, address, f"shared={self.path}", f"seconds={seconds}"]
        argv += [f"{key}={value}" for key, value in arguments.items()]
        self.process = measure.spawn(argv, cpus)

    def _header(self, i):
        return struct.unpack_from("<Q", self.memory, i * 8)[0]

    requests = property(lambda self: self._header(2))
    bytes = property(lambda self: self._header(3))
    errors = property(lambda self: self._header(4))
    open_conns = property(lambda self: self._header(5))
    backlog_max = property(lambda self: self._header(6))

    def error(self):
        return bytes(self.memory[128:384]).split(b"\0")[0].decode("latin-1")

    def check(self):
        if self.errors:
            raise LoadFailed(f"{self.errors} wrong or missing answers, the first: {self.error()}")
        if self.process.poll() not in (None, 0):
            raise LoadFailed(f"the load generator ended with {self.process.returncode}")

    def wait_running(self, seconds=15):
        deadline = time.monotonic() + seconds
        while self._header(1) == CONNECTING:
            self.check()
            if time.monotonic() > deadline:
                raise LoadFailed(f"only {self.open_conns} connections and {self.requests} requests in {seconds} s")
            time.sleep(0.002)

    def wait_done(self, seconds=120):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LoadFailed(f"not done in {seconds} s ({self.requests} requests)") from None
        self.check()

    def latency(self):
        return struct.unpack_from(f"<{BUCKETS}Q", self.memory, HEADER)

    def close(self):
        measure.stop(self.process)
        self.memory.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def bucket_ns(b):
    """Middle of a bucket of load.c's histogram."""
    if b < 64:
        return b
    top, low = b // 32 + 5 - 1, b % 32
    return ((32 + low) << (top - 5)) + (1 << (top - 5)) / 2


def percentile(before, after, share):
    """Latency in ns under which `share` of the requests between two readings stayed; None without requests."""
    counts = [b - a for a, b in zip(before, after)]
    total = sum(counts)
    if not total:
        return None
    seen = 0
    for b, n in enumerate(counts):
        seen += n
        if n and seen >= share * total:
            return bucket_ns(b)
    return None
