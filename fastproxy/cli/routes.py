"""`fastproxy routes`: what the listeners of a running proxy do with whom, in the order in which it is tried, and how often it was done."""

import json

from fastproxy.cli.admin import Denied, asks, find, get
from fastproxy.cli.table import success, table


@asks
def routes(address, listener, output):
    address = find(address)
    config = json.loads(get(address, "/config"))["config"]
    names = [one["name"] for one in config["listeners"]]
    if listener is not None and listener not in names:
        raise Denied(f"there is no listener `{listener}`; there are: {', '.join(names) or 'none'}")
    rows = rows_of(config, json.loads(get(address, "/stats"))["routes"])
    rows = [one for one in rows if listener in (None, one["listener"])]
    if output == "json":
        print(json.dumps(rows, indent=1))
        return 0
    table(("LISTENER", "ROUTE", "HOST", "MATCH", "TARGET", "TIMEOUT", "REQUESTS", "SUCCESS"),
          [(one["listener"], one["route"] or "-", ",".join(one["hosts"]), one["match"], one["target"], one["timeout"],
            one["requests"] or one["connections"], success(one["status"])) for one in rows])
    return 0


def rows_of(config, counted):
    """`config`: in the shape of the file; `counted`: routes of /stats. A target's own counters are in /stats, here is their sum."""
    sums = {}
    for one in counted:
        into = sums.setdefault((one["listener"], one["route"]), {"requests": 0, "connections": 0, "status": dict.fromkeys(one["status"], 0)})
        into["requests"] += one["requests"]
        into["connections"] += one["connections"]
        for name, n in one["status"].items():
            into["status"][name] += n
    nothing = {"requests": 0, "connections": 0, "status": {"5xx": 0}}
    rows = []

    def add(listener, route, hosts, match, target, timeout):
        rows.append({"listener": listener, "route": route, "hosts": hosts, "match": match, "target": target, "timeout": timeout,
                     **sums.get((listener, route), nothing)})

    for one in config["listeners"]:
        name = one["name"]
        if one["protocol"] == "tcp":
            add(name, "", ["*"], "tcp", one["cluster"], "-")
            continue
        for i, group in enumerate(one.get("virtual_hosts") or [{"hosts": None, "routes": one.get("routes", [])}]):
            for j, route in enumerate(group["routes"]):
                place = f"virtual_hosts[{i}].routes[{j}]" if group["hosts"] else f"routes[{j}]"
                match, timeout = route.get("match", {}), route.get("timeout", "-")
                add(name, route.get("name", place), group["hosts"] or [matcher(match.get("host", "*"))], match_text(match), target(route),
                    "none" if timeout == "0s" else timeout)
        if (name, "") in sums:
            add(name, "", ["*"], "no route", "-", "-")
    return rows


def match_text(match):
    parts = []
    if "methods" in match:
        parts.append(",".join(match["methods"]))
    if "path_prefix" in match:
        parts.append(match["path_prefix"].rstrip("/") + "/*")
    if "path" in match:
        parts.append(matcher(match["path"]))
    parts += [f"{name}: {matcher(one)}" for name, one in match.get("headers", {}).items()]
    parts += [f"?{name}={matcher(one)}" for name, one in match.get("query", {}).items()]
    return " ".join(parts) or "/*"


def matcher(one):
    if isinstance(one, str):
        return one
    kind, value = next((kind, value) for kind, value in one.items() if kind != "invert")
    text = {"exact": f"{value}", "prefix": f"{value}*", "suffix": f"*{value}", "contains": f"*{value}*", "regex": f"~{value}", "present": "*"}[kind]
    return "not " + text if one.get("invert") else text


def target(route):
    if "redirect" in route:
        to = route["redirect"]
        where = to.get("path") or (to["path_prefix"].rstrip("/") + "/*" if "path_prefix" in to else "")
        name = f"{to['scheme']}://" if "scheme" in to else "//" if "host" in to else ""
        port = f":{to['port']}" if "port" in to else ""
        return f"redirect {to['status']} {name}{to.get('host', '')}{port}{where}"
    if "direct_response" in route:
        return f"answer {route['direct_response']['status']}"
    if "cluster" in route:
        return route["cluster"]
    total = sum(one["weight"] for one in route["split"])
    return " ".join(f"{one['cluster']}={100 * one['weight'] / total:.3g}%" for one in route["split"])
