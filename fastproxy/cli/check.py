"""`fastproxy check`: named checks of a proxy, of its machine and of a configuration file, each with a line that says how to mend it.

Facts are gathered first, then judged: a check is a function of Facts, in the order of CHECKS, and returns one of ok, warn, fail, or
None where there is nothing to judge.
"""

import errno
import json
import os
import stat
import sys
import time

from fastproxy.cli.admin import NoTarget, Unreachable, call, find
from fastproxy.cli.probe import dial, machine
from fastproxy.version import VERSION

DIALLED = 64            # endpoints that are tried, over all clusters
FEW_FILES = 256
FULL = 0.9
PIPE_BYTES = 1 << 20    # what the core asks for (PIPE_SIZE)
PIPE_PAGES = 1024
BACKLOG = 4096
CLOCK_STEP_S = 60.0
TIMEOUT_S = 5.0
SHOWN = 3               # of many, in one line


class Facts:
    """What is known; None where it cannot be.

    path, model, config: the file, its model, and the shape of the file of it; fault: what is wrong with it
    address: of the admin interface; unreachable: why it does not answer; ready: (status, text)
    stats, running: what /stats and /config answer
    machine: probe.machine(); dialled: {address: None or what failed}"""

    def __init__(self):
        self.path = self.model = self.config = self.fault = self.address = self.unreachable = self.ready = self.stats = self.running = None
        self.machine, self.dialled = {}, {}

    @property
    def offline(self):
        return self.stats is None

    @property
    def shape(self):
        """Of the configuration that is looked at: the running one, else the file's."""
        return self.running or self.config

    @property
    def ends(self):
        """{cluster: [endpoint]}, as they run; without a proxy, those that are listed, and None for what would have to be found."""
        seen = {} if self.offline else self.stats["clusters"]
        return {one["name"]: seen[one["name"]]["endpoints"] if one["name"] in seen else one["endpoints"] if type(one["endpoints"]) is list else None
                for one in self.shape["clusters"]}


def check(address, path, output):
    facts = Facts()
    try:
        gather(facts, address, path)
    except NoTarget as error:
        print(f"fastproxy: {error}", file=sys.stderr)
        return 2
    rows = judged(facts)
    if output == "json":
        print(json.dumps({"admin": facts.address, "file": path, "checks": [dict(zip(("check", "status", "text", "fix"), row)) for row in rows]}, indent=1))
    else:
        show(rows)
    if facts.unreachable:
        return 3
    return 1 if any(status == "fail" for _, status, _, _ in rows) else 0


def judged(facts):
    """[(name, status, text, fix or None)]"""
    return [(name, *found, *[None] * (3 - len(found))) for name, one in CHECKS.items() if (found := one(facts))]


def show(rows):
    width = max(len(row[0]) for row in rows)
    for name, status, text, fix in rows:
        print(f"{status:4}  {name:{width}}  {text}")
        if fix:
            print(f"      {'':{width}}  fix: {fix}")
    counts = {status: sum(row[1] == status for row in rows) for status in ("ok", "warn", "fail")}
    print(", ".join(f"{n} {status}" for status, n in counts.items()))


# ---- facts -----------------------------------------------------------------------------------------------------------------

def gather(facts, address, path):
    """Raises NoTarget if there is neither a proxy nor a file."""
    if path is not None:
        read_file(facts, path)
    facts.machine = machine()
    given = address or os.environ.get("FASTPROXY_ADMIN")
    if path is None or given:
        facts.address = find(address)
    elif facts.model is not None and facts.model.admin and not facts.model.admin.endswith(":0"):
        facts.address = facts.model.admin
    if facts.address:
        try:
            ask(facts)
        except Unreachable as error:
            if path is None or given or getattr(error.__cause__, "errno", None) not in (errno.ENOENT, errno.ECONNREFUSED):
                facts.unreachable = str(error)
            else:
                facts.address = None        # the file's proxy does not run: could it?
    ends = [end["address"] for here in facts.ends.values() for end in here or ()][:DIALLED] if facts.shape else []
    if not facts.offline:
        ends += [one["address"] for one in facts.stats["listeners"].values()]
    facts.dialled = dial(ends)


def read_file(facts, path):
    from fastproxy.model import ConfigError, load
    from fastproxy.model.written import redact, written
    facts.path = path
    try:
        facts.model = load(path)
    except ConfigError as error:
        facts.fault = "; ".join(map(str, error.errors[:SHOWN])) + (f"; and {len(error.errors) - SHOWN} more" if len(error.errors) > SHOWN else "")
    except OSError as error:
        facts.fault = f"{path}: {error.strerror}"
    else:
        facts.config = redact(written(facts.model))


def ask(facts):
    facts.ready = call(facts.address, "/ready", timeout_s=TIMEOUT_S)
    (status, stats), (_, config) = call(facts.address, "/stats", timeout_s=TIMEOUT_S), call(facts.address, "/config", timeout_s=TIMEOUT_S)
    try:
        facts.stats, facts.running = json.loads(stats), json.loads(config)["config"]
    except (ValueError, KeyError):
        raise Unreachable(f"{facts.address}: no admin interface of fastproxy answers there ({status})") from None


def some(names):
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


# ---- the file --------------------------------------------------------------------------------------------------------------

def config_file(facts):
    if facts.path is None:
        return None
    if facts.fault:
        return "fail", facts.fault, f"correct the file; `fastproxy validate {facts.path}` says all that is wrong"
    return "ok", f"{facts.path} is valid"


def config_current(facts):
    """Secrets are redacted in both, so that they are not compared."""
    if facts.config is None or facts.offline:
        return None
    found = list(differences(facts.config, facts.running))
    if found:
        return "fail", f"the proxy runs something else than {facts.path}: {some(found)}", "reload it with SIGHUP; if it refuses, its log says why"
    return "ok", f"the proxy runs what is in {facts.path}"


def differences(file, running, path=""):
    if type(file) is dict and type(running) is dict:
        for key in [*file, *(key for key in running if key not in file)]:
            yield from differences(file.get(key), running.get(key), f"{path}.{key}" if path else key)
    elif type(file) is list and type(running) is list and len(file) == len(running):
        for i, (one, other) in enumerate(zip(file, running)):
            yield from differences(one, other, f"{path}[{i}]")
    elif file != running:
        yield f"{path}" if type(file) in (dict, list) or type(running) in (dict, list) else f"{path} is {running}, and {file} in the file"


# ---- the proxy -------------------------------------------------------------------------------------------------------------

def admin(facts):
    if facts.unreachable:
        return "fail", facts.unreachable, "start the proxy, as the user who asks (mode 0600), or give its address: --admin, as its configuration has it"
    if facts.offline:
        return None
    return "ok", f"{facts.address} answers, process {facts.stats['pid']}"


def admin_access(facts):
    if facts.offline:
        return None
    if not facts.address.startswith("unix:"):
        bind = facts.stats["services"].get("admin", facts.address).rpartition(":")[0]
        if not bind.startswith("127.") and bind not in ("[::1]", "localhost"):
            return "fail", f"the admin interface listens on {bind}: whoever reaches it may drain the proxy", "admin: unix:/path in the configuration"
        return "ok", f"{bind} is this machine alone, and a changing call needs a header"
    path = facts.address[5:]
    try:
        found = os.stat(path)
    except OSError as error:
        return "fail", f"{path}: {error.strerror}", "restart the proxy: its socket was removed"
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        return "fail", f"{path} has mode {mode:04o}: others may use it", f"chmod 600 {path}"
    if found.st_uid != facts.stats["process"]["uid"]:
        return "fail", f"{path} belongs to uid {found.st_uid}, and the proxy runs as {facts.stats['process']['uid']}", "restart the proxy"
    return "ok", f"{path} has mode {mode:04o}"


def version(facts):
    if facts.offline:
        return None
    if facts.stats["version"] != VERSION:
        return "warn", f"the proxy runs {facts.stats['version']}, this command is {VERSION}", "restart the proxy to run what is installed"
    return "ok", VERSION


def ready(facts):
    if facts.offline:
        return None
    if facts.ready[0] != 200:
        return "fail", f"not ready: {facts.ready[1].strip()}", "it accepts no connections any more: start it anew" if facts.stats["draining"] else "wait for its start"
    return "ok", f"ready, up {facts.stats['uptime_seconds']:.0f} s"


def listeners(facts):
    if facts.offline or facts.stats["draining"]:
        return None
    here = facts.stats["listeners"]
    bad = [f"{name} on {one['address']} ({why})" for name, one in here.items() if (why := facts.dialled.get(one["address"]))]
    bad += [f"{one['name']} is not open" for one in facts.running["listeners"] if one["name"] not in here]
    if bad:
        return "fail", f"cannot connect to {some(bad)}", "if the file of a socket was removed, restart the proxy; else look for a firewall, or another network namespace"
    return "ok", f"{len(here)} accept connections" if here else "none are configured"


def reloads(facts):
    if facts.offline or facts.stats.get("snapshot"):
        return None
    refused = facts.stats["reload_error"]
    if refused:
        return ("fail", f"the last reload was refused: {some(refused['error'].splitlines())}",
                "correct the file: it is taken as soon as it is valid; what ran before goes on serving")
    return "ok", f"{facts.stats['reloads']['ok']} taken, the last one too" if facts.stats["reloads"]["ok"] else "none yet"


def snapshots(facts):
    one = None if facts.offline else facts.stats.get("snapshot")
    if not one:
        return None
    if not one["connected"]:
        return "fail", f"no source at {one['source']}; version {one['version']} goes on serving", "start the source, as our own user or one named by --source-uid"
    if one["errors"]:
        said = some(f"{error['path']}: {error['message']}" if error["path"] else error["message"] for error in one["errors"])
        return "fail", f"the last snapshot was refused: {said}", f"correct it at the source {one['source']}; version {one['version']} goes on serving"
    if one["stale"]:
        return "warn", f"version {one['version']} is from the disk, and the source has not confirmed it", f"let the source {one['source']} send a snapshot"
    return "ok", f"version {one['version']} of {one['source']}"


def metrics(facts):
    if facts.offline:
        return None
    address = facts.stats["services"].get("metrics")
    if not address:
        return "ok", "off: there is no `metrics` in the configuration"
    try:
        status, text = call(reachable(address), "/metrics", timeout_s=TIMEOUT_S)
    except Unreachable as error:
        return "fail", f"no answer: {error}", "if the file of the socket was removed, restart the proxy; else look for a firewall, or another network namespace"
    if status != 200 or "fastproxy_build_info" not in text:
        return "fail", f"{address} answers {status}, and not as the proxy would", "another program has the address: look for it with `ss -ltnp`"
    return "ok", f"http://{address}/metrics"


def reachable(address):
    return address.replace("0.0.0.0:", "127.0.0.1:", 1) if address.startswith("0.0.0.0:") else address.replace("[::]:", "[::1]:", 1)


def addresses(facts):
    """Of a file whose proxy does not run: can it have them?"""
    if facts.model is None or not facts.offline or facts.unreachable:
        return None
    from fastproxy.cli.probe import bindable
    wanted = [(f"listener {one.name}", one.bind) for one in facts.model.listeners]
    wanted += [(name, bind) for name in ("admin", "metrics") if (bind := getattr(facts.model, name))]
    bad = [f"{name} on {bind}: {why}" for name, bind in wanted if (why := bindable(bind))]
    if bad:
        return "fail", some(bad), "end what listens there (`ss -ltnp` names it), or choose another address"
    return "ok", f"{len(wanted)} can be had"


# ---- limits ----------------------------------------------------------------------------------------------------------------

def files(facts):
    if facts.shape is None:
        return None
    limit, used = (facts.machine["max_fds"], 0) if facts.offline else (facts.stats["process"]["max_fds"], facts.stats["process"]["open_fds"])
    most = max([one["limits"]["connections"] for one in facts.shape["clusters"]], default=0)
    fix = f"ulimit -n {max(65536, 4 * most)}, or LimitNOFILE= of the unit, before the proxy starts"
    if limit < FEW_FILES:
        return "fail", f"the process may open only {limit} files", fix
    if used > FULL * limit:
        return "fail", f"{used} of {limit} files are open", fix
    if limit < 2 * most + FEW_FILES:
        return "warn", f"the process may open {limit} files: too few for a cluster's {most} connections and as many clients", fix
    return "ok", f"{limit}" if facts.offline else f"{used} of {limit} are open"


def limits(facts):
    if facts.offline:
        return None
    full = [f"{name}: {one['used'][what]} of {most} {what}" for name, one in facts.stats["clusters"].items() for what, most in one["limits"].items()
            if one["used"][what] >= most]
    if full:
        return "fail", f"reached: {some(full)}", "more waits or is answered 503 (overflow): raise `limits` of the cluster, or give it more endpoints"
    return "ok", "no cluster is at a limit"


def workers(facts):
    if facts.shape is None:
        return None
    cores = facts.machine["cores"] if facts.offline else facts.stats["process"]["cores"]
    wanted = facts.shape["workers"] if facts.shape["workers"] != "auto" else cores
    running = max(1, wanted) if facts.offline else len(facts.stats["workers"])
    if running != max(1, wanted):
        return "warn", f"{running} run, and {wanted} are configured", "restart the proxy: the number takes effect at a start"
    if running > cores:
        return "warn", f"{running} workers share {cores} cores", f"workers: {cores}, or auto"
    return "ok", f"{running} on {cores} cores"


# ---- clusters --------------------------------------------------------------------------------------------------------------

def clusters(facts):
    if facts.shape is None:
        return None
    used = set(used_clusters(facts.shape))
    empty = [one["name"] for one in facts.shape["clusters"] if facts.ends[one["name"]] == [] and "fallback" not in one]
    bad = [name for name in empty if name in used]
    if bad:
        return "fail", f"no endpoints, so that all is answered 503: {some(bad)}", "give the cluster `endpoints`, or send its traffic elsewhere"
    if empty:
        return "warn", f"no endpoints, and nothing leads there: {some(empty)}", "remove the cluster, or give it `endpoints`"
    return "ok", f"{len(facts.shape['clusters'])} have endpoints, or a fallback"


def discovery(facts):
    """Files and names that have the endpoints."""
    if facts.shape is None:
        return None
    looked = [(one["name"], one["endpoints"]) for one in facts.shape["clusters"] if type(one["endpoints"]) is dict]
    fix = "mend the file; or give it time, or `resolvers` that know the name. What was found before stays"
    bad, worse = [], []
    for name, where in looked:
        error = file_fault(where) if facts.offline else facts.stats["clusters"].get(name, {}).get("discovery", {}).get("error")
        if error:
            (bad if facts.ends[name] else worse).append(f"{name}: {error}")
    if worse:
        return "fail", f"endpoints are not found: {some(worse)}", fix
    if bad:
        return "warn", f"endpoints are as they were found before: {some(bad)}", fix
    return ("ok", f"{len(looked)} clusters have their endpoints from a file or a name") if looked else None


def file_fault(where):
    """What is wrong with a file of endpoints, or None. Names are not looked up from here."""
    from fastproxy.model import ConfigError
    from fastproxy.model.load import load_endpoints
    try:
        if "file" in where:
            load_endpoints(where["file"])
    except ConfigError as error:
        return str(error.errors[0])
    except OSError as error:
        return f"{where['file']}: {error.strerror}"
    return None


def used_clusters(config):
    """With what stands in for them."""
    after = {one["name"]: one["fallback"] for one in config["clusters"] if "fallback" in one}
    for name in routed_clusters(config):
        yield name
        while name in after:
            name = after[name]
            yield name


def routed_clusters(config):
    for one in config["listeners"]:
        if "cluster" in one:
            yield one["cluster"]
        for group in one.get("virtual_hosts") or [one]:
            for route in group.get("routes", ()):
                if "cluster" in route:
                    yield route["cluster"]
                yield from (share["cluster"] for share in route.get("split", ()) if share["weight"])


def endpoints(facts):
    """What the proxy has seen of them, and whether they can be connected to from here."""
    if facts.shape is None:
        return None
    bad, dead, n = [], [], 0
    for one in facts.shape["clusters"]:
        seen = {} if facts.offline else {end["address"]: end for end in facts.stats["clusters"].get(one["name"], {"endpoints": ()})["endpoints"]}
        ends = facts.ends[one["name"]] or ()
        here = [f"{one['name']} {end['address']} ({why})" for end in ends
                if (why := trouble(seen.get(end["address"]), facts.dialled.get(end["address"])))]
        n += len(ends)
        bad += here
        if here and len(here) == len(ends):
            dead.append(one["name"])
    fix = "start the program there, or correct the address; `fastproxy endpoints` shows each with its reason"
    if dead:
        return "fail", f"no endpoint of {some(dead)} works: {some(bad)}", fix
    if bad:
        return "warn", f"{len(bad)} of {n} do not work: {some(bad)}", fix
    return "ok", f"{n} can be connected to" if n <= DIALLED else f"{n}, of which {DIALLED} were connected to"


def trouble(seen, dialled):
    if seen and seen["state"] in ("ejected", "trial"):
        return f"{seen['state']}, last failure {seen['last_failure']}"
    return dialled or None


def loops(facts):
    """Endpoints that are listeners of this proxy."""
    if facts.offline:
        return None
    ends = [(name, end) for name, one in facts.stats["clusters"].items() for end in one["endpoints"]]
    closed = [f"{name} {end['address']}" for name, end in ends if end["is_loop"]]
    own = [f"{name} {end['address']}" for name, end in ends if end["is_self"] and not end["is_loop"]]
    fix = "give the cluster the address of the program, not of the proxy"
    if closed:
        return "fail", f"the way leads back to itself: {some(closed)}", fix
    if own:
        return "warn", f"a listener of this proxy is an endpoint: {some(own)}", fix
    return "ok", "no endpoint is a listener of this proxy"


# ---- the machine -----------------------------------------------------------------------------------------------------------

def reuseport(facts):
    if not facts.machine["reuseport"]:
        return "fail", "the kernel has no SO_REUSEPORT: several workers cannot share an address", "workers: 1, or Linux 3.9 or later"
    return "ok", "SO_REUSEPORT"


def splice(facts):
    size, pages = facts.machine["pipe_max_bytes"], facts.machine["pipe_user_pages"]
    if size is not None and size < PIPE_BYTES:
        return "warn", f"a pipe has at most {size} bytes: large bodies move in small pieces", f"sysctl fs.pipe-max-size={PIPE_BYTES}"
    if pages and pages < PIPE_PAGES:
        return "warn", f"a user has {pages} pages for pipes: large bodies move in small pieces", "sysctl fs.pipe-user-pages-soft=16384"
    return "ok", "pipes are large enough"


def backlog(facts):
    most = facts.machine["somaxconn"]
    if most is not None and most < BACKLOG:
        return "warn", f"{most} connections may wait to be accepted: a burst is refused", f"sysctl net.core.somaxconn={BACKLOG}"
    return "ok", f"{most} may wait" if most else "unknown"


def clock(facts):
    now, installed = facts.machine["now"], facts.machine["installed_at"]
    fix = "set the clock: `timedatectl set-ntp true`"
    if now < installed:
        return "fail", f"it is {time.strftime('%Y-%m-%d %H:%M', time.gmtime(now))} UTC, before this software was installed", fix
    step = 0.0 if facts.offline else facts.stats["process"]["clock_step_seconds"]
    if abs(step) > CLOCK_STEP_S:
        return "warn", f"it was moved by {step:.0f} s since the proxy started", fix + "; times in logs and metrics do not fit together"
    return "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))


CHECKS = {
    "config-file": config_file, "admin": admin, "admin-access": admin_access, "version": version, "ready": ready, "listeners": listeners,
    "config-current": config_current, "reloads": reloads, "snapshots": snapshots, "metrics": metrics, "addresses": addresses,
    "files": files, "workers": workers, "limits": limits, "clusters": clusters, "discovery": discovery, "endpoints": endpoints, "loops": loops,
    "reuseport": reuseport, "splice": splice, "backlog": backlog, "clock": clock,
}
