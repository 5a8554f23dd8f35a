"""``python parent_watch.py PARENT COMMAND…``: runs COMMAND, which gets SIGTERM when the process PARENT ends.

Run as a file, never imported. It stands between a parent and its children because the alternative, Python code
between fork and exec (``preexec_fn``), can deadlock in a parent that has threads. Exit status 127 when COMMAND
cannot be run. Elsewhere than on Linux it only runs COMMAND.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>; survives the exec; the children of COMMAND do not inherit it


def main() -> int:
    """Set the death signal and exec. Returns 127 or 1 when that is not possible."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        try:
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        except (ImportError, OSError, AttributeError):
            pass  # a Python without ctypes or a libc without prctl: the command runs without the watch
        if os.getppid() != parent:
            return 1  # the parent ended before the watch began
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and COMMAND would inherit that
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
