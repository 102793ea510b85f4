"""`fastproxy push`: a snapshot source for the length of one answer."""

import asyncio
import json
import os
import re
import sys

from fastproxy.model import load, yaml
from fastproxy.model.errors import ConfigError
from fastproxy.model.values import INTEGER
from fastproxy.model.walk import is_null
from fastproxy.wire.messages import Ack, Nack
from fastproxy.wire.source import Source

SETTINGS = ("workers", "admin", "metrics", "drain_timeout", "drain_grace")


def push(file, path, timeout_s, uids, output):
    try:
        resources = read(file)
    except ConfigError as error:
        return said(output, 1, "invalid", None, [one.as_dict() for one in error.errors], [str(one) for one in error.errors])
    except OSError as error:
        return said(output, 1, "invalid", None, [], [f"{file}: {error.strerror}"])
    try:
        node, answer = asyncio.run(send(resources, path, timeout_s, uids))
    except OSError as error:
        return said(output, 3, "unreachable", None, [], [f"fastproxy: cannot listen on unix:{path}: {error.strerror or 'a source listens there'}"])
    if answer is None:
        return said(output, 3, "unreachable", None, [], [f"fastproxy: no answer from a proxy on unix:{path} within {timeout_s:g} s"])
    if type(answer) is Ack:
        return said(output, 0, "ack", answer.version, [], [f"{node}: ack {answer.version}"])
    errors = [{"path": one.path, "code": one.code, "message": one.message} for one in answer.errors]
    return said(output, 1, "nack", answer.version, errors,
                [f"{node}: nack {answer.version}", *(f"{one['path']}: {one['message']}" if one["path"] else one["message"] for one in errors)])


def said(output, code, answer, version, errors, lines):
    if output == "json":
        print(json.dumps({"answer": answer, "version": version, "errors": errors or [{"message": line} for line in lines if code]}))
    else:
        print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


async def send(resources, path, timeout_s, uids):
    """-> (node, Ack or Nack), or (None, None) when the time is over. Raises OSError if the socket cannot be had."""
    done = asyncio.get_running_loop().create_future()

    def on_answer(node, message):
        if type(message) in (Ack, Nack) and not done.done():
            done.set_result((node, message))

    async with Source(path, uids=uids, on_answer=on_answer) as source:
        source.publish(resources)
        try:
            return await asyncio.wait_for(done, timeout_s)
        except asyncio.TimeoutError:
            return None, None


def read(file):
    """A file -> resources. Raises ConfigError with all that is wrong, OSError if it cannot be read.

    With a key `resources` it is sent as it stands, and the proxy is the judge of it."""
    with open(file, "rb") as opened:
        data = opened.read(yaml.MAX_BYTES + 1)
    value = None
    try:
        value, _, _ = yaml.parse(yaml.decode(data))
    except yaml.Fault:
        pass                            # load says what is wrong
    if type(value) is dict and list(value) == ["resources"] and type(value["resources"]) is dict:
        return {kind: plain(named) for kind, named in value["resources"].items()}
    load(file)
    base = os.path.dirname(os.path.abspath(file))
    out = {"settings": {"proxy": {key: absolute(plain(value[key]), base) for key in SETTINGS if key in value}}}
    for kind, key in (("listener", "bind"), ("cluster", "endpoints")):
        named = {}
        for one in value.get(kind + "s") or ():
            one = plain(one)
            one[key] = [absolute(end, base) for end in one[key]] if key == "endpoints" else absolute(one[key], base)
            named[str(one.pop("name"))] = one
        out[kind] = named
    return out


def plain(value):
    """Scalars as their look says: in a file the option decides, in a snapshot the type does."""
    if type(value) is dict:
        return {key: plain(one) for key, one in value.items()}
    if type(value) is list:
        return [plain(one) for one in value]
    if type(value) is not yaml.Plain:
        return value
    if is_null(value):
        return None
    return value == "true" if value in ("true", "false") else int(value) if re.fullmatch(INTEGER, value) else str(value)


def absolute(address, base):
    """`unix:path` of a file is relative to the file."""
    if type(address) is dict:
        return {**address, "address": absolute(address["address"], base)}
    if type(address) is str and address.startswith("unix:"):
        return "unix:" + os.path.normpath(os.path.join(base, address[5:]))
    return address
