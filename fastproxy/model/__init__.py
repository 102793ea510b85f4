"""The configuration as validated data: `load` a file or a text, `load_dict` a dict; `ConfigError` says all that is wrong."""

from fastproxy.model.config import Config
from fastproxy.model.errors import ConfigError, Error
from fastproxy.model.load import load, load_dict

__all__ = ["Config", "ConfigError", "Error", "load", "load_dict"]
