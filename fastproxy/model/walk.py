"""The walk over a configuration's values: each section by its table, each scalar by its kind; every fault is noted with its place.

The shape comes from tables/options.py. A reader is called (kind, value, path) and returns the value as the model has it, or BAD
where it has noted a fault; BAD travels up to the nearest list or section and no further, so that the walk goes on.
"""

import re

from fastproxy.model import config, logformat, values
from fastproxy.model.yaml import Plain
from fastproxy.tables.options import BALANCERS, NOT_BUILT_BALANCERS, REQUIRED, RESOURCES, SECTIONS

TABLE = {**SECTIONS, **RESOURCES}
BAD = type("Bad", (), {"__repr__": lambda self: "BAD"})()
SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
NULLS = frozenset(("", "~", "null"))
MAX_FAULTS = 1000
MAX_COMPARISONS = 50_000        # of words, for "did you mean"

# Fields that frame a message, belong to one connection, or are the proxy's own: an edit of them would be request smuggling.
FORBIDDEN = {
    **dict.fromkeys(("content-length", "transfer-encoding", "trailer"), "it frames the message"),
    **dict.fromkeys(("connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"), "it belongs to one connection"),
    "expect": "the proxy answers to it itself", "x-fastproxy-hops": "the proxy's guard against loops stands on it",
}
ALIASED_NAMES = {name.replace("-", "_") for name in FORBIDDEN if "-" in name}
KNOWN_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"}
MODELS = {"timeouts": config.Timeouts, "limits": config.Limits, "split": config.Split, "redirect": config.Redirect,
          "cluster_limits": config.ClusterLimits, "retry_budget": config.RetryBudget, "outlier": config.Outlier,
          "direct_response": config.DirectResponse, "rewrite": config.Rewrite, "header_edit": config.HeaderEdit, "match": config.Match}


def kind_of(value):
    """What a value is, for messages."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or is_null(value):
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Plain) or not isinstance(value, str):
        return f"`{clip(value)}`"
    return f"the text \"{clip(value)}\""


def clip(value):
    if type(value) is int and abs(value) >= 10 ** 18:
        return "a huge number"
    text = str(value)
    return text if len(text) <= 64 else text[:61] + "..."


def is_null(value):
    return value is None or (type(value) is Plain and value in NULLS)


class Walk:
    """`faults`: [(path, at_key, code, message)], path a tuple of keys and indices; `references`: [(path, name of a cluster)]."""

    def __init__(self, base=None):
        self.base, self.faults, self.references = base, [], []
        self.bounds, self.comparisons = {}, MAX_COMPARISONS
        self.readers = {name[5:]: getattr(self, name) for name in dir(self) if name.startswith("read_")}

    def fault(self, path, code, message, at_key=False):
        if len(self.faults) <= MAX_FAULTS:
            self.faults.append((path, at_key, code, message))
        return BAD

    def did_you_mean(self, word, words):
        """The valid word that was probably meant, as the end of a message; "" if there is none, or after many such searches."""
        near = [one for one in words if abs(len(one) - len(word)) <= 2 + len(word) // 3]
        self.comparisons -= len(near)
        if self.comparisons < 0:
            return ""
        from difflib import get_close_matches  # only who errs pays for it
        found = get_close_matches(word, near, 1, 0.6)
        return f"; did you mean `{found[0]}`?" if found else ""

    def expected(self, path, what, value):
        return self.fault(path, "type", f"expected {what}, found {kind_of(value)}")

    # ---- the walk ------------------------------------------------------------------------------------------------------

    def read(self, kind, value, path):
        return self.readers[kind[0]](kind, value, path)

    def section(self, name, value, path):
        """A map of the section -> {option: value} with every default, or BAD if it is no map. A bad option is BAD in it."""
        options = TABLE[name].options
        if type(value) is not dict:
            return self.expected(path, f"a map ({', '.join(key for key, one in options.items() if one.built)})", value)
        out = DEFAULT_OF[name].copy()
        for key, given in value.items():
            option = options.get(key)
            if option is None:
                built = [one for one in options if options[one].built]
                advice = self.did_you_mean(str(key), built) or "; the keys here are " + ", ".join(built)
                out[key] = self.fault(path + (key,), "unknown_key", f"unknown key `{clip(key)}`{advice}", True)
            elif not option.built:
                self.fault(path + (key,), "not_built", f"`{key}` is not built yet", True)
                out[key] = BAD
            elif option.default is not None or not is_null(given):
                kind = option.type
                out[key] = self.readers[kind[0]](kind, given, path + (key,))
        for key in REQUIRED_KEYS[name]:
            if out[key] is REQUIRED:
                out[key] = self.fault(path, "missing", f"`{key}` is missing")
        return out

    def read_section(self, kind, value, path):
        name = kind[1]
        parts = self.section(name, value, path)
        if parts is BAD:
            return BAD
        finish = getattr(self, "finish_" + name, None)
        if finish is not None:
            return finish(parts, path)
        return self.made(MODELS[name], parts)

    def made(self, model, parts):
        if BAD in parts.values():
            return BAD
        return model(**parts)

    def read_list(self, kind, value, path):
        if type(value) is not list:
            return self.expected(path, "a list", value)
        if len(value) < kind[2]:
            return self.fault(path, "value", "the list is empty")
        inner = kind[1]
        read = self.readers[inner[0]]
        out = [read(inner, one, path + (i,)) for i, one in enumerate(value)]
        if inner[0] in ("token", "method", "field", "host_pattern", "filter", "resolver"):
            self.repeated(out, path)
        # A list of sections is kept with its gaps, so that what crosses it is still checked for the rest.
        return BAD if BAD in out and inner[0] not in ("section", "endpoint") else out

    def read_endpoints(self, kind, value, path):
        """A list of Endpoint, or a Dns or EndpointFile."""
        if type(value) is dict:
            return self.read_section(("section", "discovery"), value, path)
        return self.read_list(("list", ("endpoint",), 0), value, path)

    def repeated(self, found, path):
        seen = set()
        for i, one in enumerate(found):
            if one is not BAD:
                same = one.lower() if path[-1] == "remove" else one  # names of fields have no case
                if same in seen:
                    self.fault(path + (i,), "duplicate", f"`{one}` is repeated")
                seen.add(same)

    def read_map(self, kind, value, path):
        what, inner = kind[1], kind[2]
        if type(value) is not dict:
            return self.expected(path, f"a map of {what} -> value", value)
        read, check, out, folded = self.readers[inner[0]], MAP_KEYS[what], {}, set()
        for key, given in value.items():
            if type(key) is not str:
                out[BAD] = self.fault(path, "type", f"the keys of this map are texts, found {kind_of(key)}")
                continue
            name = check(self, key, path + (key,))
            if name is not BAD and what in ("header", "field"):
                if name.lower() in folded:
                    name = self.fault(path + (key,), "duplicate", f"`{key}` is repeated (names of fields have no case)", True)
                else:
                    folded.add(name.lower())
            out[name] = read(inner, given, path + (key,))
        return BAD if BAD in out or BAD in out.values() else out

    # ---- scalars -------------------------------------------------------------------------------------------------------

    def text(self, what, value, path):
        """A scalar as text: numbers of a dict too, since a file's `404` is text as well as a number."""
        kind = type(value)
        if (kind is Plain and value not in NULLS) or kind is str:
            return str(value)
        if kind is not Plain and isinstance(value, str):
            return str(value)
        if type(value) is int and abs(value) < 10 ** 18:
            return str(value)
        return self.expected(path, what, value)

    def parsed(self, parse, what, value, path, *rest):
        text = self.text(what, value, path)
        if text is BAD:
            return BAD
        try:
            return parse(text, *rest)
        except ValueError as error:
            return self.fault(path, "value", str(error))

    def read_bool(self, kind, value, path):
        if type(value) is bool:
            return value
        if type(value) is Plain and value in ("true", "false"):
            return value == "true"
        return self.expected(path, "true or false", value)

    def read_int(self, kind, value, path):
        if type(value) is Plain and values.INTEGER.fullmatch(value):
            value = int(value)
        if type(value) is not int:
            return self.expected(path, f"a number from {kind[1]} to {kind[2]}", value)
        if not kind[1] <= value <= kind[2]:
            return self.fault(path, "range", f"expected a number from {kind[1]} to {kind[2]}, found {clip(value)}")
        return value

    def read_status(self, kind, value, path):
        allowed = ", ".join(map(str, kind[1][:-1])) + f" or {kind[1][-1]}"
        number = int(value) if type(value) is Plain and values.INTEGER.fullmatch(value) else value
        if type(number) is int and number in kind[1]:
            return number
        return self.expected(path, allowed, value)

    def read_duration(self, kind, value, path):
        return self.bounded(values.duration, "a duration such as 5s", kind, value, path)

    def read_size(self, kind, value, path):
        return self.bounded(values.size, "a size such as 64KiB", kind, value, path)

    def bounded(self, parse, what, kind, value, path):
        found = self.parsed(parse, what, value, path)
        bounds = self.bounds.get(kind)
        if bounds is None:
            bounds = self.bounds[kind] = parse(kind[1]), parse(kind[2])
        if found is not BAD and not bounds[0] <= found <= bounds[1]:
            return self.fault(path, "range", f"expected {kind[1]} to {kind[2]}, found {clip(value)}")
        return found

    def read_text(self, kind, value, path):
        text = self.text("a text", value, path)
        try:
            if text is not BAD and len(text.encode()) > kind[1]:
                return self.fault(path, "range", f"longer than {kind[1]} bytes")
        except UnicodeEncodeError:
            return self.fault(path, "value", "not text: it holds half of a surrogate pair")
        return text

    def read_name(self, kind, value, path):
        return self.parsed(values.name, "a name", value, path)

    def read_enum(self, kind, value, path):
        text = self.text(" or ".join(kind[1]), value, path)
        if text is BAD or text in kind[1]:
            return text
        if text in kind[2]:
            return self.fault(path, "not_built", f"`{path[-1]}: {text}` is not built yet")
        return self.fault(path, "value", f"expected {' or '.join(kind[1])}, found {kind_of(value)}" + self.did_you_mean(text, kind[1]))

    def read_switch(self, kind, value, path):
        """`false`: off, None. `true`: the section with its defaults."""
        if type(value) is dict:
            return self.read_section(("section", kind[1]), value, path)
        if type(value) is bool or (type(value) is Plain and value in ("true", "false")):
            return self.read_section(("section", kind[1]), {}, path) if self.read_bool(kind, value, path) else None
        return self.expected(path, f"true, false or a map ({', '.join(SECTIONS[kind[1]].options)})", value)

    def read_log_path(self, kind, value, path):
        return self.parsed(values.file_path, "a path", value, path, self.base)

    def read_log_format(self, kind, value, path):
        return self.parsed(logformat.text_format, "a text", value, path)

    def read_log_json(self, kind, value, path):
        if type(value) is not dict:
            on = self.read_bool(kind, value, path)
            return BAD if on is BAD else logformat.json_format(logformat.DEFAULT_JSON) if on else None
        fields = {str(key): self.text("a text", one, path + (key,)) for key, one in value.items()}
        if BAD in fields.values():
            return BAD
        try:
            return logformat.json_format(fields)
        except ValueError as error:
            return self.fault(path, "value", str(error))

    def read_workers(self, kind, value, path):
        if isinstance(value, str) and value == "auto":
            return "auto"
        if type(value) is int or (type(value) is Plain and values.INTEGER.fullmatch(value)):
            return self.read_int(kind, value, path)
        return self.expected(path, f"a number from {kind[1]} to {kind[2]}, or auto", value)

    def read_bind(self, kind, value, path):
        return self.address(value, path, 0)

    def read_address(self, kind, value, path):
        return self.address(value, path, 1)

    def address(self, value, path, lowest_port):
        if type(value) is list and any(isinstance(one, str) and ":" in one for one in value):
            return self.fault(path, "type", f"an IPv6 address must be quoted, with its port: \"[{clip(value[0])}]:8080\"")
        return self.parsed(values.address, "an address such as 127.0.0.1:8080", value, path, self.base, lowest_port)

    def read_resolver(self, kind, value, path):
        return self.parsed(values.resolver, "an address such as 127.0.0.1:53", value, path)

    def read_file(self, kind, value, path):
        return self.parsed(values.file_path, "the path of a file", value, path, self.base)

    def read_dns_name(self, kind, value, path):
        return self.parsed(values.dns_name, "a name", value, path)

    def read_host(self, kind, value, path):
        if kind[1] == "match":
            if type(value) is not dict:
                return self.read_host_pattern(kind, value, path)
            found = self.matcher(value, path, ("present",))
            if found is BAD or found.kind == "regex":
                return found
            return config.Matcher(kind=found.kind, value=found.value.lower(), invert=found.invert)
        return self.parsed(values.authority if kind[1] == "authority" else values.host, "a host", value, path)

    def read_host_pattern(self, kind, value, path):
        return self.parsed(values.host_pattern, "a host", value, path)

    def read_scheme(self, kind, value, path):
        return self.read_enum(("enum", {"http": "", "https": ""}, {}), value, path)

    def read_path(self, kind, value, path):
        return self.parsed(values.path, "a path", value, path)

    def read_path_matcher(self, kind, value, path):
        if type(value) is not dict:
            if isinstance(value, str) and value == "*":
                return config.Matcher(kind="exact", value="*", invert=False)  # OPTIONS *
            text = self.read_path(kind, value, path)
            return BAD if text is BAD else config.Matcher(kind="exact", value=text, invert=False)
        found = self.matcher(value, path, ("present",))
        if found is not BAD and found.kind in ("exact", "prefix"):
            try:
                values.path(found.value)
            except ValueError as error:
                return self.fault(path + (found.kind,), "value", str(error))
        return found

    def read_matcher(self, kind, value, path):
        if type(value) is dict:
            return self.matcher(value, path)
        text = self.read_text(("text", 8192), value, path)
        return BAD if text is BAD else config.Matcher(kind="exact", value=text, invert=False)

    def matcher(self, value, path, without=()):
        kinds = [one for one in ("exact", "prefix", "suffix", "contains", "regex", "present") if one not in without]
        given = [one for one in kinds if one in value]
        for one in without:
            if one in value:
                return self.fault(path + (one,), "unknown_key", f"`{one}` has no meaning here", True)
        parts = self.section("matcher", value, path)
        if parts is BAD or BAD in parts.values() or self.strange("matcher", parts):
            return BAD
        if len(given) != 1:
            found = f", found {' and '.join(given)}" if given else ""
            return self.fault(path, "conflict" if given else "missing", f"exactly one of {', '.join(kinds)} is needed{found}")
        if given == ["present"]:
            return config.Matcher(kind="present", value="", invert=parts["invert"] is parts["present"])
        if given[0] != "regex" and given[0] != "exact" and parts[given[0]] == "":
            return self.fault(path + (given[0],), "value", "empty: it would hold for everything")
        return config.Matcher(kind=given[0], value=parts[given[0]], invert=parts["invert"])

    def read_regex(self, kind, value, path):
        text = self.read_text(("text", 4096), value, path)
        if text is BAD:
            return BAD
        from fastproxy.proxy.regex import compile_regex  # only who has one pays for it
        try:
            compile_regex(text)
        except ValueError as error:
            return self.fault(path, "value", f"regular expression: {error}")
        return text

    def read_method(self, kind, value, path):
        text = self.parsed(values.token, "a method", value, path)
        if text is BAD:
            return BAD
        if text == "CONNECT":
            return self.fault(path, "not_built", "`CONNECT` is not built yet")
        if text not in KNOWN_METHODS and text.upper() in KNOWN_METHODS:
            return self.fault(path, "value", f"methods have case: write {text.upper()}")
        if len(text) > 32:
            return self.fault(path, "value", "a method has at most 32 characters")
        return text

    def read_token(self, kind, value, path):
        text = self.parsed(values.token, "a word", value, path)
        if text is BAD:
            return BAD
        text = text.lower()
        if text in ("h2c", "http", "tls"):
            return self.fault(path, "value", f"upgrading to `{text}` would take the connection out of the proxy's sight, and is always refused")
        if text == "connect":
            return self.fault(path, "not_built", "`CONNECT` is not built yet")
        return text

    def read_via(self, kind, value, path):
        if type(value) is bool or (type(value) is Plain and value in ("true", "false")):
            return "fastproxy" if self.read_bool(kind, value, path) else None
        return self.parsed(values.token, "true, false or a word", value, path)

    def read_balance(self, kind, value, path):
        if type(value) is dict:
            return self.extension(value, path)
        text = self.text("a balancer", value, path)
        if text is BAD or text in BALANCERS:
            return text
        if text in NOT_BUILT_BALANCERS:
            return self.fault(path, "not_built", f"`balance: {text}` is not built yet")
        advice = self.did_you_mean(text, BALANCERS) or "; there are " + ", ".join(BALANCERS)
        return self.fault(path, "value", f"unknown balancer `{clip(text)}`{advice} (one of an extension is written {{name: NAME}})")

    def read_filter(self, kind, value, path):
        return self.extension(value, path) if type(value) is dict else self.read_name(kind, value, path)

    def extension(self, value, path):
        """{name: NAME}: what a compiled extension has registered; the core knows whether it is there."""
        for key in value:
            if key == "config":
                self.fault(path + (key,), "not_built", "`config` of an extension is not built yet", True)
            elif key != "name":
                self.fault(path + (key,), "unknown_key", f"unknown key `{clip(key)}`; the keys here are name", True)
        if "name" not in value:
            return self.fault(path, "missing", "`name` is missing")
        return BAD if len(value) > 1 else self.read_name(("name",), value["name"], path + ("name",))

    def read_ref(self, kind, value, path):
        text = self.read_name(kind, value, path)
        if text is not BAD:
            self.references.append((path, text))
        return text

    def read_endpoint(self, kind, value, path):
        if type(value) is dict:
            return self.made(config.Endpoint, self.section("endpoint", value, path))
        found = self.read_address(kind, value, path)
        return BAD if found is BAD else config.Endpoint(address=found, weight=1, zone=None, labels={})

    def read_field(self, kind, value, path):
        text = self.text("the name of a field", value, path)
        return BAD if text is BAD else self.edited_field(text, path)

    def read_field_value(self, kind, value, path):
        if type(value) is str and value == "":
            return ""
        return self.parsed(values.field_value, "a text", value, path)

    def read_field_values(self, kind, value, path):
        if type(value) is not list:
            one = self.read_field_value(kind, value, path)
            return BAD if one is BAD else [one]
        out = [self.read_field_value(kind, one, path + (i,)) for i, one in enumerate(value)]
        return BAD if BAD in out else out

    # ---- keys of maps --------------------------------------------------------------------------------------------------

    def field_name(self, text, path):
        if not values.TOKEN.fullmatch(text) or len(text) > 256:
            return self.fault(path, "value", f"`{clip(text)}` is not the name of a header field", True)
        return text

    def edited_field(self, text, path):
        low, at_key = text.lower(), not isinstance(path[-1], int)
        if low == "host" and "response_headers" not in path and "direct_response" not in path:
            return self.fault(path, "value", "`Host` is not edited here: use rewrite.host", at_key)
        if low.startswith(":"):
            return self.fault(path, "value", f"`{clip(text)}`: pseudo header fields are not edited; use rewrite", at_key)
        if low in FORBIDDEN:
            return self.fault(path, "value", f"`{text}` cannot be edited: {FORBIDDEN[low]}", at_key)
        if low in ALIASED_NAMES:
            return self.fault(path, "value", f"`{text}` cannot be edited: some programs read it as `{low.replace('_', '-')}`", at_key)
        if not values.TOKEN.fullmatch(text) or len(text) > 256:
            return self.fault(path, "value", f"`{clip(text)}` is not the name of a header field", at_key)
        return text

    def matched_field(self, text, path):
        low = text.lower()
        if low.startswith(":") or low == "host":
            wanted = {":method": "match.methods", ":path": "match.path", ":authority": "match.host", "host": "match.host"}.get(low, "match")
            return self.fault(path, "value", f"`{clip(text)}` is not matched as a header: use {wanted}", True)
        return BAD if self.field_name(text, path) is BAD else low

    def query_name(self, text, path):
        if not text or len(text) > 1024 or not text.isascii() or not text.isprintable() or set(text) & set(" &=#"):
            return self.fault(path, "value", f"`{clip(text)}` is not a query parameter's name; percent-encode it as clients do", True)
        return text

    def label_name(self, text, path):
        return text if 0 < len(text) <= 255 else self.fault(path, "value", "a label has 1 to 255 characters", True)

    def strange(self, name, parts):
        """Whether there are keys that are unknown or not built: what seems to be missing is then probably one of them."""
        return len(parts) > len(DEFAULT_OF[name])


def rendered(path):
    """The path as users read it."""
    out = ""
    for one in path:
        if isinstance(one, int):
            out += f"[{one}]"
        elif SIMPLE_KEY.fullmatch(str(one)):
            out += f".{one}" if out else str(one)
        else:
            out += f'["{clip(one)}"]'
    return out


MAP_KEYS = {"header": Walk.matched_field, "query parameter": Walk.query_name, "field": Walk.edited_field, "label": Walk.label_name}


def read_defaults():
    """Fills DEFAULT_OF (section -> {option: value}) and REQUIRED_KEYS; the defaults are read as those of a file are, once."""
    checker = Walk()
    for name, section in reversed(TABLE.items()):  # a section stands before those that it holds
        found = {}
        for key, option in section.options.items():
            if option.built:
                plain = option.default is None or option.default is REQUIRED
                found[key] = option.default if plain else checker.read(option.type, option.default, (key,))
        DEFAULT_OF[name] = found
        REQUIRED_KEYS[name] = [key for key in found if found[key] is REQUIRED]
    assert not checker.faults, checker.faults


DEFAULT_OF, REQUIRED_KEYS = {}, {}
read_defaults()
