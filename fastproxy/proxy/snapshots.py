"""`fastproxy run --snapshots`: the proxy's side of the snapshot protocol. Connects to a source, and keeps the proxy at what it says.

What has come while a configuration was being applied is taken together: each message is judged and answered, and of those that
are good the newest is applied. Whatever a source does, the proxy goes on with what it has.
"""

import asyncio
import logging
import random
import re
import socket
import time

from msgspec import Raw

from fastproxy.model.resources import Resources
from fastproxy.proxy import last_good, metrics
from fastproxy.proxy.embed import Proxy
from fastproxy.proxy.main import Process, run_process
from fastproxy.version import VERSION
from fastproxy.wire.frames import Decoder, FrameError
from fastproxy.wire.messages import (PROTOCOL, Ack, Ask, Delta, Fault, Hello, Nack, Refused, Report, Resync, Snapshot, encode, faults_of, features,
                                     from_source, one_line, removed_of, resources_of)
from fastproxy.wire.source import uid_of

log = logging.getLogger("fastproxy.snapshots")
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 2.0    # between two tries to connect; the source is on this machine, and a try costs little
GRACE_S = 0.4                   # for a source that is there to say something, before what is on disk is served
STALLED_S = 30.0                # in the middle of a frame, or with answers that the source does not read
READ_BYTES = 16 * 1024 * 1024   # at once: what is read together is answered together
BUFFER_BYTES = 4 * 1024 * 1024
BATCH = 256                     # messages whose answers are held back until the newest has been applied
LOGGED = 5                      # errors of one message
ANSWERS = {Ack: "ack", Nack: "nack", Resync: "resync"}


def run(path, node, uids, command=(), stay=False):
    """The exit code, as of main.run. `uids`: who may be the source."""
    return run_process(lambda inherited: FromSource(path, node, uids, command, stay, inherited))


class Gone(Exception):
    """Why there is no connection any more, or none at all."""


class FromSource(Process):
    """Follows a source. `version` and `resources` are what is served, or would be: what is on disk may wait for the source first."""

    def __init__(self, path, node, uids, *process):
        super().__init__(*process)
        self.path, self.node, self.uids = path, node, uids
        self.version, self.resources = None, Resources()
        self.loaded = False             # whether `resources` came from the disk and are not served yet
        self.stale = False              # whether they came from the disk, and no source has said since that they hold
        self.connected = False
        self.counts = dict.fromkeys(ANSWERS.values(), 0)
        self.errors = []                # of the last nack, until an ack
        self.complaint = None           # why there is no connection, as logged
        self.hurry = asyncio.Event()
        self.writer = self.keeper = None

    async def follow(self):
        self.keeper = last_good.Keeper(last_good.path_of(self.node), self.node)
        self.load()
        grace = asyncio.ensure_future(self.grace())
        try:
            await self.keep_connected()
        finally:
            grace.cancel()
            await asyncio.gather(grace, return_exceptions=True)

    async def put_away(self):
        if self.keeper:
            if self.gone:
                self.keeper.newest = None   # what is on disk is the other process's
            await self.keeper.close()

    def on_hup(self):
        """Asks the source for everything, or tries at once to reach it."""
        self.hurry.set()
        if self.writer:
            self.writer.write(encode(Resync()))

    # ---- what is on disk -----------------------------------------------------------------------------------------------

    def snapshot(self):
        return self.version, last_good.raw_of(self.resources.packed())

    def load(self):
        path = self.keeper.path
        try:
            found = self.handed_on() or last_good.load(path, self.node)
            if found is None:
                return
            version, packed, complete = found
            resources, faults = Resources().replaced(packed)
            if faults:
                raise last_good.Unusable("; ".join(f"{one.path}: {one.message}" for one in faults_of(faults[:5])))
        except (OSError, last_good.Unusable) as error:
            log.warning("the last good snapshot in %s is ignored: %s", path, getattr(error, "strerror", None) or error)
            return
        self.resources, self.loaded = resources, True
        self.keeper.hides = "secret" in packed
        self.version = version if complete else None    # else the source must send everything

    def handed_on(self):
        """As last_good.load, of the process before us; nobody needs a disk or the source for a restart."""
        if not self.inherited:
            return None
        version, raw = self.inherited.hello.snapshot
        return version, resources_of(Raw(raw)), version is not None

    async def grace(self):
        await asyncio.sleep(GRACE_S)
        await self.serve_loaded()

    async def serve_loaded(self):
        async with self.changing:
            if not self.loaded:
                return
            self.loaded = False
            faults = await self.apply(self.resources)
            if faults:
                log.error("the last good snapshot cannot be served: %s", "; ".join(one.message for one in faults))
                self.version, self.resources = None, Resources()
            else:
                self.stale = True
                log.warning("serving the last good snapshot, version %s, until a source says more", self.version)

    # ---- the connection ------------------------------------------------------------------------------------------------

    async def keep_connected(self):
        wait = FIRST_WAIT_S
        while True:
            try:
                await self.converse(await self.connect())
            except (Gone, OSError, FrameError, asyncio.TimeoutError) as error:
                self.complain(getattr(error, "strerror", None) or str(error) or "it has stalled")
            except Exception:  # a loop top: a fault of ours must not end the proxy
                log.exception("internal error; the connection to the source is closed")
                self.connected = False
            heard, self.connected = self.connected, False
            await self.serve_loaded()
            wait = FIRST_WAIT_S if heard else min(2 * wait, LONGEST_WAIT_S)
            self.hurry.clear()
            try:
                await asyncio.wait_for(self.hurry.wait(), wait * random.uniform(0.5, 1.0))
            except asyncio.TimeoutError:
                pass

    def complain(self, why):
        """Once for each reason, however often it is tried again."""
        log.log(logging.DEBUG if why == self.complaint else logging.WARNING, "no source at unix:%s: %s", self.path, why)
        self.complaint = why

    async def connect(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(self.path)     # of a Unix socket this never waits
            uid = uid_of(sock)
            if uid not in self.uids:
                raise Gone(f"the source runs as uid {uid}, which is not allowed (--source-uid)")
            return await asyncio.open_unix_connection(sock=sock, limit=BUFFER_BYTES)
        except BaseException:
            sock.close()
            raise

    async def converse(self, streams):
        """Until the connection ends, by an exception."""
        reader, self.writer = streams
        decoder = Decoder()
        try:
            self.writer.write(encode(Hello(protocol=PROTOCOL, node=self.node, software=f"fastproxy {VERSION}", features=features(), have=self.version)))
            while True:
                read = reader.read(READ_BYTES)
                data = await (asyncio.wait_for(read, STALLED_S) if decoder.partial else read)
                if not data:
                    raise Gone("it closed the connection" + (" in the middle of a frame" if decoder.partial else ""))
                decoder.feed(data)
                await self.take(decoder)
        finally:
            writer, self.writer = self.writer, None
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def take(self, decoder):
        """Judges what has come, applies the newest that is good, and answers each in order; BATCH messages at a time."""
        while True:
            async with self.changing:
                answers, broken = await self.take_batch(decoder)
            for one in answers:
                if type(one) in ANSWERS:
                    self.counts[ANSWERS[type(one)]] += 1
                self.writer.write(encode(one))
            if answers:
                await asyncio.wait_for(self.writer.drain(), STALLED_S)
            if broken:
                raise broken
            if len(answers) < BATCH:
                return

    async def take_batch(self, decoder):
        """-> (answers, FrameError or None)"""
        answers, good, broken = [], [], None
        version, resources = self.version, self.resources
        try:
            while len(answers) < BATCH and (payload := decoder.take()) is not None:
                message, found = self.judge(payload, version, resources)
                if found is not None:
                    version, resources = message.version, found
                    good.append((len(answers), version, resources))
                answers.append(message)
                await asyncio.sleep(0)          # each may have taken a while
        except FrameError as error:
            broken = error
            answers.append(self.nack(None, [one_line("", "malformed", str(error))]))
        if good:
            await self.settle(good, answers)
        return answers, broken

    def judge(self, payload, version, resources):
        """-> (answer, None), or (Ack, Resources) of what is good. Raises Malformed."""
        try:
            message = from_source(payload)
        except Refused as error:
            return self.nack(error.version, error.faults, error.seq), None
        if not self.connected:
            self.connected, self.complaint = True, None
            log.info("connected to the source at unix:%s", self.path)
        if type(message) is Ask:
            return Report(version=self.version, report=self.report(), seq=message.seq), None
        if type(message) is Delta and message.base != version:
            return Resync(version=message.version, seq=message.seq), None
        try:
            if type(message) is Snapshot:
                found, faults = resources.replaced(resources_of(message.resources))
            else:
                found, faults = resources.changed(resources_of(message.set), removed_of(message.remove))
        except Refused as error:
            return self.nack(message.version, error.faults, message.seq), None
        if faults:
            return self.nack(message.version, faults_of(faults), message.seq), None
        return Ack(version=message.version, seq=message.seq), found

    async def settle(self, good, answers):
        """`good`: [(index of its answer, version, Resources)], of which the last that can be applied is. Those before it were
        good as well, and are superseded."""
        while good:
            place, version, resources = good.pop()
            faults = await self.apply(resources)
            if not faults:
                self.version, self.resources, self.loaded, self.stale, self.errors = version, resources, False, False, []
                self.keeper.keep(version, resources)
                log.debug("version %s serves", version)
                return
            answers[place] = self.nack(version, faults, answers[place].seq)

    def nack(self, version, faults, seq=None):
        # The same again, perhaps a hundred times a second, is logged once.
        said = "; ".join(f"{one.path}: {one.message}" if one.path else one.message for one in faults[:LOGGED])
        more = f"; and {len(faults) - LOGGED} more" if len(faults) > LOGGED else ""
        log.log(logging.DEBUG if faults == self.errors else logging.ERROR, "version %s refused: %s%s", version, said, more)
        self.errors = faults
        return Nack(version=version, errors=faults, seq=seq)

    async def apply(self, resources):
        """-> [Fault], empty when it serves."""
        try:
            if not self.proxy:
                proxy = Proxy(resources.config)
                proxy.inherited = self.inherited
                await proxy.start()
                self.proxy, proxy.snapshots = proxy, self
            elif not resources.same(self.resources):
                if resources.config.workers != self.proxy.model.workers:
                    log.warning("workers: takes effect at the next start")
                await self.proxy.apply(resources.config)
            self.announce()
        except (OSError, ValueError) as error:
            text = getattr(error, "strerror", None) or str(error)
            listener = re.match(r"listener (\S+): ", text)
            return [one_line(f"resources.listener.{listener[1]}.bind" if listener else "", "apply", text)]
        except Exception:  # a loop top, as above: the old version goes on
            log.exception("internal error")
            return [Fault(path="", code="internal", message="internal error")]
        return []

    # ---- what is said about it -----------------------------------------------------------------------------------------

    def facts(self):
        """For /stats and /metrics."""
        return {"source": f"unix:{self.path}", "node": self.node, "version": self.version, "connected": self.connected, "stale": self.stale,
                "answers": dict(self.counts), "errors": [{"path": one.path, "code": one.code, "message": one.message} for one in self.errors[:20]]}

    def report(self):
        """What a source learns about health and load."""
        if not self.proxy:
            return {"ready": False}
        stats = self.proxy.running.core.stats()
        return {"ready": not self.proxy.draining, "uptime_seconds": round(time.time() - self.proxy.started_at, 3), "stale": self.stale,
                "listeners": {name: {"address": address} for name, address in self.proxy.addresses.items()},
                "clusters": {name: {"endpoints": one["endpoints"]} for name, one in metrics.clusters_of(stats, self.proxy).items()}}
