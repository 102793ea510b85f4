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
        process = FromFile(path)
    except ConfigError as error:
        return fail(*error.errors)
    except OSError as error:
        return fail(f"{path}: {error.strerror}")
    return run_process(process)


def run_process(process):
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(process.live())
    except (ListenError, ValueError) as error:
        return fail(getattr(error, "strerror", None) or error)
    finally:
        # The loop gives signals their default back, and whoever asks again must not kill what is ending already.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
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
    """What a process has that an embedded proxy has not: signals, and children to reap as PID 1.

    `follow` brings the proxy up and keeps it at what its configuration says: a file (below), or a source (snapshots.py)."""

    def __init__(self):
        self.proxy = None               # from its first configuration on
        self.end = asyncio.Event()      # a first signal: drain
        self.now = asyncio.Event()      # a second one: no more waiting
        self.ready, self.said = False, {}   # what was printed: listener name -> address

    async def live(self):
        self.on_signals()
        follow, end = asyncio.ensure_future(self.follow()), asyncio.ensure_future(self.end.wait())
        await asyncio.wait({follow, end}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if follow.done():
                follow.result()
        finally:
            follow.cancel()
            end.cancel()
            await asyncio.gather(follow, return_exceptions=True)
        if self.proxy and self.proxy.running:
            log.info("draining for at most %g s", self.proxy.model.drain_timeout)
            if not await self.unless_now(self.drain()):
                log.warning("ended with %(conns)d connections and %(streams)d streams open", self.proxy.running.core.active())
            await self.proxy.close()
        await self.unless_now(self.put_away())
        return 0

    async def unless_now(self, work):
        """What it returns, or None if a second signal comes before that."""
        work, now = asyncio.ensure_future(work), asyncio.ensure_future(self.now.wait())
        await asyncio.wait({work, now}, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        if work.done():
            return work.result()
        work.cancel()
        return None

    async def drain(self):
        """Whether all streams ended in time. As PID 1 it waits for the children, too: our end is the end of them."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.proxy.model.drain_timeout
        done = await self.proxy.drain()
        while os.getpid() == 1 and children_left() and loop.time() < end:
            await asyncio.sleep(CHILDREN_POLL_S)
        return done

    async def put_away(self):
        """The last thing that is done."""

    def announce(self):
        """Says where the listeners are, as far as that is new, and once that they serve."""
        addresses = self.proxy.addresses
        for name, address in addresses.items():
            if self.said.get(name) != address:
                print("listening", name, address, flush=True)
        self.said = addresses
        if not self.ready:
            self.ready = True
            for name, (_, service) in self.proxy.services.items():
                log.info("%s on %s", name, service.address)
            print("ready", flush=True)

    def on_signals(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.on_end, number)
        loop.add_signal_handler(signal.SIGHUP, self.on_hup_signal)
        if os.getpid() == 1:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whatever lost its parent is ours: the kernel collects it when it ends
            children_left()                                # but for those that have ended before

    def on_end(self, number):
        (self.now if self.end.is_set() else self.end).set()
        if os.getpid() == 1:
            forward(number)

    def on_hup_signal(self):
        self.on_hup()
        if os.getpid() == 1:
            forward(signal.SIGHUP)


class FromFile(Process):
    """Follows a file: SIGHUP, or a change of it, reloads it."""

    def __init__(self, path):
        super().__init__()
        self.proxy, self.path = Proxy.from_file(path), path
        self.reload_lock = asyncio.Lock()
        self.text = None                # of the file as last tried
        self.seen = self.look()

    async def follow(self):
        self.text = self.read()
        await self.proxy.start()
        self.announce()
        await self.watch()

    def on_hup(self):
        asyncio.ensure_future(self.reload("SIGHUP"))

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
            if self.end.is_set() or not self.ready:
                return
            self.text = self.read()
            try:
                try:
                    model = load(path=self.path)
                except (OSError, ConfigError) as error:
                    self.proxy.running.note(error)
                    raise
                if model.workers != self.proxy.model.workers:
                    config_log.warning("workers: takes effect at the next start")
                await self.proxy.apply(model)
            except ConfigError as error:
                config_log.error("not reloaded (%s):\n%s", why, "\n".join(map(str, error.errors)))
            except (OSError, ValueError, MemoryError) as error:
                config_log.error("not reloaded (%s): %s", why, getattr(error, "strerror", None) or str(error) or "out of memory")
            else:
                self.announce()
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
