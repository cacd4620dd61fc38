"""How the process holds its memory: on Linux a setting of the C library that steps' speed hangs on.

XLA on the CPU asks for the memory of a step's intermediate results anew each step, and gives it back at its
end. glibc returns blocks of that size to the system at once, so that the next step has every page of it
cleared and mapped again: a quarter of a second for a gigabyte.
"""

import ctypes
import os
import sys

KEEP_MEMORY = "GANJAX_KEEP_MEMORY"

# From glibc's malloc.h and Linux's mman.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MADV_HUGEPAGE = 14
_HUGE_PAGE = 2 << 20


def share_one_heap() -> bool:
    """Lets all threads of this process allocate from one heap: less memory in all, and slower where many do.

    For a process of one's own, before it starts threads. Linux with glibc only.

    Returns:
      whether it was done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1))
    except (OSError, AttributeError):  # another C library
        return False


def keep_freed_memory() -> bool:
    """Lets this process keep what it has freed, for itself, and hold it in large pages where there are any.

    For a process of one's own, before it starts threads: it is a setting of the whole process. The memory
    that the process has mapped does not fall any more; its peak stays as it was. Linux with glibc only.

    Returns:
      whether it was done. The environment variable GANJAX_KEEP_MEMORY=0 prevents it.
    """
    if not sys.platform.startswith("linux") or os.environ.get(KEEP_MEMORY) == "0":
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, malloc, free, madvise = libc.mallopt, libc.malloc, libc.free, libc.madvise
    except (OSError, AttributeError):  # another C library
        return False
    malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # No block in a mapping of its own, no end of the heap returned, one heap: another thread's are small and
    # put large blocks into mappings after all.
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
    if not all(mallopt(name, value) for name, value in settings):
        return False
    # The heap is grown now, untouched, so that the range can be marked; what is not touched takes no memory.
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if block := malloc(size):
        start = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        madvise(start, (block + size - start) // _HUGE_PAGE * _HUGE_PAGE, _MADV_HUGEPAGE)
        free(block)
    return True
