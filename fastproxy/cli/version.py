"""`fastproxy version`."""

import platform

from fastproxy.version import VERSION


def version(verbose, output):
    facts = {"version": VERSION}
    if verbose:
        from fastproxy import _core
        facts |= {"python": platform.python_version(), "core": _core.__file__, "core_abi": getattr(_core, "ABI", None), "system": platform.platform()}
    if output == "json":
        import json
        print(json.dumps(facts))
    else:
        print("\n".join([f"fastproxy {VERSION}", *(f"{name}: {value}" for name, value in facts.items() if name != "version")]))
    return 0
