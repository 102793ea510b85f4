"""fastproxy: a TCP and HTTP/1.1 proxy with a Cython core. `Proxy` embeds it in an asyncio program."""

from fastproxy.version import VERSION as __version__

__all__ = ["ConfigError", "Proxy", "__version__", "get_include"]


def get_include():
    """The directory for `include_dirs` of an extension which cimports `fastproxy._core`."""
    import os
    return os.path.dirname(os.path.abspath(__file__))


def __getattr__(name):  # the command imports this package too, and needs neither on every start
    if name == "Proxy":
        from fastproxy.proxy.embed import Proxy
        return Proxy
    if name == "ConfigError":
        from fastproxy.model import ConfigError
        return ConfigError
    raise AttributeError(f"module 'fastproxy' has no attribute {name!r}")
