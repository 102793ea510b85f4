"""A core with its listeners: takes a model, and later the next one, whole or not at all."""

import asyncio
import itertools
import logging
import os
import time

from fastproxy._core import Core
from fastproxy.proxy import extensions, listen
from fastproxy.proxy.compile import Slots
from fastproxy.proxy.parts import Parts

log = logging.getLogger("fastproxy.config")
SLOTS = 1024  # the core's table of listeners


class Opened:
    """One listener as it stands open: what it was asked for, where it is, and its place in the core."""

    def __init__(self, name, bind, slot, address, fds, offer=None):
        self.name, self.bind, self.slot, self.address = name, bind, slot, address
        self.fds = fds              # of the sockets that the core has
        self.offer = offer          # what it was taken from (handover.Offer): until `own`, a file is not ours to remove
        self.identity = None if offer else listen.identity(bind)

    def own(self):
        if self.offer:
            self.identity, self.offer = self.offer.identity, None


class Running:
    """Owns the core from its start to `close`. A fork's child must not touch it: `check` says so."""

    def __init__(self, model, inherited=None):
        self.inherited = inherited  # handover.Inherited while it has sockets for us
        self.late = []              # sockets that do not listen yet
        self.pid = os.getpid()
        self.workers = len(os.sched_getaffinity(0)) if model.workers == "auto" else model.workers
        self.core = Core(workers=self.workers)
        self.series = Slots()
        self.parts = Parts(self.core, self.series)
        self.access_log = None
        self.opened = {}            # key() -> Opened
        self.slots = itertools.count()
        self.model = None           # with the endpoints that were found
        self.updates = 0            # of endpoints alone
        self.applied_at = 0.0       # Unix time
        self.reloads = {"ok": 0, "error": 0}
        self.refused = None         # {"at": Unix time, "error": text} of the last configuration, if it was refused
        self.closed = False
        try:
            self.apply(model)
            for sock in self.late:
                sock.listen(listen.BACKLOG)
            self.core.start()
        except BaseException:
            self.close()
            raise
        finally:
            for sock in self.late:
                sock.close()
            self.late.clear()

    def note(self, error=None):
        """Counts a configuration that was taken, or refused for an error."""
        self.reloads["error" if error else "ok"] += 1
        self.refused = {"at": time.time(), "error": getattr(error, "strerror", None) or str(error)} if error else None

    @property
    def foreign(self):
        return os.getpid() != self.pid

    def check(self):
        if self.closed or self.foreign:
            raise RuntimeError("the proxy is closed" if self.closed else "the proxy belongs to the process that started it, not to a fork of it")

    def apply(self, model):
        """Raises ListenError or ValueError, and then all is as before."""
        extensions.load(model)
        fresh, kept = {}, {}
        try:
            for one in model.listeners:
                key = self.key(one)
                if key in self.opened:
                    kept[key] = self.opened[key]
                else:
                    fresh[key] = self.open(one)
            places = [kept.get(self.key(one)) or fresh[self.key(one)] for one in model.listeners]
            self.parts.apply(model, [(place.slot, place.address) for place in places], self.open_logs)
        except BaseException:
            for place in fresh.values():
                self.drop(place)
            raise
        gone = [place for key, place in self.opened.items() if key not in kept]
        for one in model.listeners:
            if self.key(one) in kept:
                kept[self.key(one)].name = one.name
        self.opened = {self.key(one): kept.get(self.key(one)) or fresh[self.key(one)] for one in model.listeners}
        for place in gone:
            self.drop(place)
        self.model, self.applied_at = model, time.time()

    def update(self, model):
        """A model that differs from the present one in endpoints alone."""
        if any(one is not was for one, was in zip(model.clusters, self.model.clusters)):
            places = [self.opened[self.key(one)] for one in model.listeners]
            self.parts.apply(model, [(place.slot, place.address) for place in places])
            self.model = model
            self.updates += 1

    @staticmethod
    def key(one):
        """A fixed address stays open under whatever name; a port chosen by the kernel belongs to its listener."""
        return (one.name, one.bind) if one.bind.endswith(":0") else one.bind

    def open(self, one):
        offer, late = self.offer(one), []
        try:
            if offer:
                address, (sockets, late) = offer.address, listen.adopt(offer.fds, max(1, self.workers))
            else:
                sockets, address = listen.open_sockets(one.bind, max(1, self.workers))
        except OSError as error:
            raise listen.ListenError(error.errno, f"listener {one.name}: {error.strerror}") from error
        try:
            place = Opened(one.name, one.bind, self.free_slot(), address, [sock.fileno() for sock in sockets], offer)
            self.late += [sock.dup() for sock in late]
            self.core.add_listener(place.slot, [sock.fileno() for sock in sockets])
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        for sock in sockets:
            sock.detach()  # the core closes it
        return place

    def open_logs(self):
        """Before the workers write records of a new access log. OSError if its file cannot be opened."""
        if self.series.logs:
            if self.access_log is None:
                from fastproxy.proxy.accesslog import AccessLog  # only who asks for it pays for it
                self.access_log = AccessLog(self.core, self.series, asyncio.get_running_loop())
            self.access_log.update(self.series.logs)
            self.access_log.reopen()

    def offer(self, one):
        """What another process hands over for this listener, or None."""
        if not self.inherited:
            return None
        used = {place.offer for place in self.opened.values()}
        return next((offer for offer in self.inherited.listeners if offer.fits(one.name, one.bind) and offer not in used), None)

    def own(self):
        """The process before us has let go of what we took over."""
        self.inherited = None
        for place in self.opened.values():
            place.own()

    def leave(self, places):
        """Another process has their sockets."""
        for place in places:
            place.identity = None
            self.core.leave_listener(place.slot)

    def free_slot(self):
        """The one out of use for longest, since a removed listener may still finish its streams."""
        used = {place.slot for place in self.opened.values()}
        return next(slot for slot in (next(self.slots) % SLOTS for _ in range(SLOTS)) if slot not in used)

    def drop(self, place):
        listen.remove_ours(place.bind, place.identity)
        self.core.remove_listener(place.slot)

    @property
    def addresses(self):
        return {place.name: place.address for place in self.opened.values()}

    @property
    def listeners(self):
        """{slot: name}"""
        return {place.slot: place.name for place in self.opened.values()}

    def close(self):
        """Ends the threads and closes every connection. In a fork's child it does nothing: those threads are not there."""
        if self.closed or self.foreign:
            return
        self.closed = True
        for place in self.opened.values():
            listen.remove_ours(place.bind, place.identity)
        if self.access_log:
            self.access_log.stop()
        self.core.close()
        if self.access_log:
            self.access_log.close()
        self.parts = None
