"""The allocator's settings, seen from a process that makes them."""

import platform
import subprocess
import sys

import pytest

# Rounds of 16 blocks of 1 MiB, all there at once and then freed, as images in flight are.
_COUNT_FAULTS = """
import resource, sys
from service.memory import keep_freed_blocks
if sys.argv[1] == "keep":
    assert keep_freed_blocks()
def use_blocks():
    blocks = [b"x" * (1 << 20) for _ in range(16)]
use_blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use_blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, whose settings these are")
def test_blocks_that_come_and_go_are_mapped_once() -> None:
    def fault_count(mode: str) -> int:
        command = [sys.executable, "-c", _COUNT_FAULTS, mode]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert 20 * fault_count("keep") < fault_count("leave")
