"""What a process gives up before it touches a stranger's file: memory, files, network, privileges.

Every measure is applied as far as the system offers it; none is missed where it does not. Constants
are Linux's: ``linux/prctl.h``, ``linux/sched.h`` and ``linux/landlock.h``.
"""

import contextlib
import ctypes
import math
import os
import struct
import sys
from collections.abc import Iterable

PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
CAPABILITY_VERSION_3 = 0x20080522

# Landlock's system calls have the same numbers on every architecture since Linux 5.13.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG, PATH_BENEATH = 1, 1
WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
# Version of Landlock -> number of file rights that it knows; all of them are taken away.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
ALL_TCP, ALL_SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals

MAX_OPEN_FILES = 64


def limit_resources(memory_mb: int, largest_file: int) -> None:
    """Cap the address space (MiB) and written files (bytes); no core dumps."""
    with contextlib.suppress(ImportError):  # Windows has no resource limits
        import resource

        for name, limit in (
            ("RLIMIT_AS", memory_mb << 20),
            ("RLIMIT_FSIZE", largest_file),
            ("RLIMIT_CORE", 0),
            ("RLIMIT_NOFILE", MAX_OPEN_FILES),
        ):
            with contextlib.suppress(ValueError, OSError, AttributeError):
                resource.setrlimit(getattr(resource, name), (limit, limit))


def allow_cpu_seconds(seconds: float) -> None:
    """The kernel ends this process (SIGXCPU) when it uses more CPU time than this from now on."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = math.ceil(usage.ru_utime + usage.ru_stime + seconds)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def give_up_privileges() -> None:
    """No capabilities, no set-user-id programs, an own user namespace with an own, empty network.

    In another user namespace the server's memory and environment cannot be read through /proc.
    To be called before any thread is started.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)
        libc.capset(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), bytes(24))


def restrict_files(readable: Iterable[str], writable: str) -> bool:
    """Only ``readable`` folders may be read, only files in ``writable`` written, no program run.

    By Landlock, which also takes away TCP and signals to other processes where it can. False when
    the system has no Landlock. To be called while there is a single thread.
    """
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None).syscall
    version = call(CREATE_RULESET, None, 0, VERSION_FLAG)
    if version < 1:
        return False
    file_rights = (1 << FILE_RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", file_rights, ALL_TCP, ALL_SCOPES)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = call(CREATE_RULESET, attributes, size, 0)
    if ruleset < 0:
        return False
    rules = [(folder, READ_FILE | READ_DIR) for folder in readable]
    rules.append((writable, (WRITE_FILE | READ_FILE | TRUNCATE) & file_rights))
    for folder, rights in rules:
        with contextlib.suppress(OSError):  # a folder that does not exist needs no rule
            opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            call(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
            os.close(opened)
    restricted = call(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return restricted
