#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The core meets the world only through src/env/env.h: its archives call nothing else and hold no globals.

Usage: test-seam.py ARCHIVE... (static libraries of the core folders); --self-test checks that a breach is found.
"""
import os
import subprocess
import sys
import tempfile

# Functions of the C library that touch memory alone. Everything else goes through env.h.
MEMORY = set("""
memcpy memmove memset memcmp memchr strlen strnlen strcmp strncmp strchr strrchr strstr strspn strcspn strdup strndup
strtoul strtoull strtol snprintf vsnprintf malloc calloc realloc free aligned_alloc posix_memalign qsort bsearch abort
__memcpy_chk __memset_chk __memmove_chk __snprintf_chk __vsnprintf_chk __stack_chk_fail __strcpy_chk
_GLOBAL_OFFSET_TABLE_ __popcountdi2 OPENSSL_cleanse CRYPTO_memcmp
""".split())
# Ciphers, digests and tables that are pure functions of their arguments; and TLS over memory, whose one secret from the
# world is the randomness of its handshakes (src/proto/tls.h).
PREFIXES = ("pst_", "crc32_", "EVP_", "SSL_", "TLS_", "BIO_", "ERR_", "HMAC", "OSSL_PARAM_", "json_",
            "__asan_", "__ubsan_", "__tsan_", "__gcov_", "__sanitizer_")
# Ours, or pure by prefix, but the business of programs: who runs the loop, what touches files.
NOT_CORE = set("""
pst_env_new pst_env_run pst_env_poll pst_env_stop pst_env_free
json_dump_file json_dumpf json_dumpfd json_load_file json_loadf json_loadfd
BIO_new_file BIO_new_fp BIO_new_fd BIO_new_socket BIO_new_connect BIO_s_file BIO_s_fd BIO_s_socket SSL_set_fd
SSL_set_rfd SSL_set_wfd SSL_CTX_use_certificate_file SSL_CTX_load_verify_locations ERR_print_errors_fp
""".split())
# Read-only after relocation: tables of functions and strings.
READ_ONLY = (".data.rel.ro",)


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def breaches(archive):
    """Sentences, one for each call or global that should not be there."""
    defined, wanted = set(), {}
    member = "?"
    for line in output("nm", "-A", archive).splitlines():
        where, _, rest = line.rpartition(":")
        fields = rest.split()
        member = where.split(":")[-1]
        if len(fields) == 2 and fields[0] in "Uw":
            wanted.setdefault(fields[1].split("@")[0], member)
        elif len(fields) == 3:
            defined.add(fields[2])
    for name, member in sorted(wanted.items()):
        allowed = name in MEMORY or name.startswith(PREFIXES) and name not in NOT_CORE
        if name not in defined and not allowed:
            yield f"{member} calls {name}, which is not in src/env/env.h: go through the environment"
    instrumented = any(name.startswith("__asan_") for name in wanted)
    for line in output("objdump", "-t", archive).splitlines():
        left, tab, right = line.partition("\t")
        if not tab or "*UND*" in left or " d " in left or " F " in left:
            continue
        section, name = left.split()[-1], right.split()[-1]
        if not section.startswith((".data", ".bss", ".tdata", ".tbss", "*COM*")) or section.startswith(READ_ONLY):
            continue
        if name != section and not (instrumented and name.startswith((".L", "__"))):
            yield f"{os.path.basename(archive)} holds the global {name} in {section}: state belongs to an object"


def self_test():
    source = """
    #include <time.h>
    int counter;
    static __thread int mine;
    static const char *const fine[] = { "a", "b" };
    void pst_env_run(void *env);
    long f(int i) { pst_env_run(0); mine++; counter++; return time(0) + fine[i & 1][0] + mine; }
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x")
        with open(path + ".c", "w", encoding="utf-8") as f:
            f.write(source)
        output("cc", "-fPIC", "-c", path + ".c", "-o", path + ".o")
        output("ar", "rcs", path + ".a", path + ".o")
        found = "\n".join(breaches(path + ".a"))
    for text in ("calls time", "calls pst_env_run", "global counter", "global mine"):
        assert text in found, f"missed: {text}\n{found}"
    assert "fine" not in found, found


def main():
    self_test()
    found = 0
    for archive in sys.argv[1:]:
        for sentence in breaches(archive):
            print(f"{archive}: {sentence}")
            found += 1
    print(f"{len(sys.argv) - 1} archives, {found} breaches of the seam")
    return 1 if found or len(sys.argv) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
