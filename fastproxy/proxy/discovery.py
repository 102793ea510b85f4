"""Endpoints that are found, not listed: what a file or a name says, kept, and applied when it changes.

A configuration says where to look (`Cluster.discovery`). Each file and each name is looked at once for all clusters that want it,
by a `Source`, which keeps what it found last. `resolved` gives the model that is applied: those clusters with what was found.
A reload keeps the sources that it wants again, so that nothing is ever without endpoints which it had before.
"""

import asyncio
import logging
import os
import random
import stat
import time

from msgspec.structs import replace

from fastproxy.model import yaml
from fastproxy.model.config import Dns, Endpoint
from fastproxy.model.errors import ConfigError
from fastproxy.model.load import load_endpoints

log = logging.getLogger("fastproxy.discovery")
FIRST_WAIT_S = 1.0              # for the first result of a source, before the model is applied without it
PAUSE_S = 0.1                   # between two applies: what changes meanwhile is taken together
RETRY_S = 1.0                   # after an apply that failed
LOOK_S = 0.2                    # a poll sees what inotify does not: a replaced link, as mounted configuration is replaced
PATIENCE = 3                    # looks that each see a file other than before: then it is read all the same
SHORTEST_S, LONGEST_S = 1.0, 300.0      # bounds of a TTL
JITTER_S = 0.4                  # at most this late, so that not all proxies ask at once
GRACE_S = 0.5                   # for IPv6 when IPv4 has its answer, or the other way round
BACK_OFF_S = 30.0               # at most, between two questions that fail; from SHORTEST_S, doubled


class Source:
    """`found`: what it said last that was good, None before that. `error`: what is wrong with what it says now, or None."""

    kind = name = None

    def __init__(self, on_change):
        self.on_change = on_change
        self.found = self.error = None
        self.found_at = 0.0         # Unix time
        self.results = {}           # result -> how often
        self.tried = asyncio.Event()            # it has said something, or had its time for that
        self.late = asyncio.get_running_loop().call_later(FIRST_WAIT_S, self.tried.set)
        self.task = asyncio.ensure_future(self.run())

    async def run(self):
        while True:
            try:
                await self.follow()
            except Exception:  # a loop top: what was found stays, and this is tried again
                log.exception("%s %s: internal error", self.kind, self.name)
                self.count("error")
                await asyncio.sleep(BACK_OFF_S)

    def good(self, found):
        self.found_at = time.time()
        if found != self.found:
            log.debug("%s %s: %s", self.kind, self.name, found)
            self.found = found
            self.on_change()

    def count(self, result):
        self.results[result] = self.results.get(result, 0) + 1

    def complain(self, error):
        """Says what is wrong, once, and that it is over."""
        if error and error != self.error:
            log.warning("%s %s: %s%s", self.kind, self.name, error, "" if self.found is None else "; the endpoints found before stay")
        elif self.error and not error:
            log.info("%s %s: well again", self.kind, self.name)
        self.error = error

    def close(self):
        """-> the task that ends now."""
        self.late.cancel()
        self.task.cancel()
        self.tried.set()            # nobody waits for it any more
        return self.task


class FileSource(Source):
    """A list of endpoints in a file."""

    kind = "file"

    def __init__(self, path, on_change):
        super().__init__(on_change)
        self.name = path
        self.seen = self.taken = None       # what `look` said last, and before it was read; None: there is no such file
        self.unsettled = 0                  # looks in a row that saw something else than the one before

    def endpoints(self, discovery):
        return self.found or []

    async def follow(self):
        await self.take(self.look())
        while True:
            await asyncio.sleep(LOOK_S)
            now = self.look()
            if now != self.taken:
                # Read half-way through a write, a list can be good and short. So it is read when two looks see the same.
                self.unsettled = self.unsettled + 1 if now != self.seen else PATIENCE
                if self.unsettled >= PATIENCE:
                    await self.take(now)
            self.seen = now

    def look(self):
        try:
            found = os.stat(self.name)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    async def take(self, look):
        self.taken, self.unsettled = look, 0
        try:
            found = await asyncio.to_thread(read_endpoints, self.name)
        except ConfigError as error:
            more = f" (and {len(error.errors) - 1} more)" if len(error.errors) > 1 else ""
            self.count("error")
            self.complain(f"{error.errors[0]}{more}")
        except OSError as error:
            error = f"cannot be read: {error.strerror or error}"
            if error != self.error:
                self.count("error")
            self.complain(error)
            if look:
                self.taken = ()     # no look says when that is over
        else:
            self.count("ok")
            self.complain(None)
            self.good(found)
        self.tried.set()


def read_endpoints(path):
    """The list in the file, in the order of addresses. Raises ConfigError or OSError."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:    # a FIFO must not hold us
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        text = file.read(yaml.MAX_BYTES + 1)
    return sorted(load_endpoints(path, text), key=lambda one: one.address)


class NameSource(Source):
    """The addresses of a name, IPv4 and IPv6."""

    kind = "dns"

    def __init__(self, name, resolver, on_change):
        super().__init__(on_change)
        self.name, self.resolver = name, resolver
        self.addresses = {}         # family -> those found last

    def endpoints(self, discovery):
        return [Endpoint(address=f"[{one}]:{discovery.port}" if ":" in one else f"{one}:{discovery.port}", weight=1, zone=None, labels={})
                for one in self.found or ()]

    async def follow(self):
        failures = 0
        while True:
            answers = await self.resolver.ask(self.name, GRACE_S)
            self.take(answers)
            self.tried.set()
            waits = [min(max(ttl, SHORTEST_S), LONGEST_S) + random.uniform(0, JITTER_S) for result, _, ttl in answers.values() if result == "ok"]
            if self.error:
                waits.append(min(SHORTEST_S * 2 ** min(failures, 10), BACK_OFF_S) * random.uniform(0.5, 1))
                failures += 1
            else:
                failures = 0
            await asyncio.sleep(min(waits))

    def take(self, answers):
        """A family that fails keeps what it had, and if neither has an address now, both do."""
        wrong = []
        for family, (result, _, _) in answers.items():
            self.count(result)
            if result not in ("ok", "empty"):
                wrong.append(f"{family}: {result}")
        there = any(result == "ok" for result, _, _ in answers.values())
        if there:
            self.addresses.update((family, addresses) for family, (result, addresses, _) in answers.items() if result in ("ok", "empty"))
        self.complain("; ".join(wrong) or (None if there else "no addresses"))
        if there:
            self.good([one for family in answers for one in self.addresses.get(family, ())])


class Discovery:
    """The sources of one running proxy. `update` is a coroutine function: it applies what `resolved` gives."""

    def __init__(self, update):
        self.update = update
        self.sources, self.resolvers = {}, {}
        self.made = {}              # cluster -> (as configured, as found, with that)
        self.closed = False
        self.changed = asyncio.Event()
        self.task = asyncio.ensure_future(self.run())

    async def prepare(self, model):
        """Looks where the model says as well, and waits for what is new to it, for at most FIRST_WAIT_S."""
        if self.closed:
            raise RuntimeError("the proxy is closed")
        wanted = {key_of(one.discovery): one.discovery for one in model.clusters if one.discovery is not None}
        for key, one in wanted.items():
            if key not in self.sources:
                self.sources[key] = self.source(one)
        for one in [self.sources[key] for key in wanted]:
            await one.tried.wait()
        if self.closed:
            raise RuntimeError("the proxy is closed")

    def source(self, one):
        if type(one) is not Dns:
            return FileSource(one.path, self.changed.set)
        if one.resolvers not in self.resolvers:
            from fastproxy.proxy.dns import Resolver  # only who asks for it pays for it
            self.resolvers[one.resolvers] = Resolver(one.resolvers)
        return NameSource(one.name, self.resolvers[one.resolvers], self.changed.set)

    def resolved(self, model):
        """The model with what was found. A cluster of which nothing is new stays the same object as before."""
        clusters, changed = list(model.clusters), False
        for i, one in enumerate(clusters):
            if one.discovery is not None:
                clusters[i], changed = self.with_found(one), True
        return replace(model, clusters=clusters) if changed else model

    def with_found(self, one):
        source = self.sources[key_of(one.discovery)]
        was = self.made.get(one.name)
        if was and was[1] is source.found and (was[0] is one or was[0] == one):
            return was[2]
        made = replace(one, endpoints=source.endpoints(one.discovery))
        self.made[one.name] = one, source.found, made
        return made

    async def keep(self, model):
        """Leaves the sources that the model does not want."""
        wanted = {key_of(one.discovery) for one in model.clusters if one.discovery is not None}
        names = {one.name for one in model.clusters if one.discovery is not None}
        self.made = {name: one for name, one in self.made.items() if name in names}
        gone = [self.sources.pop(key) for key in list(self.sources) if key not in wanted]
        await ended([one.close() for one in gone])
        used = {key[1] for key in self.sources if key[0] == "dns"}
        for servers in [servers for servers in self.resolvers if servers not in used]:
            await self.resolvers.pop(servers).close()

    async def run(self):
        """Applies what has changed; at most ten times a second, and always the last state."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            try:
                await self.update()
                await asyncio.sleep(PAUSE_S)
            except Exception:  # a loop top: what serves goes on, and this is tried again
                log.exception("the endpoints that were found are not applied")
                self.changed.set()
                await asyncio.sleep(RETRY_S)

    async def close(self):
        self.closed = True
        self.task.cancel()
        sources, self.sources = list(self.sources.values()), {}
        resolvers, self.resolvers = list(self.resolvers.values()), {}
        await ended([self.task] + [one.close() for one in sources])
        for one in resolvers:
            await one.close()

    def facts(self, model):
        """{cluster: what is to be said about its source}, of the clusters of a model that have one."""
        out = {}
        for one in model.clusters:
            source = self.sources.get(key_of(one.discovery)) if one.discovery is not None else None
            if source:
                more = {"port": one.discovery.port, "resolvers": list(one.discovery.resolvers or ())} if source.kind == "dns" else {}
                out[one.name] = {"source": source.kind, "name": source.name, **more, "found_at": source.found_at or None,
                                 "error": source.error, "results": dict(source.results)}
        return out


def key_of(discovery):
    return ("dns", discovery.resolvers, discovery.name) if type(discovery) is Dns else ("file", discovery.path)


async def ended(tasks):
    """Waits for cancelled tasks; the one that waits may be among them."""
    await asyncio.gather(*(task for task in tasks if task is not asyncio.current_task()), return_exceptions=True)
