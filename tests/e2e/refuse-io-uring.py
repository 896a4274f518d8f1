# SPDX-License-Identifier: Apache-2.0
"""refuse-io-uring.py COMMAND...: runs COMMAND under a seccomp filter that refuses io_uring, as container runtimes do."""

import ctypes
import errno
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7fff0000, 0x00050000 | errno.EPERM
CALLS = (425, 426, 427)  # io_uring_setup, _enter, _register: the same numbers on every machine since Linux 5.1


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


rules = [(LOAD, 0, 0, 0)]
rules += [(EQUALS, len(CALLS) - i, 0, number) for i, number in enumerate(CALLS)]
rules += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
program = Program(len(rules), code)
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)):
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
