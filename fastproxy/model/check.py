"""Values as composed -> the model: the walk (walk.py), and then what no single option can tell.

That is: names that must be unique, references, options that exclude each other or have no meaning together. `finish_X` is called
with what the walk has read of a section X, defaults included, where some of it may be BAD.
"""

from fastproxy.model import config, logformat
from fastproxy.model.walk import BAD, DEFAULT_OF, Walk, clip, rendered

MAX_LISTENERS = 500             # the core has 1024 places, and a reload needs old and new at once
MAX_FALLBACKS = 4               # in a row; the core keeps a place for the counters of each
HTTP_ONLY = ("routes", "virtual_hosts", "limits", "x_forwarded", "request_id", "via", "filters")
TARGETS = ("cluster", "split", "redirect", "direct_response")
DEFAULT_ROUTE = {key: value for key, value in DEFAULT_OF["route"].items() if key != "cluster"}


class Checker(Walk):
    """One pass over one configuration."""

    outer = 2                   # parts of a path which lead to a listener: its routes are named by the rest

    def place(self, path):
        """('listeners', 0, 'virtual_hosts', 1, 'routes', 2) -> 'virtual_hosts[1].routes[2]'"""
        return rendered(path[self.outer:])

    def finish_match(self, parts, path):
        if parts["path"] is not None and parts["path_prefix"] is not None:
            return self.fault(path, "conflict", "`path` and `path_prefix` exclude each other")
        return self.made(config.Match, parts)

    def finish_redirect(self, parts, path):
        if all(parts[key] is None for key in ("scheme", "host", "port", "path", "path_prefix")):
            if self.strange("redirect", parts):
                return BAD
            return self.fault(path, "missing", "one of scheme, host, port, path, path_prefix is needed: the client would come back to the same URL")
        if parts["path"] is not None and parts["path_prefix"] is not None:
            return self.fault(path, "conflict", "`path` and `path_prefix` exclude each other")
        return self.made(config.Redirect, parts)

    def finish_rewrite(self, parts, path):
        if parts["path"] is not None and parts["path_prefix"] is not None:
            return self.fault(path, "conflict", "`path` and `path_prefix` exclude each other")
        return self.made(config.Rewrite, parts)

    def finish_direct_response(self, parts, path):
        if parts["status"] in (204, 205, 304) and parts["body"]:
            return self.fault(path + ("body",), "conflict", f"a response {parts['status']} has no body")
        return self.made(config.DirectResponse, parts)

    def finish_access_log(self, parts, path):
        if parts["format"] is not None and parts["json"] is not None:
            return self.fault(path, "conflict", "`format` and `json` exclude each other")
        if BAD in parts.values():
            return BAD
        made = parts["format"] or parts["json"] or logformat.text_format(logformat.DEFAULT)
        return config.AccessLog(path=parts["path"], format=made)

    def finish_header_edit(self, parts, path):
        names = {}
        for verb in ("set", "remove"):
            for i, one in enumerate(parts[verb] if parts[verb] is not BAD else ()):
                other = names.setdefault(one.lower(), verb)
                if other != verb:
                    return self.fault(path + (verb, i), "conflict", f"`{one}` is set as well as removed; set replaces what is there")
        return self.made(config.HeaderEdit, parts)

    def finish_route(self, parts, path):
        given = [one for one in TARGETS if parts[one] is not None]
        if len(given) > 1:
            return self.fault(path, "conflict", f"a route has one target, found {' and '.join(given)}")
        if not given:
            if self.strange("route", parts):
                return BAD
            return self.fault(path, "missing", "a route needs a target: one of cluster, split, redirect, direct_response")
        target, match = given[0], parts["match"]
        split = []
        if target == "cluster":
            split = [config.Split(cluster=parts["cluster"], weight=1)] if parts["cluster"] is not BAD else []
        elif target == "split" and parts["split"] is not BAD:
            split = [one for one in parts["split"] if one is not BAD]
            if len(split) == len(parts["split"]) and not any(one.weight for one in split):
                return self.fault(path + ("split",), "value", "the weights add up to 0")
            seen = set()
            for i, one in enumerate(parts["split"]):
                if one is not BAD and one.cluster in seen:
                    self.fault(path + ("split", i, "cluster"), "duplicate", f"the cluster `{one.cluster}` is repeated")
                if one is not BAD:
                    seen.add(one.cluster)
        if target in ("redirect", "direct_response"):
            for key in ("timeout", "upgrades", "rewrite", "request_headers"):
                if parts[key] is not BAD and parts[key] is not DEFAULT_OF["route"][key]:
                    self.fault(path + (key,), "conflict", f"`{key}` has no meaning beside `{target}`", True)
        for key in ("rewrite", "redirect"):
            one = parts[key]
            if one is not None and one is not BAD and one.path_prefix is not None and match is not BAD and match.path_prefix is None:
                self.fault(path + (key, "path_prefix"), "conflict", "`path_prefix` replaces what match.path_prefix matched, and there is none", True)
        if BAD in parts.values():
            return BAD
        del parts["cluster"]
        parts.update(name=parts["name"] or self.place(path), split=split)
        return config.Route(**parts)

    def finish_virtual_host(self, parts, path):
        if parts["name"] is None:
            parts["name"] = BAD if parts["hosts"] is BAD else parts["hosts"][0]
        for i, one in rows(parts["routes"]):
            if one.match.host is not None:
                self.fault(path + ("routes", i, "match", "host"), "conflict", "the virtual host says which hosts; `host` has no meaning here", True)
        return self.made(config.VirtualHost, parts)

    def finish_listener(self, parts, path):
        protocol, listed = parts["protocol"], [one for one in ("routes", "virtual_hosts", "cluster") if parts[one] is not None]
        if protocol == "tcp":
            for key in HTTP_ONLY:
                if parts[key] is not BAD and parts[key] is not DEFAULT_OF["listener"][key]:
                    self.fault(path + (key,), "conflict", f"`{key}` has no meaning for a tcp listener", True)
            for key in ("head", "stream_idle"):
                if parts["timeouts"] is not BAD and getattr(parts["timeouts"], key) is not DEFAULT_OF["timeouts"][key]:
                    self.fault(path + ("timeouts", key), "conflict", f"`{key}` has no meaning for a tcp listener", True)
            if parts["cluster"] is None:
                return BAD if self.strange("listener", parts) else self.fault(path, "missing", "a tcp listener needs a `cluster`")
        elif protocol == "http":
            if len(listed) > 1:
                return self.fault(path, "conflict", f"a listener has one of routes, virtual_hosts, cluster; found {' and '.join(listed)}")
            if not listed:
                if self.strange("listener", parts):
                    return BAD
                return self.fault(path, "missing", "an http listener needs routes, virtual_hosts or a cluster")
            self.unique_routes(parts, path)
        if BAD in parts.values():
            return BAD
        if protocol == "http" and parts["cluster"] is not None:
            name = parts.pop("cluster")
            split = [config.Split(cluster=name, weight=1)]
            parts.update(cluster=None, routes=[config.Route(**{**DEFAULT_ROUTE, "split": split, "name": "routes[0]"})])
        return config.Listener(**parts)

    def unique_routes(self, parts, path):
        """Names of routes and of virtual hosts, and the hosts themselves, within one listener."""
        names, groups, hosts = {}, {}, {}
        self.unique("route", [(path + ("routes", i), one.name) for i, one in rows(parts["routes"])], names)
        for i, group in rows(parts["virtual_hosts"]):
            at = path + ("virtual_hosts", i)
            self.unique("virtual host", [(at, group.name)], groups)
            self.unique("route", [(at + ("routes", j), one.name) for j, one in rows(group.routes)], names)
            for j, one in enumerate(group.hosts):
                if one in hosts and hosts[one][:len(at)] != at:
                    self.fault(at + ("hosts", j), "duplicate", f"the host `{one}` is at {rendered(hosts[one])} already")
                hosts.setdefault(one, at + ("hosts", j))

    def unique(self, what, rows, seen):
        for path, name in rows:
            if name in seen:
                self.fault(path + ("name",), "duplicate", f"another {what} is named `{name}`: {rendered(seen[name])}")
            else:
                seen[name] = path

    def finish_discovery(self, parts, path):
        given = [one for one in ("dns", "file") if parts[one] is not None]
        if len(given) != 1:
            if self.strange("discovery", parts):
                return BAD
            return self.fault(path, "conflict" if given else "missing", "endpoints are a list, or are found by one of dns, file")
        if BAD in parts.values():
            return BAD
        return parts["dns"] or config.EndpointFile(path=parts["file"])

    def finish_dns(self, parts, path):
        if type(parts["resolvers"]) is list:
            parts["resolvers"] = tuple(parts["resolvers"])
        return self.made(config.Dns, parts)

    def finish_cluster(self, parts, path):
        self.found_or_given(parts, path)
        return self.made(config.Cluster, parts)

    def found_or_given(self, parts, path):
        """What was read as `endpoints` -> `endpoints` and `discovery`."""
        given, parts["discovery"] = parts["endpoints"], None
        if type(given) is list:
            self.repeated_endpoints(given, path + ("endpoints",))
        elif given is not BAD:
            parts["endpoints"], parts["discovery"] = [], given

    def repeated_endpoints(self, found, path):
        seen = {}
        for i, one in rows(found):
            if one.address in seen:
                self.fault(path + (i,), "duplicate", f"the endpoint {one.address} is repeated; give it a weight")
            seen[one.address] = i

    def read_any(self, kind, value, path):
        raise AssertionError("an option that is not built is never read")


def rows(found):
    """(index, value) of what is good in a list that may be BAD or absent."""
    return [(i, one) for i, one in enumerate(found if type(found) is list else ()) if one is not BAD]


def check(value, base=None):
    """-> (Config or BAD, faults)"""
    checker = Checker(base)
    parts = checker.section("config", value, ())
    if parts is BAD:
        return BAD, checker.faults
    raw = value if isinstance(value, dict) else {}
    if parts["listeners"] is not BAD and len(parts["listeners"]) > MAX_LISTENERS:
        checker.fault(("listeners",), "range", f"more than {MAX_LISTENERS} listeners")
    names = {}
    for what in ("listener", "cluster"):
        given = raw.get(what + "s")
        named = [((what + "s", i), str(one["name"])) for i, one in rows(given) if type(one) is dict and isinstance(one.get("name"), (str, int))]
        names[what] = {}
        checker.unique(what, named, names[what])
    for path, name in checker.references:
        if name not in names["cluster"]:
            checker.fault(path, "unknown_cluster", f"there is no cluster `{clip(name)}`" + checker.did_you_mean(name, names["cluster"]))
    fallbacks(checker, [(("clusters", i), one) for i, one in rows(parts["clusters"])])
    binds = [(("listeners", i, "bind"), one.bind) for i, one in rows(parts["listeners"])]
    unique_binds(checker, binds + [((key,), parts[key]) for key in ("admin", "metrics") if parts[key] not in (None, BAD)])
    return (checker.made(config.Config, parts) if not checker.faults else BAD), checker.faults


def check_endpoints(value, base=None):
    """-> ([Endpoint] or BAD, faults), of a file that has a list of them and nothing else."""
    checker = Checker(base)
    found = checker.read(("list", ("endpoint",), 0), value, ())
    checker.repeated_endpoints(found, ())
    return (found if not checker.faults else BAD), checker.faults


def fallbacks(checker, clusters):
    """Every chain of fallbacks ends, and is not too long. `clusters`: [(path, cluster)] of all that are good."""
    after = {one.name: one.fallback for _, one in clusters if one.fallback is not None}
    for path, one in clusters if after else ():
        chain = [one.name]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
            if chain[-1] in chain[:-1]:
                checker.fault(path + ("fallback",), "conflict", f"the fallbacks go round: {', '.join(chain)}")
                break
            if len(chain) > MAX_FALLBACKS + 1:
                checker.fault(path + ("fallback",), "range", f"more than {MAX_FALLBACKS} fallbacks in a row: {', '.join(chain)}")
                break


def unique_binds(checker, binds):
    """`binds`: [(path, address)]"""
    seen = {}
    for path, bind in binds:
        if bind.endswith(":0") and not bind.startswith("unix:"):
            continue
        if bind in seen:
            checker.fault(path, "duplicate", f"{bind} is taken: {rendered(seen[bind])}")
        seen.setdefault(bind, path)
