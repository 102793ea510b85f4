"""A configuration file, a text or a dict -> the model; or ConfigError with every fault at once, each with its place."""

import gc
import os
from contextlib import contextmanager

from fastproxy.model import yaml
from fastproxy.model.check import BAD, check, check_endpoints, rendered
from fastproxy.model.errors import ConfigError, Error


@contextmanager
def without_gc():
    """Trees grow and nothing dies here: the collector would walk them again and again, for half of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def load(path=None, *, text=None, base=None):
    """-> Config. Raises ConfigError, or OSError if the file cannot be read.

    With `text` (str or bytes) nothing is read, and `path` is only how messages call it. Relative paths in it are relative to
    `base`, by default the directory of `path`; with neither they stay as they are."""
    return read(check, path, text, base)


def load_endpoints(path, text=None):
    """The same of a file that has a list of endpoints -> [Endpoint]."""
    return read(check_endpoints, path, text, None)


def read(check, path, text, base):
    file = "" if path is None else os.fspath(path)
    if base is None and path is not None:
        base = os.path.dirname(os.path.abspath(file))
    try:
        if text is None:
            with open(path, "rb") as opened:
                text = opened.read(yaml.MAX_BYTES + 1)
        text = yaml.decode(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    except yaml.Fault as fault:
        raise ConfigError([of_fault(file, fault)]) from None
    with without_gc():
        value, _, faults = yaml.parse(text)
        model, wrong = (BAD, []) if value is None and faults else check(value, base)
    if not faults and not wrong:
        return model
    # Once more, with the places: only who errs pays for them.
    _, mark, faults = yaml.parse(text, marked=True)
    errors = [of_fault(file, one) for one in faults]
    for where, at_key, code, message in wrong:
        errors.append(Error(file, *position(mark, where, at_key), rendered(where), code, message))
    raise ConfigError(sorted(errors, key=lambda one: (one.line, one.col)))


def load_dict(config, *, base=None):
    """-> Config, of a dict of the shape of the file (strings, numbers, booleans, lists, dicts). Errors have a path, but no line."""
    try:
        value = plain(config)
    except ValueError as error:
        raise ConfigError([Error("", 0, 0, "", "type", str(error))]) from None
    model, wrong = check(value, base)
    if wrong:
        raise ConfigError([Error("", 0, 0, rendered(where), code, message) for where, _, code, message in wrong])
    return model


def plain(value, depth=0):
    """Tuples as lists, keys as text, and no deeper than a file may be (a dict can hold itself)."""
    if depth > yaml.MAX_DEPTH:
        raise ValueError(f"nested deeper than {yaml.MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one, depth + 1) for one in value]
    return value


def of_fault(file, fault):
    return Error(file, fault.line, fault.col, "", fault.code, fault.message)


def position(mark, path, at_key):
    """(line, col) of a path, or of the nearest thing around it that is there."""
    line, col = (mark.line, mark.col) if mark else (1, 1)
    for i, key in enumerate(path):
        if mark is None or mark.parts is None or key not in mark.parts:
            break
        if at_key and i == len(path) - 1 and mark.keys and key in mark.keys:
            return mark.keys[key]
        mark = mark.parts[key]
        line, col = mark.line, mark.col
    return line, col
