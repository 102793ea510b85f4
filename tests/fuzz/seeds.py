"""Seed inputs for the fuzz targets out of tests/parse/*.md: `python tests/fuzz/seeds.py DIRECTORY`."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "unit"))
from test_h1_parse import lines, messages  # noqa: E402

TARGETS = {"request": "request", "request-line": "request", "target": "request", "field": "request", "host": "request",
           "response": "response", "status-line": "response", "response-field": "response", "chunked": "chunked", "body": "chunked"}


def main(root):
    rows = [(row.values[0], row.values[2]) for row in messages()] + [row.values[:2] for row in lines()]
    for i, (kind, data) in enumerate(rows):
        target = TARGETS[kind]
        folder = root / f"fuzz_h1_{target}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"seed{i}").write_bytes((b"\x01" if target == "response" else b"") + data)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
