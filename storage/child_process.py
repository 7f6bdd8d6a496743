"""Child processes that never outlive whoever started them, whatever that dies of."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# A launcher, because code between fork and exec is unsafe in a process with gRPC's threads.
# prctl(2): option 1 is PR_SET_PDEATHSIG.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the starter is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def dies_with_starter(command: Sequence[str]) -> list[str]:
    """The command, made to be killed by the kernel when the thread that starts it ends."""
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
