#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test-public-headers.py HEADER-ROOT LIBRARY: each public header compiles alone as C99 and as C++, with all warnings as
errors, and so does the example of libpenstock(3); every function in them has a documentation comment, and the shared
library exports them and nothing else."""

import pathlib
import re
import shutil
import subprocess
import sys


def example(root):
    """The program in the man page."""
    page = (root.parent / "man/libpenstock.3").read_text()
    return re.search(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed", page, re.M | re.S).group(1).replace("\\e", "\\")


def compiles(root, name, source, compiler, flags):
    done = subprocess.run([compiler, *flags, "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{root}", "-fsyntax-only", "-"],
                          input=source, text=True, capture_output=True)
    if done.returncode != 0:
        print(f"{name}: does not compile alone with {compiler} {' '.join(flags)}:\n{done.stderr}")
    return done.returncode == 0


def functions(header):
    """Functions declared in a header -> is there a documentation comment right before it?"""
    text = header.read_text()
    found = {}
    for match in re.finditer(r"^(?:const )?[a-z_0-9]+ \*?(pst_\w+)\(", text, re.M):
        before = text[:match.start()].rstrip("\n")
        # A comment, or a declaration directly above that the comment covers as well.
        while before.endswith(";") and "\n" in before and not before.splitlines()[-1].startswith((" *", "/*")):
            before = before[:before.rindex("\n")].rstrip()
        found[match.group(1)] = before.endswith("*/")
    return found


def exported(library):
    out = subprocess.run(["nm", "-D", "--defined-only", library], check=True, text=True, capture_output=True).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines() if line.split()[-2] in "TtDdBbRrWw"}


def main():
    root, library = pathlib.Path(sys.argv[1]), sys.argv[2]
    headers = sorted((root / "penstock").glob("*.h"))
    good = bool(headers)
    declared = {}
    sources = {header.name: f"#include <penstock/{header.name}>\nint main(void) {{ return 0; }}\n" for header in headers}
    good &= compiles(root, "libpenstock(3)", example(root), "cc", ["-xc", "-std=c99"])
    for name, source in sources.items():
        good &= compiles(root, name, source, "cc", ["-xc", "-std=c99"])
        if shutil.which("c++"):
            good &= compiles(root, name, source, "c++", ["-xc++", "-std=c++11"])
        else:
            print(f"SKIPPED: {name} as C++: no C++ compiler here")
    for header in headers:
        declared.update(functions(header))
    for name, documented in declared.items():
        if not documented:
            print(f"{name}: has no documentation comment")
            good = False
    for name in sorted(exported(library) ^ set(declared)):
        print(f"{name}: " + ("declared in no public header, but exported" if name not in declared else "not exported"))
        good = False
    sys.exit(0 if good else 1)


main()
