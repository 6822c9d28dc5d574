"""What this machine has: processors and memory."""

import ctypes
import os
import platform

# glibc's mallopt parameters (malloc.h)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 32 * 2**20  # bytes; glibc takes no larger threshold


def usable_cpus() -> int:
    """Processors that this process may use: its affinity and its control group's quota.

    A container on a large host often sees all of the host's processors and may use two.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:  # cgroup v2: "quota period", or "max period"
            quota, period = file.read().split()
        if quota != "max":
            cpus = min(cpus, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return cpus or 1


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks (up to half a GiB) for the next strip.

    By default each large tensor is mapped anew and every page of it is faulted in and zeroed by the
    kernel, which costs up to a third of the network's time. Blocks over 32 MiB still are, and go back
    when they are freed: mosaics and pictures of large frames, whose sizes leave gaps that nothing else
    fills. Only glibc has the switch.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)  # threads share what was freed
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, 512 * 2**20)


def peak_memory_mib() -> float:
    """The largest resident memory of this process so far, in MiB; 0 where it is not known."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0
