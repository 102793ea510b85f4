"""The compiled parts of the running configuration: each is kept while what it was made of stays the same.

So a change costs what has changed. Numbers tie the parts together: a route names its cluster by number, and the root says
which cluster that is now. A cluster keeps its number for as long as it is there.
"""

from typing import NamedTuple

from fastproxy.model.load import without_gc
from fastproxy.proxy.compile import cluster_of, fallbacks_of, listener_of, table_of
from fastproxy.proxy.loops import Loops


class Cluster(NamedTuple):
    model: object
    number: int
    part: object


class Table(NamedTuple):
    model: tuple                # (routes, virtual_hosts, fallbacks_of): what it was made of
    part: object


class Listener(NamedTuple):
    model: object
    slot: int
    table: object               # Part or None
    number: int                 # of its cluster, or None
    after: tuple                # the fallbacks of that one
    part: object


class Parts:
    """`apply` takes a model whole or not at all."""

    def __init__(self, core, series):
        self.core, self.series = core, series
        self.clusters, self.tables, self.listeners = {}, {}, {}     # by name
        self.numbers, self.by_number = {}, []                       # cluster -> number; Part or None by number
        self.after = {}                                             # fallbacks_of the clusters
        self.loops = Loops()
        self.built = 0          # parts compiled so far

    @without_gc()
    def apply(self, model, places, before=None):
        """`places`: for each listener of the model (slot, address as bound); `before` is called when all is compiled.
        ValueError, OSError or MemoryError: all is as before."""
        clusters, numbers, by_number, changed = self.take_clusters(model)
        after = fallbacks_of(model.clusters)
        if after == self.after:
            after = self.after      # the tables look whether it is the same
        tables, listeners = {}, {}
        for one, (slot, _) in zip(model.listeners, places):
            table = None
            if one.protocol == "http":
                tables[one.name] = self.table(one, numbers, after)
                table = tables[one.name].part
            listeners[one.name] = self.listener(one, slot, table, numbers, after)
        rows = [(one, address) for one, (_, address) in zip(model.listeners, places)]
        for (cluster, address), what in self.loops.update(rows, model.clusters, clusters, changed, after).items():
            self.core.mark(cluster, address, what is not None, what == "loop")
        if before:
            before()
        self.core.apply(by_number, [(one.slot, one.part) for one in listeners.values()])
        self.clusters, self.tables, self.listeners = clusters, tables, listeners
        self.numbers, self.by_number, self.after = numbers, by_number, after

    def take_clusters(self, model):
        """(name -> Cluster, name -> number, Parts by number, models of those that are new or other, which have new Parts)."""
        old, found, changed = self.clusters, {}, []
        for one in model.clusters:
            was = old.get(one.name)
            if was is None or (was.model is not one and was.model != one):
                was = None
                changed.append(one)
            found[one.name] = was
        numbers, by_number = self.number(found, changed)
        for one in changed:         # a part has the number of its fallback, so that all numbers come before
            number = numbers[one.name]
            by_number[number] = self.make(self.core.cluster, cluster_of(one, numbers))
            found[one.name] = Cluster(one, number, by_number[number])
        return found, numbers, by_number, changed

    def make(self, build, *rows):
        self.built += 1
        return build(*rows)

    def number(self, clusters, changed):
        """Numbers of all, and the Parts by number as far as they stay. `clusters`: by name, None where it changes."""
        if not changed and len(clusters) == len(self.clusters):
            return self.numbers, self.by_number
        gone = [was.number for name, was in self.clusters.items() if name not in clusters] if len(clusters) < len(self.clusters) + len(changed) else []
        numbers, by_number = self.numbers, list(self.by_number)
        for number in gone:
            by_number[number] = None
        fresh = [one.name for one in changed if one.name not in numbers]
        if fresh or gone:
            numbers = {name: numbers.get(name) for name in clusters}
        # What is free was free in the root before, too.
        free = [i for i, part in enumerate(self.by_number) if part is None] if fresh else []
        for name in fresh:
            if not free:
                free.append(len(by_number))
                by_number.append(None)
            numbers[name] = free.pop()
        return numbers, by_number

    def table(self, one, numbers, after):
        """The same routes name the same clusters, which were there before and are there now: with the same numbers."""
        was, model = self.tables.get(one.name), (one.routes, one.virtual_hosts, after)
        if was and was.model[2] is after and (was.model[0] is model[0] and was.model[1] is model[1] or was.model == model):
            return was
        return Table(model, self.make(self.core.table, table_of(one, numbers, self.series, after)))

    def listener(self, one, slot, table, numbers, after):
        was = self.listeners.get(one.name)
        number = None if table else numbers[one.cluster]
        chain = () if table else after.get(one.cluster, ())
        if was and was[1:5] == (slot, table, number, chain) and (was.model is one or was.model == one):
            return was
        return Listener(one, slot, table, number, chain, self.make(self.core.listener, listener_of(one, slot, numbers, self.series, after), table))
