"""What differs between operating systems: cores, memory, room on the disk."""

import os
import sys
from typing import BinaryIO

BLOCK = 2**20  # bytes written at once where a disk cannot be asked for room


def cores() -> int:
    """How many cores this process may use; where the system does not say, how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory() -> int | None:
    """The most memory that this process has had, in bytes; None on Windows, which has no `resource`."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, others kibibytes


def reserve(file: BinaryIO, size: int) -> None:
    """Make sure that the disk holds all `size` bytes of a file that is `size` bytes long already; it stays as it is.

    A file that is written through a memory map ends the process, instead of raising, when the disk is full.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, BLOCK):
        file.seek(start)
        block = file.read(BLOCK)
        file.seek(start)
        file.write(block)
    file.flush()
