"""Compiled extensions of other wheels: looked for when a configuration names a filter or balancer, imported only then.

A package says what it has by an entry point per name, in the group `fastproxy.filters` or `fastproxy.balancers`; its value is the
module whose import registers that name (examples/cython_plugin). A program may as well import the module itself.
"""

from fastproxy import _core
from fastproxy.tables.options import BALANCERS


def load(model):
    """Raises ValueError about the first filter or balancer of a model that is not to be had."""
    filters, balancers = _core.registered()
    for one in model.listeners:
        for name in one.filters:
            if name not in filters:
                find("filter", name)
    for one in model.clusters:
        if one.balance not in BALANCERS and one.balance not in balancers:
            find("balancer", one.balance)


def find(kind, name):
    from importlib.metadata import entry_points  # only who has extensions pays for it
    for entry in entry_points(group=f"fastproxy.{kind}s", name=name):
        try:
            entry.load()
        except Exception as error:  # anything may go wrong in an import, and none of it is ours
            raise ValueError(f"{kind} `{name}` of {entry.value}: {error}") from error
    if name not in _core.registered()[kind == "balancer"]:
        raise ValueError(f"no {kind} `{name}` is registered, nor has an installed package an entry point for it")
