"""Becomes a command that ends with the process which started it, and that stays on some of the cores.

    python worker.py PARENT CORES COMMAND [ARGUMENT ...]

PARENT is the id of the process that starts this one, CORES are numbers joined by commas, '' = all. The pool runs this
file by itself: it needs the standard library alone, and what it sets is kept when the command takes its place. Between
fork and exec of a process that has threads, as one with JAX, Python code could wait for ever.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of linux/prctl.h: the signal that this process gets when its parent is gone, however it went


def main() -> None:
    """The command line."""
    parent, cores, *command = sys.argv[1:]
    if sys.platform == 'linux':  # elsewhere a killed pool leaves its workers to finish what they are at
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            return  # it was gone before the signal was set
    if cores:
        os.sched_setaffinity(0, map(int, cores.split(',')))
    os.execvp(command[0], command)


if __name__ == '__main__':
    main()
