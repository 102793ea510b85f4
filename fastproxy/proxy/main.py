"""`fastproxy run`: one process from its start to its end, top to bottom."""

import asyncio
import logging
import os
import signal
import sys
import time

import uvloop

from fastproxy.model import load
from fastproxy.model.errors import ConfigError
from fastproxy.proxy.embed import Proxy
from fastproxy.proxy.listen import ListenError

log = logging.getLogger("fastproxy.process")
config_log = logging.getLogger("fastproxy.config")
CHILDREN_POLL_S = 0.05
WATCH_S = 1.0  # a poll sees what inotify does not: a replaced link, as mounted configuration is replaced


def run(path):
    """The exit code: 0 after a drain, 1 if the file is invalid or an address cannot be had."""
    write_logs()
    try:
        proxy = Proxy.from_file(path)
    except ConfigError as error:
        return fail(*error.errors)
    except OSError as error:
        return fail(f"{path}: {error.strerror}")
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(Process(proxy, path).live())
    except (ListenError, ValueError) as error:
        return fail(getattr(error, "strerror", None) or error)
    finally:
        loop.close()


def fail(*lines):
    for line in lines:
        print(line, file=sys.stderr)
    return 1


def write_logs():
    """One line a record on standard error: time, level, component, text."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(formatter)
    top = logging.getLogger("fastproxy")
    top.addHandler(out)
    top.setLevel(logging.INFO)
    top.propagate = False


class Process:
    """What a process has that an embedded proxy has not: signals, a watched file, children to reap as PID 1."""

    def __init__(self, proxy, path):
        self.proxy, self.path = proxy, path
        self.end = asyncio.Event()      # a first signal: drain
        self.now = asyncio.Event()      # a second one: no more waiting
        self.reload_lock = asyncio.Lock()
        self.text = None                # of the file as last tried
        self.seen = self.look()

    async def live(self):
        self.text = self.read()
        self.on_signals()
        await self.proxy.start()
        for name, address in self.proxy.addresses.items():
            print("listening", name, address)
        for name, (_, service) in self.proxy.services.items():
            log.info("%s on %s", name, service.address)
        print("ready", flush=True)
        watch = asyncio.ensure_future(self.watch())
        await self.end.wait()
        watch.cancel()
        log.info("draining for at most %g s", self.proxy.model.drain_timeout)
        drain = asyncio.ensure_future(self.drain())
        now = asyncio.ensure_future(self.now.wait())
        await asyncio.wait({drain, now}, return_when=asyncio.FIRST_COMPLETED)
        if not drain.done() or not drain.result():
            log.warning("ended with %(conns)d connections and %(streams)d streams open", self.proxy.running.core.active())
        drain.cancel()
        now.cancel()
        await self.proxy.close()
        return 0

    async def drain(self):
        """Whether all streams ended in time. As PID 1 it waits for the children, too: our end is the end of them."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.proxy.model.drain_timeout
        done = await self.proxy.drain()
        while os.getpid() == 1 and children_left() and loop.time() < end:
            await asyncio.sleep(CHILDREN_POLL_S)
        return done

    def on_signals(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.on_end, number)
        loop.add_signal_handler(signal.SIGHUP, self.on_hup)
        if os.getpid() == 1:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whatever lost its parent is ours: the kernel collects it when it ends
            children_left()                                # but for those that have ended before

    def on_end(self, number):
        (self.now if self.end.is_set() else self.end).set()
        if os.getpid() == 1:
            forward(number)

    def on_hup(self):
        asyncio.ensure_future(self.reload("SIGHUP"))
        if os.getpid() == 1:
            forward(signal.SIGHUP)

    async def watch(self):
        """Reloads when the file has changed: another file in its place, or other bytes in it."""
        while True:
            await asyncio.sleep(WATCH_S)
            seen = self.look()
            if seen and seen != self.seen:
                self.seen = seen
                if self.read() != self.text:
                    await self.reload("the file has changed")

    def look(self):
        try:
            found = os.stat(self.path)
        except OSError:
            return None  # between two versions of it
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def read(self):
        try:
            with open(self.path, "rb") as file:
                return file.read()
        except OSError:
            return None

    async def reload(self, why):
        """Takes the file as it is now; what is wrong with it is logged, and then all stays as it was."""
        async with self.reload_lock:
            if self.end.is_set():
                return
            self.text = self.read()
            try:
                model = load(path=self.path)
                if model.workers != self.proxy.model.workers:
                    config_log.warning("workers: takes effect at the next start")
                before = self.proxy.addresses
                await self.proxy.apply(model)
            except ConfigError as error:
                self.proxy.running.reloads["error"] += 1
                config_log.error("not reloaded (%s):\n%s", why, "\n".join(map(str, error.errors)))
            except (OSError, ValueError) as error:
                config_log.error("not reloaded (%s): %s", why, getattr(error, "strerror", None) or error)
            else:
                for name, address in self.proxy.addresses.items():
                    if before.get(name) != address:
                        print("listening", name, address, flush=True)
                config_log.info("reloaded (%s)", why)


def children_left():
    """Whether we have any; those that have ended are collected."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def forward(number):
    """To our children: as PID 1 nobody else tells them."""
    try:
        if os.readlink("/proc/self") != "1":
            return  # another namespace's /proc: its numbers are not ours
        entries = os.listdir("/proc")
    except OSError:
        return
    for entry in entries:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    if file.read().rpartition(")")[2].split()[1] == "1":
                        os.kill(int(entry), number)
            except OSError:
                pass
