"""Prints what pyproject.toml asks for, one requirement a line: `python tools/requirements.py base test build`."""

import pathlib
import sys

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib

project = tomllib.loads((pathlib.Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())
groups = {"base": project["project"]["dependencies"], "build": project["build-system"]["requires"],
          **project["project"]["optional-dependencies"]}
for name in sys.argv[1:]:
    print("\n".join(groups[name]))
