"""fastproxy: the strict HTTP/1 parser of a proxy core, for Python tests and for Cython extensions."""

from fastproxy.version import VERSION as __version__

__all__ = ["__version__", "get_include"]


def get_include():
    """The directory for `include_dirs` of an extension which cimports `fastproxy._core`."""
    import os
    return os.path.dirname(os.path.abspath(__file__))
