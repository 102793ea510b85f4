"""The model -> the shape of the file, with every default written out: what `load_dict` takes again, and what the admin path /config shows.

By the table of options, as the walk reads it. `redact` takes credentials out of it.
"""

import re

from fastproxy.model import config, logformat
from fastproxy.model.check import DEFAULT_OF, HTTP_ONLY
from fastproxy.model.values import UNIT_BYTES, UNIT_NS
from fastproxy.tables.options import BALANCERS, SECTIONS

SECRET_FIELD = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.I)
SECRET_KEYS = {"key", "password", "secret", "token"}
REDACTED = "[redacted]"
SIZES = [(unit, size) for unit, size in reversed(UNIT_BYTES.items()) if unit]
OFF_IS_NONE = ("switch", "via")     # kinds whose None is written `false`
ANSWERS = ("timeout", "upgrades", "rewrite", "request_headers")     # have no meaning where the proxy answers itself


def written(model):
    """A Config as a dict. `load_dict(written(model)) == model`."""
    return section("config", model)


def section(name, value):
    out = {}
    for key, option in SECTIONS[name].options.items():
        found = getattr(value, key, None)
        if option.built and type(found) is not logformat.Format and (found is not None and found != {} or option.type[0] in OFF_IS_NONE):
            out[key] = write(option.type, found)
    return SPECIAL[name](value, out) if name in SPECIAL else out


def write(kind, value):
    name = kind[0]
    if name == "duration":
        return duration(value)
    if name == "size":
        return next(f"{value // size}{unit}" for unit, size in SIZES if value >= size and value % size == 0 or unit == "B")
    if name == "section":
        return section(kind[1], value)
    if name == "list":
        return [write(kind[1], one) for one in value]
    if name == "map":
        return {key: write(kind[2], one) for key, one in value.items()}
    if name == "endpoints":
        return [section("endpoint", one) for one in value]
    if name in OFF_IS_NONE:
        return False if value is None else value if name == "via" else section(kind[1], value)
    if name == "balance":
        return value if value in BALANCERS else {"name": value}
    if type(value) is config.Matcher:
        return value.value if name != "host" and value.kind == "exact" and not value.invert else matcher(value)
    return list(value) if type(value) is list else value


def matcher(one):
    return {one.kind: True if one.kind == "present" else one.value, **({"invert": True} if one.invert else {})}


def duration(seconds):
    """In the largest unit in which it is a whole number."""
    ns = round(seconds * 1e9)
    for unit, size in UNIT_NS.items():
        if ns and ns % size == 0:
            return f"{ns // size}{unit}"
    return "0s" if ns == 0 else f"{ns // 10**9}.{ns % 10**9:09d}s"


def listener(one, out):
    if one.protocol == "tcp":
        for key in HTTP_ONLY:
            out.pop(key, None)
        out["timeouts"] = {"idle": duration(one.timeouts.idle)}
    return out


def access_log(one, out):
    return {**out, "json" if type(one.format.source) is dict else "format": one.format.source}


def unnamed(one, out):
    """A name that only its place or its host gives it cannot be written, and need not."""
    if "[" in one.name:
        del out["name"]
    return out


def cluster(one, out):
    if type(one.discovery) is config.Dns:
        out["endpoints"] = {"dns": section("dns", one.discovery)}
    elif one.discovery is not None:
        out["endpoints"] = {"file": one.discovery.path}
    return out


def route(one, out):
    out = unnamed(one, out)
    if not one.split:
        del out["split"]
        return {key: value for key, value in out.items() if key not in ANSWERS}
    if one.split == [config.Split(cluster=one.split[0].cluster, weight=1)]:
        out["cluster"] = out.pop("split")[0]["cluster"]
    return out


SPECIAL = {"access_log": access_log, "listener": listener, "virtual_host": unnamed, "route": route, "cluster": cluster}


def redact(value, secret=False):
    """The same structure without private keys, passwords, and whatever stands under a field which usually holds credentials."""
    if isinstance(value, dict):
        return {key: redact(item, secret or key.lower() in SECRET_KEYS or bool(SECRET_FIELD.search(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item, secret) for item in value]
    return REDACTED if secret and isinstance(value, (str, bytes)) and value else value
