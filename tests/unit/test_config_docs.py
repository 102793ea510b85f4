"""docs/configuration.md and the schema are fresh, whole, and their examples are accepted."""

import json
import pathlib
import re
import subprocess
import sys

from fastproxy.model import load
from fastproxy.tables.options import SECTIONS

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_generated_files_are_fresh():
    done = subprocess.run([sys.executable, ROOT / "tools/gen_docs.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_example_of_the_page_is_accepted():
    text = re.search("```yaml\n(listeners:.*?)```", (ROOT / "docs/configuration.md").read_text(), re.S)[1]
    assert [one.name for one in load(text=text).listeners] == ["web", "db"]


def test_every_option_is_in_the_page_and_in_the_schema():
    page, schema = (ROOT / "docs/configuration.md").read_text(), json.loads((ROOT / "fastproxy/schema/config.schema.json").read_text())
    for name, section in SECTIONS.items():
        part = schema if name == "config" else schema["$defs"][name]
        assert set(part["properties"]) == {key for key, one in section.options.items() if one.built} and part["additionalProperties"] is False
        text = page.split(f"\n## {name.replace('_', ' ')}\n")[1].split("\n## ")[0]
        assert all(f"`{key}`" in text for key in section.options), name


def test_references_in_the_schema_lead_somewhere():
    text = (ROOT / "fastproxy/schema/config.schema.json").read_text()
    assert set(re.findall(r'"#/\$defs/(\w+)"', text)) <= set(json.loads(text)["$defs"])


def test_no_default_is_without_its_source():
    """A value somebody decided says who else decided so; an empty list or map is no decision."""
    missing = [f"{name}.{key}" for name, section in SECTIONS.items() for key, one in section.options.items()
               if one.built and isinstance(one.default, (str, int, bool)) and one.default != "" and not one.source]
    assert missing == []
