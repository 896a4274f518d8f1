#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every man page renders without a warning. (That every command has one is tools/tidy's to say.)"""

import pathlib
import shutil
import subprocess
import sys

MAN = pathlib.Path(__file__).resolve().parent.parent.parent / "man"
# What mandoc says about pages that are right but not in its own project's conventions.
HARMLESS = ("STYLE", "cross reference to self", "referenced manual not found", "cannot find OS version", "missing date")


def complaints(page):
    out = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(page)], check=False, text=True,
                         capture_output=True)
    return [line for line in (out.stdout + out.stderr).splitlines() if not any(h in line for h in HARMLESS)]


def main():
    if shutil.which("mandoc") is None:
        print("SKIP: mandoc is not installed; tools/install-packages check")
        return 77
    pages = sorted(MAN.glob("*.[1-8]"))
    bad = [line for page in pages for line in complaints(page)]
    for line in bad:
        print(line)
    print(f"{len(pages)} pages, {len(bad)} complaints")
    return 1 if bad or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
