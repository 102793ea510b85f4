"""`fastproxy run`: one process from its start to its end, top to bottom."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import uvloop

from fastproxy.model import load
from fastproxy.model.errors import ConfigError
from fastproxy.proxy.embed import Proxy
from fastproxy.proxy.listen import ListenError

log = logging.getLogger("fastproxy.process")
config_log = logging.getLogger("fastproxy.config")
CHILDREN_POLL_S = 0.05
LAST_REPORT_S = 1.0
WATCH_S = 1.0  # a poll sees what inotify does not: a replaced link, as mounted configuration is replaced


def run(path, command=(), stay=False):
    """The exit code: that of the command, else 0 after a drain; 1 if the file is invalid or an address cannot be had."""
    return run_process(lambda inherited: FromFile(path, command, stay, inherited))


def run_process(make):
    write_logs()
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)   # too early to be of use; without that it would end us
    inherited, loop = None, uvloop.new_event_loop()
    loop.set_default_executor(ThreadPoolExecutor(initializer=take_no_signals))
    try:
        if "FASTPROXY_HANDOVER" in os.environ:
            from fastproxy.proxy.handover import Inherited
            inherited = Inherited.receive()
        return loop.run_until_complete(make(inherited).live())
    except ConfigError as error:
        return fail(inherited, *error.errors)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        return fail(inherited, f"{error.filename}: {why}" if getattr(error, "filename", None) else why)
    finally:
        # The loop gives signals their default back, and whoever asks again must not kill what is ending already.
        take_no_signals()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        loop.close()


def take_no_signals():
    """The calling thread. Each but the main one must not: a signal that the main one blocks goes to any that takes it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2})


def fail(inherited, *lines):
    for line in lines:
        print(line, file=sys.stderr)
    if inherited:
        inherited.fail("; ".join(map(str, lines)))
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
    """What a process has that an embedded proxy has not: signals, children, a command, and a process before and after it.

    `follow` brings the proxy up and keeps it at what its configuration says: a file (below), or a source (snapshots.py)."""

    def __init__(self, command=(), stay=False, inherited=None):
        self.proxy = None               # from its first configuration on
        self.end = asyncio.Event()      # drain: a signal, the command has ended, or another process serves
        self.now = asyncio.Event()      # a second signal: no more waiting
        self.asked = 0                  # signals to end
        self.deadline = None            # drain_timeout after the first of them
        self.ready, self.said = False, {}   # what was printed: listener name -> address
        self.children = {}              # pid -> future of its exit code
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())    # what children are given
        self.changing = asyncio.Lock()  # around whatever changes what is served
        self.inherited = inherited      # handover.Inherited
        self.line = inherited and inherited.line    # to the process that has started us, and stays
        self.stays = not self.line and (os.getpid() == 1 or bool(command) or stay)
        self.argv, self.command = () if self.line else command, None
        self.heir = None                # handover.Heir, who goes on in our place
        self.gone = False               # another process serves
        self.restarting = self.reporting = None     # tasks
        self.drained = asyncio.Event()

    async def live(self):
        if self.argv:
            from fastproxy.proxy.command import Command
            self.command = Command(self.argv)
            self.command.ended.add_done_callback(lambda _: self.end.set())
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
        if self.restarting and not self.gone:
            self.restarting.cancel()
            await asyncio.gather(self.restarting, return_exceptions=True)
        if self.proxy and self.proxy.running:
            await self.end_proxy()
        await self.unless_now(self.put_away())
        if self.heir and self.stays:
            from fastproxy.proxy.handover import outlive
            return await outlive(self)
        return self.command.code if self.command else 0

    async def unless_now(self, work):
        """What it returns, or None if a second signal comes before that."""
        work, now = asyncio.ensure_future(work), asyncio.ensure_future(self.now.wait())
        await asyncio.wait({work, now}, return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        if work.done():
            return work.result()
        work.cancel()
        return None

    def time_left(self):
        return self.proxy.model.drain_timeout if self.deadline is None else max(0.0, self.deadline - asyncio.get_running_loop().time())

    async def end_proxy(self):
        if os.getpid() == 1 and self.command and not self.gone:
            forward(signal.SIGTERM)     # to what it has left behind
        log.info("draining for at most %g s", self.time_left())
        if not await self.unless_now(self.drain()):
            log.warning("ended with %(conns)d connections and %(streams)d streams open", self.proxy.running.core.active())
        if self.reporting:
            await self.report_all()
        await self.proxy.close()

    async def drain(self):
        """Whether all streams ended in time."""
        done = await self.proxy.drain(self.time_left())
        if not self.gone:
            await self.wait_for_children()
        return done

    async def wait_for_children(self):
        """As PID 1: our end is the end of them."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.time_left()
        while os.getpid() == 1 and self.reap() and loop.time() < end:
            await asyncio.sleep(CHILDREN_POLL_S)

    async def report_all(self):
        """The process that serves goes on from what we, and those before us, have counted."""
        core, loop = self.proxy.running.core, asyncio.get_running_loop()
        if self.inherited:
            await self.unless_now(asyncio.wait({asyncio.ensure_future(self.inherited.done.wait())}, timeout=self.proxy.model.drain_timeout))
        core.close_all()
        end = loop.time() + LAST_REPORT_S
        while any(core.active().values()) and loop.time() < end:
            await asyncio.sleep(0.01)
        self.drained.set()
        await asyncio.wait({self.reporting}, timeout=LAST_REPORT_S)
        self.reporting.cancel()

    async def put_away(self):
        """The last thing that is done."""

    def snapshot(self):
        """What a process that goes on in our place needs to know of the source."""
        return ()

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
            if not self.inherited:
                notify("READY=1")
            if self.command and not self.end.is_set():
                self.command.start(self)

    # ---- signals and children --------------------------------------------------------------------------------------------

    def on_signals(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.on_end, number)
        loop.add_signal_handler(signal.SIGHUP, self.on_hup_signal)
        loop.add_signal_handler(signal.SIGUSR2, self.on_restart)
        if self.command:
            from fastproxy.proxy.command import PASSED_ON, hear_interrupts
            for number in PASSED_ON:
                loop.add_signal_handler(number, self.command.signal, number)
            loop.remove_signal_handler(signal.SIGINT)
            hear_interrupts(loop, self.on_interrupt)
        if os.getpid() == 1:            # whatever lost its parent is ours
            self.hear_children()
        if self.line:
            from fastproxy.proxy.handover import on_parent
            loop.add_reader(self.line, on_parent, self)

    def on_end(self, number):
        if self.command and self.command.running:
            return self.end_command(number)
        self.asked += 1
        if self.deadline is None and self.proxy:
            self.deadline = asyncio.get_running_loop().time() + self.proxy.model.drain_timeout
        (self.now if self.asked > 1 else self.end).set()
        if os.getpid() == 1:
            forward(number)
        elif self.heir and self.stays:
            self.heir.signal(number)

    def end_command(self, number):
        """It comes first, and we serve it until it has ended: for at most `drain_timeout`, or up to a second signal."""
        self.asked += 1
        if self.asked > 1:
            self.now.set()
            return self.command.signal(signal.SIGKILL)
        loop = asyncio.get_running_loop()
        self.deadline = loop.time() + self.proxy.model.drain_timeout
        loop.call_later(self.proxy.model.drain_timeout, self.command.signal, signal.SIGKILL)
        self.command.signal(number)

    def on_interrupt(self, from_terminal):
        if not (from_terminal and self.command.running and self.command.in_our_group()):
            self.on_end(signal.SIGINT)

    def on_hup_signal(self):
        if self.heir and self.stays:
            return self.heir.signal(signal.SIGHUP)
        self.on_hup()
        if os.getpid() == 1 and not self.command:
            forward(signal.SIGHUP)

    def on_restart(self):
        if self.line:
            self.line.send(b"w")        # our parent starts the next one
        elif not self.ready or self.end.is_set() and not (self.heir and self.stays) or self.restarting and not self.restarting.done():
            log.warning("no hot restart: not serving, or one is under way")
        else:
            from fastproxy.proxy.handover import restart
            self.restarting = asyncio.ensure_future(restart(self))

    def handed_over(self):
        if self.heir and not self.stays:
            notify(f"MAINPID={self.heir.pid}")
        self.end.set()

    def watch_child(self, pid):
        """-> a future of its exit code, 128+n if signal n killed it."""
        loop = asyncio.get_running_loop()
        self.children[pid] = ended = loop.create_future()
        self.hear_children()
        return ended

    def hear_children(self):
        # uvloop keeps SIGCHLD for itself, but has no use for it here.
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGCHLD, lambda *_: loop.call_soon_threadsafe(self.reap))
        self.reap()

    def reap(self):
        """Collects those that have ended: all as PID 1, else those that we started. -> whether any is left."""
        for pid in [-1] if os.getpid() == 1 else list(self.children):
            try:
                while (found := os.waitpid(pid, os.WNOHANG))[0]:
                    code = os.waitstatus_to_exitcode(found[1])
                    if ended := self.children.pop(found[0], None):
                        ended.set_result(code if code >= 0 else 128 - code)
            except ChildProcessError:
                continue
            if pid == -1:
                return True
        return bool(self.children)


class FromFile(Process):
    """Follows a file: SIGHUP, or a change of it, reloads it."""

    def __init__(self, path, *process):
        super().__init__(*process)
        self.proxy, self.path = Proxy.from_file(path), path
        self.proxy.inherited = self.inherited
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
        async with self.changing:
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


def notify(text):
    """Tells systemd (sd_notify), if it has started us with Type=notify."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(text.encode(), "\0" + path[1:] if path[0] == "@" else path)
            except OSError as error:
                log.warning("cannot tell %s: %s", path, error.strerror)


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
