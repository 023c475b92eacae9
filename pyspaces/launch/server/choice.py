"""Whether a launch goes through the launch server, and `use_server`, which overrides that.

Runs in the parent. Loaded by the first launch that could go through a server: by `start` without a
function, and never by the command line.
"""

from __future__ import annotations

import os

from pyspaces.kernel import procfs
from pyspaces.record import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.kernel.spawn import Spawned
    from pyspaces.launch.channel import Channel
    from pyspaces.launch.services import Launch, Services

# Bytes of resident memory from which a server pays. Measured by benchmarks/library.py: a fork takes
# longer with each page of the caller, and a caller with threads is forked before the clone.
LARGE, LARGE_WITH_THREADS = 128 << 20, 64 << 20


class _Choice:
    wanted: bool | None = None


def use_server(wanted: bool | None) -> None:
    """Set whether `start` creates commands through the launch server.

    wanted: True: whenever that is possible. False: never; a server that runs is ended. None, which
    is the default: if it pays, that is from 128 MiB of resident memory, or from 64 MiB in a
    program with more than one thread. Raises TypeError for anything else. The setting is that of
    this process and of those that it forks; each of them has a server of its own.

    A process is created by copying the memory map of the one that creates it, which takes the
    longer the bigger that is. The server is an interpreter of its own, small and with one thread,
    which is started when it is first needed (some 30 ms and 11 MB, once). It creates the command by
    clone3(2) with CLONE_PARENT, so that it is a child of this process all the same: its process id
    and pidfd, waiting for it, its id maps and all else are as without a server.

    What differs: the command dies with this process, not with the thread that has launched it.

    Sent with each launch are the working directory, umask, environment, signal mask, ignored
    signals and inheritable descriptors of the caller. All else a server has from its start: ids,
    capabilities, limits, niceness, scheduling, cgroup, namespaces, root, session, process group,
    keyring and security label of the calling thread. These are compared with each launch. If any
    has changed, the server is started anew, at most once a second. In between this process forks,
    and so it does if even a new server differs from its caller: one whose real and effective ids
    differ, for example, or that has capabilities which exec takes away.

    This process also forks

    - for a Python function (Container, Chroot and Inject need its memory, and would gain nothing),
    - for `launch.run`, and if the caller of `start` brings `before`, `function` or `reader`,
    - for a cgroup of its own (`memory` and the like),
    - for `hold`, `pty`, `overlay_diff`, status_fd, status_file and pid_file,
    - for a plan that joins namespaces, or has groups to drop before it creates any,
    - if it is not dumpable (prctl(2)); a server that it has ends then,
    - if its children are in another pid namespace than itself (unshare(2), setns(2)),
    - if more than 200 descriptors are inheritable or passed, or one cannot be sent (unix(7)),
    - without /proc, without an interpreter in sys.executable, or with a file system encoding other
      than UTF-8.

    The server has to be a child of this process: CLONE_PARENT makes its children ours only then.
    And wait(2) sees it, since exec gives every process the exit signal SIGCHLD (execve(2)). So that
    it is in nobody's way, it does not end by itself: a loop of waitpid(-1, WNOHANG) finds nothing.
    But if a thread of this process waits for a child and only the server is left, the server ends
    within two seconds, and so does the waiting: it gets the server's process id and status 0, once.
    (The server sees that in /proc/PID/task/TID/wchan, once it has nothing to do.) The next launch
    starts a new one.

    The server ends with this process, even if that is killed. A child that this process forks
    closes what it inherits of it, and starts its own.
    """
    if wanted is not None and not isinstance(wanted, bool):
        raise TypeError(f"wanted: has to be True, False or None, and is {told(wanted)}")
    _Choice.wanted = wanted
    if wanted is False:
        from pyspaces.launch.server import client

        client.end_for_good()


def create(launch: Launch, services: Services, flags: int) -> tuple[Spawned, Channel] | None:
    """Create the child of a launch through the server; None if it has to be created by a fork.

    flags: CLONE_NEW* bits. Returns the child, and the end of the channel by which it is spoken to.
    Raises KernelError if the kernel refuses the creation. Called while no other thread forks.
    """
    if _Choice.wanted is False or not (_Choice.wanted or _pays()):
        return None
    try:
        from pyspaces.launch.server.client import create as create_by
    except ImportError:  # the root has moved since this process began
        return None
    return create_by(launch, services, flags)


def _pays() -> bool:
    words = (procfs.read_or_none("/proc/self/statm") or "0 0").split()
    resident = int(words[1]) * os.sysconf("SC_PAGE_SIZE")
    if resident < LARGE_WITH_THREADS:
        return False
    return resident >= LARGE or procfs.thread_count() != 1
