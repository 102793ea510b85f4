"""`fastproxy validate` and `run -t`: everything `run` would refuse, without opening an address."""

import json
import sys


def check(path, output):
    from fastproxy.model import load
    from fastproxy.model.errors import ConfigError
    from fastproxy.proxy import extensions
    from fastproxy.proxy.compile import Slots, compile
    try:
        model = load(path=path)
        compile(model, Slots())
        extensions.load(model)
    except ConfigError as error:
        if output == "json":
            print(json.dumps({"valid": False, "errors": [plain(one) for one in error.errors]}))
        else:
            print("\n".join(map(str, error.errors)), file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        text = f"{path}: {getattr(error, 'strerror', None) or error}"
        if output == "json":
            print(json.dumps({"valid": False, "errors": [{"message": text}]}))
        else:
            print(text, file=sys.stderr)
        return 1
    counts = {"listeners": len(model.listeners), "clusters": len(model.clusters)}
    print(json.dumps({"valid": True, **counts}) if output == "json" else f"{path}: valid ({counts['listeners']} listeners, {counts['clusters']} clusters)")
    return 0


def plain(error):
    return error.as_dict()
