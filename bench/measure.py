"""Reads what processes cost: CPU time, RSS, syscalls, and what the rest of the machine was doing meanwhile."""
import ctypes
import os
import platform
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PRIORITY = -5
_libc = ctypes.CDLL(None, use_errno=True)


def cores():
    """(core of the proxy, core of load and origin, all); one and the same core if there is no second."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[min(1, len(allowed) - 1)]}, set(allowed[:2])


def raise_limits():
    """The open-file limit as far as this user may raise it; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for want in (65536, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (want, max(want, hard)))
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def spawn(argv, cpus, log=None, env=None, stdout=None):
    """Starts a program in a session of its own on `cpus`, at raised priority if permitted. It dies with the bench."""
    parent = os.getpid()

    def before_exec():
        _libc.prctl(1, signal.SIGTERM)          # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
        os.sched_setaffinity(0, cpus)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        except OSError:
            pass
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout or log or subprocess.DEVNULL,
                            stderr=log or subprocess.DEVNULL, start_new_session=True, env=env, preexec_fn=before_exec)


def stop(process, seconds=3.0):
    """Ends a program and all that it started: SIGTERM, then SIGKILL to what is left of its session."""
    pids = family(process.pid)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
    for pid in pids:
        try:
            if pid == process.pid or os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    process.wait()


def family(pid):
    """The process and its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(text[text.rindex(")") + 2:].split()[1]), []).append(int(entry))
    found = [pid]
    for p in found:
        found.extend(parents.get(p, ()))
    return found


def cpu_ns(pids):
    """{tid: CPU nanoseconds} of every thread of the processes."""
    spent = {}
    for pid in pids:
        try:
            for tid in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{tid}/schedstat", "rb") as f:
                    spent[tid] = int(f.read().split()[0])
        except OSError:
            continue
    return spent


def spent_ns(before, after):
    """CPU between two readings of cpu_ns; a thread born in between counts whole, one that ended does not count."""
    return sum(ns - before.get(tid, 0) for tid, ns in after.items())


def rss_bytes(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as f:
                total += next((int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS")), 0)
        except OSError:
            continue
    return total


def busy_ns():
    """CPU time that all cores together were not idle, theft by the hypervisor included."""
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = v
    return (user + nice + system + irq + softirq + steal) * TICK_NS


class _EventAttr(ctypes.Structure):     # struct perf_event_attr, as far as counting needs it (PERF_ATTR_SIZE_VER0)
    _fields_ = [("type", ctypes.c_uint32), ("size", ctypes.c_uint32), ("config", ctypes.c_uint64), ("sample_period", ctypes.c_uint64),
                ("sample_type", ctypes.c_uint64), ("read_format", ctypes.c_uint64), ("flags", ctypes.c_uint64),
                ("wakeup_events", ctypes.c_uint32), ("bp_type", ctypes.c_uint32), ("bp_addr", ctypes.c_uint64)]


PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}.get(platform.machine())


class Syscalls:
    """Counts system calls of processes: the kernel's counter of one tracepoint, which hardly costs, or else strace, which does."""

    def __init__(self):
        self.how, self.missing, self.tracepoint = None, None, None
        for base in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
            try:
                self.tracepoint = int(Path(base, "events/raw_syscalls/sys_enter/id").read_text())
                break
            except OSError:
                continue
        if self.tracepoint is not None and PERF_EVENT_OPEN:
            try:
                os.close(self._open(0))
                self.how = "tracepoint"
                return
            except OSError:
                pass
        if shutil.which("strace"):
            probe = subprocess.run(["strace", "-c", "-U", "calls,name", "-o", "/dev/null", "true"], capture_output=True, timeout=20)
            if probe.returncode == 0:
                self.how = "strace"
                return
        self.missing = "system calls: need the tracepoint raw_syscalls:sys_enter (root) or strace"

    def _open(self, tid):
        attr = _EventAttr(type=2, size=ctypes.sizeof(_EventAttr), config=self.tracepoint)     # 2: PERF_TYPE_TRACEPOINT
        fd = _libc.syscall(PERF_EVENT_OPEN, ctypes.byref(attr), tid, -1, -1, 8)                # 8: PERF_FLAG_FD_CLOEXEC
        if fd < 0:
            raise OSError(ctypes.get_errno(), "perf_event_open")
        return fd

    def count(self, pids, seconds, counter):
        """(system calls, steps of counter()) over a window, or None."""
        if self.how == "tracepoint":
            fds = []
            try:
                for pid in pids:
                    fds += [self._open(int(tid)) for tid in os.listdir(f"/proc/{pid}/task")]
                calls0, steps0 = sum(int.from_bytes(os.read(fd, 8), "little") for fd in fds), counter()
                time.sleep(seconds)
                calls1, steps1 = sum(int.from_bytes(os.read(fd, 8), "little") for fd in fds), counter()
                return calls1 - calls0, steps1 - steps0
            except OSError:
                return None
            finally:
                for fd in fds:
                    os.close(fd)
        if self.how == "strace":
            argv = ["strace", "-c", "-U", "calls,name", "-f", "-o", "/dev/stdout"]
            for pid in pids:
                argv += ["-p", str(pid)]
            # Its count covers all of its life: a window long against the time that it takes to attach.
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            try:
                time.sleep(0.1)
                steps0 = counter()
                time.sleep(max(1.0, seconds))
                steps1 = counter()
                process.send_signal(signal.SIGINT)
                lines = process.communicate(timeout=20)[0].splitlines()
            finally:
                process.kill()
                process.wait()
            total = next((line.split() for line in lines if line.endswith("total")), None)
            return (int(total[0]), steps1 - steps0) if total else None
        return None


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "python": platform.python_version(), "privileged": os.geteuid() == 0}
