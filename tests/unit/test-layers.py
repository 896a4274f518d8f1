#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The layer table of ARCHITECTURE.md holds: no folder includes one that it may not, and every folder has a row."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"](?P<folder>[a-z-]+)/', re.M)


def layer_table(text):
    """{folder: set of folders that it may include}, from the section `## Layers`."""
    section = text.split("## Layers", 1)[1]
    rows = re.findall(r"^\| ([a-z]+) \| ([a-z ]*)\| ", section, re.M)
    return {folder: set(allowed.split()) for folder, allowed in rows if folder != "folder"}


def violations(table, files):
    """@files: (path relative to the root, text). One line per include that the table does not allow."""
    for path, text in files:
        parts = path.split("/")
        folder = {"src": parts[1], "include": "penstock"}.get(parts[0])
        for match in INCLUDE.finditer(text):
            used = match["folder"]
            line = text.count("\n", 0, match.start("folder")) + 1
            if folder is None or used == folder or used == "penstock" or used not in table:
                continue
            if used not in table.get(folder, set()):
                yield f"{path}:{line}: {folder} may not include {used} (ARCHITECTURE.md, Layers)"


def self_test():
    """A forbidden include is found, an allowed one is not: this test can fail."""
    table = layer_table("## Layers\n| folder | may include | x |\n|---|---|---|\n| base | | x |\n| env | base | x |\n")
    assert table == {"base": set(), "env": {"base"}}, table
    assert list(violations(table, [("src/base/a.h", '#include "env/env.h"\n')])) != []
    assert list(violations(table, [("src/env/a.h", '#include "base/base.h"\n#include <sys/uio.h>\n')])) == []
    assert list(violations(table, [("include/penstock/a.h", '#include "base/base.h"\n')])) != []


def main():
    self_test()
    table = layer_table((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    files = [p for top in ("src", "include", "bin") for p in sorted((ROOT / top).rglob("*.[ch]"))]
    bad = list(violations(table, [(str(p.relative_to(ROOT)), p.read_text(encoding="utf-8")) for p in files]))
    bad += [f"src/{p.name} has no row in the layer table of ARCHITECTURE.md"
            for p in sorted((ROOT / "src").iterdir()) if p.is_dir() and list(p.rglob("*.c")) and p.name not in table]
    for line in bad:
        print(line)
    print(f"{len(files)} files, {len(table)} layers, {len(bad)} violations")
    return 1 if bad or len(files) < 20 else 0


if __name__ == "__main__":
    sys.exit(main())
