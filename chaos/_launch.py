"""Tie this process to its parent, then become another program: `python -I -S _launch.py PARENT_PID PROGRAM ARG ...`.

Kept free of imports from the package, so that it starts in a few milliseconds. PR_SET_PDEATHSIG survives
execve(2) of a program without set-user-ID or capabilities (prctl(2)).
"""

import ctypes
import os
import signal
import sys

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)  # 1: PR_SET_PDEATHSIG
    if "CHAOS_TRACEABLE" in os.environ:  # see chaos._process
        ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, PR_SET_PTRACER_ANY
if os.getppid() != int(sys.argv[1]):
    os._exit(87)
os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  # becoming the program is the purpose; there is no shell
