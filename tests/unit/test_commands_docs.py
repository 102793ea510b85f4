"""docs/commands.md is fresh, and what the command is called in it can be typed."""

import pathlib
import re
import shlex
import subprocess
import sys

from fastproxy.cli.main import parser

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/commands.md"


def test_the_page_is_fresh():
    done = subprocess.run([sys.executable, ROOT / "tools/gen_commands.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_examples_are_accepted():
    examples = [part for line in re.findall("^Example: `(.*)`$", PAGE.read_text(), re.M) for part in re.split(", or | before ", line) if part.startswith("fastproxy ")]
    assert len(examples) >= 13
    for text in examples:
        assert parser().parse_args(shlex.split(re.split(" > | -- ", text)[0])[1:]).verb
