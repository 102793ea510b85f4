"""Values as composed -> the model; every fault is noted with its place, and the walk goes on.

The shape comes from tables/options.py: `section` walks a map by its table, and each kind of type has a reader here. What no
single option can tell (names that must be unique, references, options that exclude each other) follows the walk. A reader
returns BAD where it has noted a fault; BAD travels up to the nearest list or section and no further.
"""

from fastproxy.model import config, values
from fastproxy.model.yaml import Plain
from fastproxy.tables.options import BALANCERS, NOT_BUILT_BALANCERS, REQUIRED, SECTIONS

BAD = type("Bad", (), {"__repr__": lambda self: "BAD"})()
NULLS = frozenset(("", "~", "null"))
MAX_FAULTS = 1000
MAX_LISTENERS = 500             # the core has 1024 places, and a reload needs old and new at once

# Fields that frame a message, belong to one connection, or are the proxy's own: an edit of them would be request smuggling.
FORBIDDEN = {
    **dict.fromkeys(("content-length", "transfer-encoding", "trailer"), "it frames the message"),
    **dict.fromkeys(("connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"), "it belongs to one connection"),
    "expect": "the proxy answers to it itself", "x-fastproxy-hops": "the proxy's guard against loops stands on it",
    "max-forwards": "the proxy's guard against loops stands on it",
}
ALIASED_NAMES = {name.replace("-", "_") for name in FORBIDDEN if "-" in name}
KNOWN_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"}
MODELS = {"timeouts": config.Timeouts, "limits": config.Limits, "split": config.Split, "redirect": config.Redirect,
          "direct_response": config.DirectResponse, "rewrite": config.Rewrite, "header_edit": config.HeaderEdit, "match": config.Match}
HTTP_ONLY = ("routes", "virtual_hosts", "limits", "x_forwarded", "request_id", "via", "filters")
TARGETS = ("cluster", "split", "redirect", "direct_response")


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
    text = str(value)
    return text if len(text) <= 64 else text[:61] + "..."


def is_null(value):
    return value is None or (type(value) is Plain and value in NULLS)


def nearest(word, words):
    """The valid word that was probably meant, or None."""
    from difflib import get_close_matches  # only who errs pays for it
    found = get_close_matches(word, list(words)[:20000], 1, 0.6) if len(word) <= 255 else []
    return found[0] if found else None


def did_you_mean(word, words):
    near = nearest(word, words)
    return f"; did you mean `{near}`?" if near else ""


class Checker:
    """One pass over one configuration. `faults`: [(path, at_key, code, message)], path a tuple of keys and indices."""

    def __init__(self, base=None):
        self.base, self.faults, self.references = base, [], []
        self.bounds = {}
        self.readers = {name[5:]: getattr(self, name) for name in dir(self) if name.startswith("read_")}

    def fault(self, path, code, message, at_key=False):
        if len(self.faults) <= MAX_FAULTS:
            self.faults.append((path, at_key, code, message))
        return BAD

    def expected(self, path, what, value):
        return self.fault(path, "type", f"expected {what}, found {kind_of(value)}")

    # ---- the walk ------------------------------------------------------------------------------------------------------

    def read(self, kind, value, path):
        return self.readers[kind[0]](kind, value, path)

    def section(self, name, value, path):
        """A map of the section -> {option: value} with every default, or BAD if it is no map. A bad option is BAD in it."""
        options = SECTIONS[name].options
        if type(value) is not dict:
            return self.expected(path, f"a map ({', '.join(key for key, one in options.items() if one.built)})", value)
        out = DEFAULT_OF[name].copy()
        for key, given in value.items():
            option = options.get(key)
            if option is None:
                built = [one for one in options if options[one].built]
                self.fault(path + (key,), "unknown_key", f"unknown key `{clip(key)}`" + (did_you_mean(str(key), built) or "; the keys here are " + ", ".join(built)), True)
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
        if inner[0] in ("token", "method", "field", "host_pattern", "filter"):
            self.repeated(out, path)
        # A list of sections is kept with its gaps, so that what crosses it is still checked for the rest.
        return BAD if BAD in out and inner[0] not in ("section", "endpoint") else out

    def read_endpoints(self, kind, value, path):
        if type(value) is dict:
            if "dns" in value or "file" in value:
                return self.fault(path, "not_built", f"`endpoints: {{{'dns' if 'dns' in value else 'file'}}}` is not built yet")
            return self.expected(path, "a list of addresses", value)
        return self.read_list(("list", ("endpoint",), 0), value, path)

    def repeated(self, found, path):
        seen = set()
        for i, one in enumerate(found):
            if one is not BAD and one in seen:
                self.fault(path + (i,), "duplicate", f"`{one}` is repeated")
            seen.add(one)

    def read_map(self, kind, value, path):
        what, inner = kind[1], kind[2]
        if type(value) is not dict:
            return self.expected(path, f"a map of {what} -> value", value)
        read, check, out = self.readers[inner[0]], MAP_KEYS[what], {}
        for key, given in value.items():
            name = check(self, str(key), path + (key,))
            one = read(inner, given, path + (key,))
            if name is not BAD and name in out:
                name = self.fault(path + (key,), "duplicate", f"`{key}` is repeated (names of fields have no case)", True)
            out[name] = one
        return BAD if BAD in out or BAD in out.values() else out

    # ---- scalars -------------------------------------------------------------------------------------------------------

    def text(self, what, value, path):
        """A scalar as text: numbers of a dict too, since a file's `404` is text as well as a number."""
        kind = type(value)
        if (kind is Plain and value not in NULLS) or kind is str:
            return str(value)
        if kind is not Plain and isinstance(value, str):
            return str(value)
        if type(value) is int:
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
        if text is not BAD and len(text.encode("utf-8", "replace")) > kind[1]:
            return self.fault(path, "range", f"longer than {kind[1]} bytes")
        return text

    def read_name(self, kind, value, path):
        return self.parsed(values.name, "a name", value, path)

    def read_enum(self, kind, value, path):
        text = self.text(" or ".join(kind[1]), value, path)
        if text is BAD or text in kind[1]:
            return text
        if text in kind[2]:
            return self.fault(path, "not_built", f"`{path[-1]}: {text}` is not built yet")
        return self.fault(path, "value", f"expected {' or '.join(kind[1])}, found {kind_of(value)}" + did_you_mean(text, kind[1]))

    def read_off(self, kind, value, path):
        if value is False or (type(value) is Plain and value == "false"):
            return False
        return self.fault(path, "not_built", f"`{path[-1]}` is not built yet; only `false` is accepted")

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
        if parts is BAD or BAD in parts.values():
            return BAD
        if len(given) != 1:
            return self.fault(path, "conflict" if given else "missing", f"exactly one of {', '.join(kinds)} is needed" + (f", found {' and '.join(given)}" if given else ""))
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
        return self.fault(path, "value", f"unknown balancer `{clip(text)}`" + (did_you_mean(text, BALANCERS) or "; there are " + ", ".join(BALANCERS))
                          + " (one of an extension is written {name: NAME})")

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
        if isinstance(value, str) and value == "":
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

    # ---- what one option cannot tell -----------------------------------------------------------------------------------

    def finish_match(self, parts, path):
        if "path" in parts and parts["path"] is not None and parts["path_prefix"] is not None:
            self.fault(path, "conflict", "`path` and `path_prefix` exclude each other")
            return BAD
        return self.made(config.Match, parts)

    def finish_redirect(self, parts, path):
        if all(parts[key] is None for key in ("scheme", "host", "port", "path", "path_prefix")):
            return self.fault(path, "missing", "one of scheme, host, port, path, path_prefix is needed: the client would come back to the same URL")
        if parts["path"] is not None and parts["path_prefix"] is not None:
            return self.fault(path, "conflict", "`path` and `path_prefix` exclude each other")
        return self.made(config.Redirect, parts)

    def finish_rewrite(self, parts, path):
        if parts["path"] is not None and parts["path_prefix"] is not None:
            return self.fault(path, "conflict", "`path` and `path_prefix` exclude each other")
        parts.pop("path_regex", None)
        return self.made(config.Rewrite, parts)

    def finish_direct_response(self, parts, path):
        if parts["status"] in (204, 205, 304) and parts["body"]:
            return self.fault(path + ("body",), "conflict", f"a response {parts['status']} has no body")
        return self.made(config.DirectResponse, parts)

    def finish_header_edit(self, parts, path):
        names = {}
        for verb in ("set", "remove"):
            for i, one in enumerate(parts[verb] if parts[verb] is not BAD else ()):
                other = names.setdefault(one.lower(), verb)
                if other != verb:
                    return self.fault(path + (verb, i), "conflict", f"`{one}` is set as well as removed; set replaces what is there")
        return self.made(config.HeaderEdit, parts)

    def finish_split(self, parts, path):
        parts.pop("subset", None)
        return self.made(config.Split, parts)

    def finish_route(self, parts, path):
        given = [one for one in TARGETS if parts[one] is not None]
        later = [one for one in ("cluster_header", "original_destination", "forward_host") if one in parts]
        if len(given) > 1:
            return self.fault(path, "conflict", f"a route has one target, found {' and '.join(given)}")
        if not given:
            if later:
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
        return config.Route(name=parts["name"] or place(path), match=match, split=split, redirect=parts["redirect"], direct_response=parts["direct_response"],
                            timeout=parts["timeout"], upgrades=parts["upgrades"], rewrite=parts["rewrite"],
                            request_headers=parts["request_headers"], response_headers=parts["response_headers"])

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
                return self.fault(path, "missing", "a tcp listener needs a `cluster`")
        elif protocol == "http":
            if len(listed) > 1:
                return self.fault(path, "conflict", f"a listener has one of routes, virtual_hosts, cluster; found {' and '.join(listed)}")
            if not listed:
                return BAD if "chains" in parts else self.fault(path, "missing", "an http listener needs routes, virtual_hosts or a cluster")
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
                if one in hosts:
                    self.fault(at + ("hosts", j), "duplicate", f"the host `{one}` is at {rendered(hosts[one])} already")
                hosts.setdefault(one, at + ("hosts", j))

    def unique(self, what, rows, seen):
        for path, name in rows:
            if name in seen:
                self.fault(path + ("name",), "duplicate", f"another {what} is named `{name}`: {rendered(seen[name])}")
            else:
                seen[name] = path

    def finish_cluster(self, parts, path):
        seen = {}
        for i, one in rows(parts["endpoints"]):
            if one.address in seen:
                self.fault(path + ("endpoints", i), "duplicate", f"the endpoint {one.address} is repeated; give it a weight")
            seen[one.address] = i
        return self.made(config.Cluster, parts)

    def read_any(self, kind, value, path):
        raise AssertionError("an option that is not built is never read")


def rows(found):
    """(index, value) of what is good in a list that may be BAD or absent."""
    return [(i, one) for i, one in enumerate(found if type(found) is list else ()) if one is not BAD]


def place(path):
    """('listeners', 0, 'virtual_hosts', 1, 'routes', 2) -> 'virtual_hosts[1].routes[2]'"""
    return rendered(path[2:])


def rendered(path):
    """The path as users read it."""
    out = ""
    for one in path:
        if isinstance(one, int):
            out += f"[{one}]"
        elif values.NAME.fullmatch(str(one)) and "." not in one:
            out += f".{one}" if out else str(one)
        else:
            out += f'["{clip(one)}"]'
    return out


MAP_KEYS = {"header": Checker.matched_field, "query parameter": Checker.query_name, "field": Checker.edited_field, "label": Checker.label_name}


def read_defaults():
    """Fills DEFAULT_OF (section -> {option: value}) and REQUIRED_KEYS; the defaults are read as those of a file are, once."""
    checker = Checker()
    for name, section in reversed(SECTIONS.items()):  # a section stands before those that it holds
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
DEFAULT_ROUTE = {key: value for key, value in DEFAULT_OF["route"].items() if key != "cluster"}


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
            checker.fault(path, "unknown_cluster", f"there is no cluster `{clip(name)}`" + did_you_mean(name, names["cluster"]))
    unique_binds(checker, parts)
    return (checker.made(config.Config, parts) if not checker.faults else BAD), checker.faults


def unique_binds(checker, parts):
    binds = [(("listeners", i, "bind"), one.bind) for i, one in rows(parts["listeners"])]
    binds += [((key,), parts[key]) for key in ("admin", "metrics") if parts[key] not in (None, BAD)]
    seen = {}
    for path, bind in binds:
        if bind.endswith(":0") and not bind.startswith("unix:"):
            continue
        if bind in seen:
            checker.fault(path, "duplicate", f"{bind} is taken: {rendered(seen[bind])}")
        seen.setdefault(bind, path)
