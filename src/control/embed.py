# SPDX-License-Identifier: Apache-2.0
"""usage: embed.py NAME FILE OUTPUT: FILE as `const char NAME[]` in a C source file."""
import sys

name, path, output = sys.argv[1:]
with open(path, encoding="ascii") as f, open(output, "w", encoding="ascii") as out:
    out.write(f"/* Made from {path.rsplit('/', 1)[-1]}. */\nextern const char {name}[];\nconst char {name}[] =\n")
    for line in f:
        text = line.strip().replace("\\", "\\\\").replace('"', '\\"')
        out.write(f'\t"{text}\\n"\n')
    out.write("\t;\n")
