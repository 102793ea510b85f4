"""`Proxy`: the proxy as a part of an asyncio program, and what the command itself runs.

It works on asyncio and on uvloop, several in one process, and installs no signal handlers. With `workers: 0` the core
runs in the event loop; with N it runs in N threads of its own, and the loop is only asked for policy.
"""

import asyncio
import time

from fastproxy.model import load, load_dict
from fastproxy.proxy.reload import Running

DRAIN_POLL_S = 0.02


class Proxy:
    """`async with Proxy.from_file("proxy.yaml") as proxy: ...`

    Leaving the block without an error drains, for as long as the configuration's `drain_timeout`; with one, it closes at once."""

    def __init__(self, model):
        self.model = model
        self.running = None         # from start() to close()
        self.loop = None
        self.discovery = None       # while running, from the first model on that has endpoints to find
        self.services = {}          # "admin" | "metrics" -> (address, Admin)
        self.applying = asyncio.Lock()
        self.draining = False
        self.started_at = self.started_monotonic = 0.0      # Unix time; the other clock
        self.snapshots = None       # who follows a source for it (snapshots.py)
        self.inherited = None       # what the process before this one handed over (handover.py)
        self.before = None          # counters of the processes before this one, as metrics.collect has them
        self.restarts = 0           # how many those are
        self.idle_timer = None

    @classmethod
    def from_file(cls, path):
        """Raises ConfigError with everything that is wrong with the file, OSError if it cannot be read."""
        return cls(load(path))

    @classmethod
    def from_config(cls, config):
        """The same, of a dict of the shape of the file."""
        return cls(model_of(config))

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, kind, error, trace):
        try:
            if kind is None and self.running:
                await self.drain()
        finally:
            await self.close()

    async def start(self):
        """Listens and serves from here on. Raises ListenError if an address cannot be had."""
        if self.running or self.discovery:
            raise RuntimeError("the proxy is running")
        self.loop = asyncio.get_running_loop()
        try:
            found = await self.found(self.model)
            await self.serve(self.model, lambda _: self.run(found))
        except BaseException:
            await self.close()
            raise

    def run(self, model):
        self.draining, self.started_at, self.started_monotonic = False, time.time(), time.monotonic()
        self.running = Running(model, self.inherited)
        if self.running.workers == 0:
            self.loop.add_reader(self.running.core.fileno(), self.running.core.turn)

    async def apply(self, config):
        """Replaces the configuration (a dict, or a model) while serving: no connection is closed that need not be.

        Raises ConfigError or ListenError, and then nothing has changed."""
        running = self.alive()
        async with self.applying:
            try:
                model = model_of(config)
                found = await self.found(model)
                await self.serve(model, lambda _: running.apply(found))
            except BaseException as error:
                running.note(error)
                if self.discovery:
                    await self.discovery.keep(self.model)
                raise
            self.model = model
            if self.discovery:
                await self.discovery.keep(model)
            await self.settle(running)
            running.note()

    async def found(self, model):
        """The model with the endpoints that are to be found; for those that it has not looked for before, it waits up to a second."""
        if self.discovery is None and any(one.discovery is not None for one in model.clusters):
            from fastproxy.proxy.discovery import Discovery  # only who asks for it pays for it
            self.discovery = Discovery(self.update)
        if self.discovery is None:
            return model
        await self.discovery.prepare(model)
        return self.discovery.resolved(model)

    async def update(self):
        """The present configuration with the endpoints that are there now."""
        async with self.applying:
            if self.running and not self.running.closed:
                self.running.update(self.discovery.resolved(self.model))

    async def settle(self, running):
        """Waits until the workers have taken the configuration, so that the next request meets it; at most a second."""
        end = self.loop.time() + 1
        while not running.closed and not running.core.settled() and self.loop.time() < end:
            if running.workers == 0:
                running.core.turn()
            else:
                await asyncio.sleep(0.001)

    async def serve(self, model, apply):
        """Applies a model; opens its admin and metrics addresses which are new, and closes those which are no more in it."""
        wanted = {name: address for name in ("admin", "metrics") if (address := getattr(model, name))}
        fresh = {}
        try:
            for name, address in wanted.items():
                if self.services.get(name, (None,))[0] != address:
                    from fastproxy.proxy.admin import Admin  # only who asks for it pays for it
                    fresh[name] = address, Admin(self, name).open(address, self.inherited.services if self.inherited else ())
            apply(model)
            if self.inherited:
                # From here on we serve, and the process before us does not any more. Its counters come before anybody asks for ours.
                inherited, self.inherited = self.inherited, None
                await inherited.take_over(self, [service for _, service in fresh.values()])
            for _, service in fresh.values():
                await service.start()
        except BaseException:
            for _, service in fresh.values():
                await service.close()
            raise
        for name, (address, service) in list(self.services.items()):
            if wanted.get(name) != address:
                del self.services[name]
                await service.close()
        self.services |= fresh

    def alive(self):
        if not self.running:
            raise RuntimeError("the proxy is not running")
        self.running.check()
        return self.running

    @property
    def addresses(self):
        """{listener name: address}, with the real port where the configuration says 0."""
        return self.running.addresses if self.running else {}

    def stats(self):
        """Counters since the start by listener, route, cluster and cause of error: what the admin path /stats answers."""
        from fastproxy.proxy.metrics import report
        return report(self)

    def begin_drain(self, timeout_s=None):
        """Stops accepting. Who has a connection is told to close it with the answer to his next request; those without a request
        are closed after `drain_grace`, so that hardly any meets the request that is under way on it."""
        if not self.draining:
            core = self.alive().core
            self.draining = True
            core.drain()
            timeout_s = self.model.drain_timeout if timeout_s is None else timeout_s
            self.idle_timer = self.loop.call_later(min(self.model.drain_grace, timeout_s / 2), core.close_idle)

    async def drain(self, timeout_s=None):
        """Waits until nothing is in flight. True if so, False if the time was over before."""
        core = self.alive().core
        timeout_s = self.model.drain_timeout if timeout_s is None else timeout_s
        self.begin_drain(timeout_s)
        end = self.loop.time() + timeout_s
        while any(core.active().values()):
            if self.loop.time() >= end:
                return False
            await asyncio.sleep(DRAIN_POLL_S)
        return True

    async def close(self):
        """Closes everything at once. Harmless if repeated, and in a fork's child, where nothing is ours to close."""
        running, self.running = self.running, None
        services, self.services = self.services, {}
        discovery, self.discovery = self.discovery, None
        if self.idle_timer:
            self.idle_timer.cancel()
        if running and running.foreign:
            return
        if running and not running.closed:
            if running.workers == 0:
                self.loop.remove_reader(running.core.fileno())
            running.close()
        for _, service in services.values():
            await service.close()
        if discovery:
            await discovery.close()


def model_of(config):
    return load_dict(config) if isinstance(config, dict) else config
