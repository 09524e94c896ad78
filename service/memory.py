"""How the C library's allocator treats large blocks: it keeps what is freed, within a bound.

By default glibc maps every block of some hundred KiB anew and gives it back when it is freed, so that each image's
message, samples and answers are made of pages that the kernel must clear and map first: 2 to 4 % of all CPU time at
256 x 256 pixels, and up to a tenth of the images a second.
"""

import ctypes
import platform
from typing import Final

# From malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
# Each arena keeps what it can't give back, and each thread would have one of its own: 230 MB with 32 clients.
_ARENA_COUNT: Final = 2
_LARGEST_KEPT_BYTES: Final = 4 * 1024 * 1024
_MOST_KEPT_BYTES: Final = 32 * 1024 * 1024


def keep_freed_blocks() -> bool:
    """Sets it for this process; to be called before there are threads. False where the C library is another one."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(
        libc.mallopt(_M_ARENA_MAX, _ARENA_COUNT)
        and libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        and libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT_BYTES)
    )
