"""The resources of a snapshot -> the model: each checked alone by the rules of the file, and only when it is new.

`Resources` is never changed once made: `changed` gives the next one, or everything that is wrong. What a change does not
touch keeps its identity, from the entry to the Listener or Cluster of the model, so that `is` tells what has to be compiled.
"""

from typing import List, Optional, Union

from msgspec import Struct
from msgspec.structs import replace

from fastproxy.model import config, values
from fastproxy.model.check import MAX_LISTENERS, Checker, fallbacks, unique_binds
from fastproxy.model.load import without_gc
from fastproxy.model.walk import BAD, DEFAULT_OF, clip

KINDS = ("settings", "listener", "route_table", "cluster", "endpoints", "secret", "policy")
SETTINGS = "proxy"              # the one name there is of that kind
MAX_KIND = 100_000              # resources of one kind


class Table(Struct, frozen=True):
    """`routes: {table: NAME}` of a listener, until the table takes its place."""

    name: str


class RouteTable(Struct, frozen=True, kw_only=True):
    routes: Optional[List[config.Route]]
    virtual_hosts: Optional[List[config.VirtualHost]]


class Endpoints(Struct, frozen=True, kw_only=True):
    endpoints: List[config.Endpoint]
    discovery: Union[config.Dns, config.EndpointFile, None]


class Secret(Struct, frozen=True, kw_only=True):
    cert: Optional[str]
    key: Optional[str]
    ca: Optional[str]

    def __repr__(self):
        return "Secret(...)"    # so that no log and no traceback ever shows one


class Settings(Struct, frozen=True, kw_only=True):
    workers: Union[int, str]
    admin: Optional[str]
    metrics: Optional[str]
    drain_timeout: float
    drain_grace: float


class Entry:
    """One resource: as it came (`packed`), as the model has it (BAD if refused), and what it needs: {(kind, name): path}."""

    __slots__ = ("packed", "made", "needs")

    def __init__(self, packed, made, needs):
        self.packed, self.made, self.needs = packed, made, needs


class ResourceChecker(Checker):
    outer = 3

    def __init__(self):
        super().__init__(None)
        self.needs = {}

    def entry(self, kind, name, packed):
        """An Entry with whatever could be made of it."""
        self.needs, self.references = {}, []
        made = self.resource(kind, name, packed, ("resources", kind, name))
        for path, cluster in self.references:
            self.needs.setdefault(("cluster", cluster), path)
        return Entry(packed, made, self.needs)

    def resource(self, kind, name, packed, path):
        """As the model has it, or BAD. `packed.value()` gives the value, or raises ValueError."""
        try:
            values.name(name)
            value = packed.value()
        except ValueError as error:
            return self.fault(path, "value", str(error))
        if kind == "policy":
            return self.fault(path, "not_built", "policies are not built yet")
        if kind == "settings" and name != SETTINGS:
            return self.fault(path, "value", f"there is one resource of this kind, and it is called `{SETTINGS}`")
        if kind in ("listener", "cluster") and type(value) is dict:
            value = self.named(value, kind, name, path)
        return self.read_section(("section", kind), value, path)

    def named(self, value, kind, name, path):
        """The file's shape, which has the name within."""
        if value.get("name", name) != name:
            self.fault(path + ("name",), "conflict", f"the resource is called `{name}`")
        value = {**value, "name": name}
        if kind == "cluster" and value.get("endpoints") is None:
            self.needs["endpoints", name] = path
            value["endpoints"] = []
        return value

    def read_list(self, kind, value, path):
        if type(value) is dict and path[1] == "listener" and path[3:] == ("routes",):
            return self.read_table(value, path)
        return super().read_list(kind, value, path)

    def read_table(self, value, path):
        for key in value:
            if key != "table":
                return self.fault(path + (key,), "unknown_key", f"unknown key `{clip(key)}`; the keys here are table", True)
        if "table" not in value:
            return self.fault(path, "missing", "`table` is missing")
        name = self.read_name(("name",), value["table"], path + ("table",))
        if name is BAD:
            return BAD
        self.needs["route_table", name] = path + ("table",)
        return Table(name)

    def address(self, value, path, lowest_port):
        found = super().address(value, path, lowest_port)
        if found is not BAD and found.startswith("unix:") and not found.startswith("unix:/"):
            return self.fault(path, "value", "the path of a socket is absolute in a snapshot")
        return found

    def read_file(self, kind, value, path):
        if isinstance(value, str) and not value.startswith("/"):
            return self.fault(path, "value", "the path of a file is absolute in a snapshot")
        return super().read_file(kind, value, path)

    def finish_route_table(self, parts, path):
        listed = [one for one in ("routes", "virtual_hosts") if parts[one] is not None]
        if len(listed) != 1:
            if self.strange("route_table", parts):
                return BAD
            return self.fault(path, "conflict" if listed else "missing", "a route table has one of routes, virtual_hosts")
        self.unique_routes(parts, path)
        return self.made(RouteTable, parts)

    def finish_endpoints(self, parts, path):
        self.found_or_given(parts, path)
        return self.made(Endpoints, parts)

    def finish_secret(self, parts, path):
        if not any(parts.values()) and not self.strange("secret", parts):
            return self.fault(path, "missing", "a secret has at least one of cert, key, ca")
        return self.made(Secret, parts)

    def finish_settings(self, parts, path):
        return self.made(Settings, parts)


class Resources:
    """`entries`: {kind: {name: Entry}}; `listeners` and `clusters`: {name: as the model has it}; `config`: the model."""

    __slots__ = ("entries", "listeners", "clusters", "config")

    def __init__(self):
        self.entries = {kind: {} for kind in KINDS}
        self.listeners, self.clusters, self.config = {}, {}, None

    def replaced(self, given):
        """Exactly `given`, {kind: {name: packed}} -> (Resources or None, faults)."""
        checker, entries = ResourceChecker(), {kind: {} for kind in KINDS}
        with without_gc():
            self.read(checker, given, entries)
            across(checker, entries, all_of(entries))
            if checker.faults:
                return None, checker.faults
            return self.following(entries, entries["cluster"]), []

    def changed(self, given, removed):
        """With `given` added or replaced, and `removed`, {kind: [name]}, gone -> (Resources or None, faults)."""
        checker = ResourceChecker()
        entries = {kind: dict(named) if kind in given or kind in removed else named for kind, named in self.entries.items()}
        touched = self.remove(checker, given, removed, entries)
        self.read(checker, given, entries)
        fresh = [entries[kind][name] for kind, named in given.items() if kind in entries for name in named]
        across(checker, entries, all_of(entries) if touched else fresh)  # what stays can only miss what has gone
        if checker.faults:
            return None, checker.faults
        touched.update(name for kind in ("cluster", "endpoints") for name in given.get(kind, ()))
        return self.following(entries, touched, self.clusters), []

    def remove(self, checker, given, removed, entries):
        """Takes them out of `entries`. -> the set of names of what was removed."""
        names = set()
        for kind, listed in removed.items():
            if kind not in entries:
                unknown_kind(checker, ("remove", kind), kind)
                continue
            for i, name in enumerate(listed):
                if name in given.get(kind, ()):
                    checker.fault(("remove", kind, i), "conflict", f"`{clip(name)}` is set as well as removed")
                elif entries[kind].pop(name, None) is None:
                    checker.fault(("remove", kind, i), "value", f"there is no {kind} `{clip(name)}`")
                names.add(name)
        return names

    def read(self, checker, given, entries):
        """Fills in what is given; an entry that has come before as it is now is not read again."""
        for kind, named in given.items():
            if kind not in entries:
                unknown_kind(checker, ("resources", kind), kind)
                continue
            into, known = entries[kind], self.entries[kind]
            for name, packed in named.items():
                one = known.get(name)
                into[name] = one if one is not None and one.packed == packed else checker.entry(kind, name, packed)

    def following(self, entries, touched, clusters=None):
        """The next one. `touched`: names of clusters that may have changed; `clusters`: where the others come from."""
        out = Resources()
        out.entries = entries
        out.clusters = {} if clusters is None else dict(clusters)
        for name in touched:
            one = entries["cluster"].get(name)
            if one is None:
                out.clusters.pop(name, None)
                continue
            apart = entries["endpoints"][name] if ("endpoints", name) in one.needs else None
            if one is self.entries["cluster"].get(name) and (apart is None or apart is self.entries["endpoints"].get(name)):
                out.clusters[name] = self.clusters[name]
            elif apart is not None:
                out.clusters[name] = replace(one.made, endpoints=apart.made.endpoints, discovery=apart.made.discovery)
            else:
                out.clusters[name] = one.made
        tables = entries["route_table"]
        for name, one in entries["listener"].items():
            routes = one.made.routes
            if type(routes) is not Table:
                out.listeners[name] = one.made
            elif one is self.entries["listener"].get(name) and tables[routes.name] is self.entries["route_table"].get(routes.name):
                out.listeners[name] = self.listeners[name]
            else:
                table = tables[routes.name].made
                out.listeners[name] = replace(one.made, routes=table.routes, virtual_hosts=table.virtual_hosts)
        settings = entries["settings"].get(SETTINGS)
        made = settings.made if settings else DEFAULT_SETTINGS
        out.config = config.Config(workers=made.workers, admin=made.admin, metrics=made.metrics, drain_timeout=made.drain_timeout, drain_grace=made.drain_grace,
                                   listeners=list(out.listeners.values()), clusters=list(out.clusters.values()))
        return out

    def same(self, other):
        """Whether both give the same model."""
        return self is other or (self.config is not None and other.config is not None and self.settings() == other.settings()
                                 and identical(self.listeners, other.listeners) and identical(self.clusters, other.clusters))

    def settings(self):
        one = self.config
        return one.workers, one.admin, one.metrics, one.drain_timeout, one.drain_grace

    def packed(self):
        """{kind: {name: packed}}: as it all came."""
        return {kind: {name: one.packed for name, one in named.items()} for kind, named in self.entries.items() if named}


def identical(one, other):
    return len(one) == len(other) and all(value is other.get(name) for name, value in one.items())


def all_of(entries):
    return [one for named in entries.values() for one in named.values()]


def across(checker, entries, fresh):
    """What no single resource can tell: references of the `fresh` ones, and addresses and numbers of all."""
    wanted = {"cluster": "unknown_cluster", "route_table": "unknown_route_table", "endpoints": "missing"}
    for one in fresh:
        for (kind, name), path in one.needs.items():
            if name in entries[kind]:
                continue
            if kind == "endpoints":
                message = "`endpoints` is missing, and there is no resource `endpoints` of this name"
            else:
                message = f"there is no {kind} `{clip(name)}`" + checker.did_you_mean(name, entries[kind])
            checker.fault(path, wanted[kind], message)
    for kind, named in entries.items():
        bound = MAX_LISTENERS if kind == "listener" else MAX_KIND
        if len(named) > bound:
            checker.fault(("resources", kind), "range", f"more than {bound} resources of this kind")
    if any(type(one.made) is config.Cluster and one.made.fallback is not None for one in fresh):
        fallbacks(checker, [(("resources", "cluster", name), one.made) for name, one in entries["cluster"].items() if one.made is not BAD])
    binds = [(("resources", "listener", name, "bind"), one.made.bind) for name, one in entries["listener"].items() if one.made is not BAD]
    settings = entries["settings"].get(SETTINGS)
    for key in ("admin", "metrics") if settings and settings.made is not BAD else ():
        if address := getattr(settings.made, key):
            binds.append((("resources", "settings", SETTINGS, key), address))
    unique_binds(checker, binds)


def unknown_kind(checker, path, kind):
    checker.fault(path, "unknown_kind", f"unknown kind `{clip(kind)}`" + (checker.did_you_mean(kind, KINDS) or "; there are " + ", ".join(KINDS)), True)


DEFAULT_SETTINGS = Settings(**DEFAULT_OF["settings"])
