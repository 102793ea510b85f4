"""`fastproxy proxy`: the configuration of a running proxy, its drain, and its log levels."""

import json
import time
import urllib.parse

from fastproxy.cli.admin import Denied, asks, find, get
from fastproxy.cli.table import table

POLL_S = 0.1


@asks
def config(address, output):
    """In the shape of the file, with every default, credentials taken out."""
    shown = json.loads(get(find(address), "/config"))["config"]
    if output == "json":
        print(json.dumps(shown, indent=1))
        return 0
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data):
            return True

    print(yaml.dump(shown, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1 << 30), end="")
    return 0


@asks
def drain(address, wait_s, output):
    """1 if something is still in flight when the wait is over."""
    address = find(address)
    active = {name: n for name, n in json.loads(get(address, "/drain", "POST")).items() if name in ("conns", "streams")}
    end = time.monotonic() + (wait_s or 0)
    while wait_s is not None and any(active.values()):
        if time.monotonic() >= end:
            break
        time.sleep(POLL_S)
        workers = json.loads(get(address, "/stats"))["workers"]
        active = {name: sum(one[name] for one in workers) for name in active}
    code = 1 if wait_s is not None and any(active.values()) else 0
    if output == "json":
        print(json.dumps({"draining": True, "drained": not any(active.values()), **active}))
    else:
        print(f"drained, and accepts no more: {address}" if not any(active.values()) else
              f"draining, {active['conns']} connections and {active['streams']} streams are open: {address}")
    return code


@asks
def log(address, component, level, ttl_s, output):
    address = find(address)
    if level:
        query = {"component": component or "all", "level": level, **({"ttl": f"{ttl_s:.0f}s"} if ttl_s else {})}
        done = json.loads(get(address, "/logging?" + urllib.parse.urlencode(query), "POST"))
        if output == "json":
            print(json.dumps(done))
        else:
            print(f"{done['component']}: {done['level']} for {done['ttl_seconds']:g} s")
        return 0
    levels = json.loads(get(address, "/logging"))
    if component not in (None, "all"):
        if component not in levels:
            raise Denied(f"there is no component `{component}`; there are: {', '.join(levels)}")
        levels = {component: levels[component]}
    if output == "json":
        print(json.dumps(levels, indent=1))
    else:
        table(("COMPONENT", "LEVEL", "FOR"), [(name, one["level"], "-" if one["seconds_left"] is None else f"{one['seconds_left']:.0f} s more")
                                              for name, one in levels.items()])
    return 0
