"""Which system calls a confined job may make: a seccomp filter of our own, built in Python and read by the kernel.

The last lock of ``sandbox_child.py``, put on after every other one. The list names what numerical Python needs to read
files, compute and write; anything else, calls that later kernels bring included, is answered EPERM. So a job has no
network, no further process or thread, no way to touch another process, a mount, a key or a namespace.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federome.errors import Refused

# Call numbers are facts of the kernel's ABI: name, x86_64, aarch64 ("-" where the architecture has no such call).
_NUMBERS: Final = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, lseek 8 62, open 2 -, openat 257 56,
close 3 57, close_range 436 436, dup 32 23, dup2 33 -, dup3 292 24, stat 4 -, lstat 6 -, fstat 5 80, newfstatat 262 79,
statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78, getdents64 217 61,
getcwd 79 17, chdir 80 49, ftruncate 77 46, fsync 74 82, fdatasync 75 83, mmap 9 222, mprotect 10 226, munmap 11 215,
mremap 25 216, madvise 28 233, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139,
sigaltstack 131 132, restart_syscall 219 128, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115,
nanosleep 35 101, gettimeofday 96 169, time 201 -, times 100 153, getrusage 98 165, futex 202 98,
set_robust_list 273 99, rseq 334 293, sched_yield 24 124, sched_getaffinity 204 123, getcpu 309 168, getpid 39 172,
getppid 110 173, gettid 186 178, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177, getgroups 115 158,
getpgrp 111 -, getrandom 318 278, getrlimit 97 163, uname 63 160, sysinfo 99 179, umask 95 166, poll 7 -, ppoll 271 73,
select 23 -, pselect6 270 72, exit 60 93, exit_group 231 94, ioctl 16 29, fcntl 72 25, prlimit64 302 261, prctl 157 167
"""

# Calls that are allowed with some arguments only: which argument, and its permitted values (low 32 bits, which is all
# that the kernel itself reads of a command number). No command that could push input into a terminal (TIOCSTI) or make
# a file's owner's signals reach other processes (F_SETOWN).
_ARGUMENTS: Final[Mapping[str, tuple[int, tuple[int, ...]]]] = {
    "ioctl": (1, (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)),  # TCGETS TIOCGWINSZ FIONREAD FIONCLEX FIOCLEX
    "fcntl": (1, (0, 1, 2, 3, 4, 1030)),  # F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_DUPFD_CLOEXEC
    "prctl": (0, (15, 16)),  # PR_SET_NAME PR_GET_NAME
}

_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_DENY: Final = 0x00050000 | errno.EPERM
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_X32: Final = 0x40000000
_PR_SET_SECCOMP, _MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38


@dataclass(frozen=True)
class Architecture:
    """One processor family: its AUDIT_ARCH number and its call numbers by name."""

    audit: int
    numbers: Mapping[str, int]


def _architecture(audit: int, column: int) -> Architecture:
    rows = (line.split() for line in _NUMBERS.replace("\n", " ").split(","))
    return Architecture(audit, {row[0]: int(row[column]) for row in rows if row[column] != "-"})


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "x86_64": _architecture(0xC000003E, 1),
    "aarch64": _architecture(0xC00000B7, 2),
}


def architecture(machine: str = "") -> Architecture:
    """This machine's family; ``Refused`` where there is no table, so that nothing runs there unconfined."""
    found = ARCHITECTURES.get(machine or platform.machine())
    if found is None:
        raise Refused("there is no system call filter for this kind of processor.", codes=["sandbox_unavailable"])
    return found


def program(arch: Architecture) -> bytes:
    """The filter as the kernel reads it: an array of ``struct sock_filter``, 8 bytes each.

    A call that comes in another architecture's numbering (32-bit or x32) ends the process.
    """
    out: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, arch.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
    ]
    for name, (argument, values) in _ARGUMENTS.items():
        out += _guarded(arch.numbers[name], [_low_is(argument, values)])
    whose, new = 0, 2  # prlimit64: of this process only, and only to ask
    out += _guarded(arch.numbers["prlimit64"], [_low_is(whose, (0,)), _low_is(new, (0,)), _high_is_zero(new)])
    plain = sorted(number for name, number in arch.numbers.items() if name not in {*_ARGUMENTS, "prlimit64"})
    for at, number in enumerate(plain):
        out.append((_EQUAL, len(plain) - at, 0, number))  # to the last line; lists stay far below 255
    out += [(_RETURN, 0, 0, _DENY), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *line) for line in out)


_Line = tuple[int, int, int, int]


def _low_is(argument: int, values: Sequence[int]) -> list[_Line]:
    """Go on if the argument's low half is one of the values, else deny."""
    load = (_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * argument)
    tests = [(_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [load, *tests, (_RETURN, 0, 0, _DENY)]


def _high_is_zero(argument: int) -> list[_Line]:
    return [(_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * argument + 4), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _DENY)]


def _guarded(number: int, checks: Sequence[list[_Line]]) -> list[_Line]:
    """Checks that apply to one call; other calls jump over them with their number still loaded."""
    inside = [line for check in checks for line in check] + [(_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(inside), number), *inside]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def install(lines: bytes) -> None:
    """Put the filter on this thread and all it starts, for good. ``OSError`` if the kernel does not take it."""
    libc = ctypes.CDLL(None, use_errno=True)
    whole = _Program(len(lines) // 8, lines)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(whole), 0, 0
    ):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
