"""Landlock: the kernel's own way for a process to give up the file system, where new namespaces are not to be had.

Used by ``sandbox_child.py`` when bubblewrap cannot run. A job keeps reading named folders and writing one named file;
every other access to content is refused by the kernel. Names and sizes of files stay visible (Landlock does not
govern ``stat``), which is why bubblewrap comes first. Numbers are those of ``linux/landlock.h``.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_TRUNCATE: Final = 1 << 14
_FIRST_FILE_RIGHTS: Final = (1 << 13) - 1
_LATER_FILE_RIGHTS: Final = (
    (2, 1 << 13),
    (3, _TRUNCATE),
    (5, 1 << 15),
)  # from which version on: refer, truncate, ioctl
_NETWORK: Final = (4, 0b11)  # bind and connect over TCP
_SCOPES: Final = (6, 0b11)  # abstract sockets of others, signals to others


def version() -> int:
    """The kernel's Landlock version; 0 where there is none or it is switched off."""
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION_FLAG))))


def restrict(*, readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Give up, for good, everything but reading below some paths and writing to some existing files.

    Raises ``OSError`` if the kernel has no Landlock or refuses, and the caller must not go on then.
    """
    here = version()
    files = _FIRST_FILE_RIGHTS | sum(right for since, right in _LATER_FILE_RIGHTS if here >= since)
    network, scopes = (right if here >= since else 0 for since, right in (_NETWORK, _SCOPES))
    wanted = struct.pack("=QQQ", files, network, scopes)
    size = 24 if here >= 6 else 16 if here >= 4 else 8
    ruleset = _check(_libc().syscall(_CREATE_RULESET, wanted, ctypes.c_size_t(size), ctypes.c_uint(0)))
    try:
        for path in readable:
            _allow(ruleset, path, (_READ_FILE | _READ_DIR) & files)
        for path in writable:
            _allow(ruleset, path, (_WRITE_FILE | _TRUNCATE) & files)
        _check(_libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _check(_libc().syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0)))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not path.is_dir():
            rights &= ~_READ_DIR
        rule = struct.pack("=Qi", rights, place)
        _check(_libc().syscall(_ADD_RULE, ctypes.c_int(ruleset), _PATH_BENEATH, rule, ctypes.c_uint(0)))
    finally:
        os.close(place)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(returned: int) -> int:
    if returned < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return returned
