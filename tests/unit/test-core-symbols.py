#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""test-core-symbols.py ARCHIVE...: core code makes no system call. Every undefined symbol of its archives is our own or a
pure function of the C library (or of a library that computes only); anything that reaches the kernel fails."""

import re
import subprocess
import sys

# Memory, strings, formatting into memory, sorting, numbers: nothing here reads a clock, a file or a socket.
PURE = re.compile(r"""^(
    pst_\w+ | mem(cpy|move|set|cmp|chr|mem)|rawmemchr | str(n?len|n?cmp|n?casecmp|chr|rchr|str|c?spn|n?dup|sep|to(u?ll?|d)|lcpy)
    | (mem|str)\w*_chk
    | __(memcpy|memmove|memset|snprintf|vsnprintf|strncpy|strcpy|strcat)_chk | (v)?snprintf | (c|m|re)alloc | free
    | aligned_alloc | posix_memalign | qsort | bsearch | abort | __isoc\d\d_\w+ | __ctype_\w+ | isal?\w+ | to(lower|upper)
    | __stack_chk_fail | _GLOBAL_OFFSET_TABLE_ | __(u)?(div|mod|mul)\w+ | (l|ll)?(round|floor|ceil|log2?|pow|sqrt|exp)(f|l)?
    | json_(?!load_file|loadf|dump_file|dumpf)\w+ | crc32_\w+ | crc16_\w+ | __(asan|ubsan|sanitizer|tsan|gcov|llvm)\w+ | __assert_fail
)$""", re.X)


def undefined(archive):
    """(object, symbol) of what the archive takes from elsewhere."""
    out = subprocess.run(["nm", "-u", "-A", archive], check=True, text=True, capture_output=True).stdout
    for line in out.splitlines():
        place, _, symbol = line.rpartition(" ")
        yield place.split(":")[-2] if ":" in place else archive, symbol.split("@")[0]


def defined(archives):
    """Symbols that the archives define themselves."""
    out = subprocess.run(["nm", "--defined-only", *archives], check=True, text=True, capture_output=True).stdout
    return {line.split()[-1] for line in out.splitlines() if len(line.split()) == 3}


def self_test():
    assert not PURE.match("open") and not PURE.match("clock_gettime") and not PURE.match("pthread_create")
    assert PURE.match("memcpy") and PURE.match("pst_env_now_ns") and PURE.match("__snprintf_chk")


def main():
    self_test()
    bad = seen = 0
    own = defined(sys.argv[1:])
    for archive in sys.argv[1:]:
        for member, symbol in undefined(archive):
            seen += 1
            if symbol not in own and not PURE.match(symbol):
                print(f"{archive}: {member} uses {symbol}(): core code goes through src/env/env.h")
                bad += 1
    print(f"{len(sys.argv) - 1} archives, {seen} undefined symbols, {bad} that reach outside")
    return 1 if bad or seen == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
