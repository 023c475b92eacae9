"""What may prevent namespaces on this host: sysctls, limits, filters, a covered /proc.

Reads the sysctls, and tries what filters answer. A row is `yes` if nothing prevents namespaces.
"""

from __future__ import annotations

import errno
import os

from pyspaces.hints.creation import APPARMOR, DEBIAN, Confinement
from pyspaces.hints.mounts import masked_proc_paths
from pyspaces.host.check.row import DEGRADED, NO, YES, Row
from pyspaces.kernel import constants, filtered, mountinfo, namespaces, procfs

_TIOCSTI = "dev.tty.legacy_tiocsti"
_UNCONFINED = "--security-opt seccomp=unconfined, or --cap-add SYS_ADMIN, when the container starts"


def apparmor(interpreter: str) -> Row:
    """Return whether AppArmor lets this interpreter use unprivileged user namespaces."""
    return apparmor_row(Confinement.of_this_process(), interpreter)


def apparmor_row(confinement: Confinement, interpreter: str) -> Row:
    """Return the row for a confinement. interpreter: its real path, for the profile."""
    name = "apparmor-allows"
    if confinement.restricts is None:
        return Row(name=name, answer=YES, evidence=f"this kernel has no {APPARMOR}")
    evidence = f"{APPARMOR} is {confinement.restricts}, and this process is {confinement.label}"
    if not confinement.holds():
        return Row(name=name, answer=YES, evidence=evidence)
    # Root can create the namespaces anyway; only others need a profile.
    answer = DEGRADED if os.geteuid() == 0 else NO
    return Row(name=name, answer=answer, evidence=evidence, remedy=profile(interpreter))


def profile(interpreter: str) -> str:
    """Return the commands that give `interpreter` an AppArmor profile that allows user namespaces.

    AppArmor uses the real path of the executable, which is the interpreter, not the script.
    """
    quoted = interpreter.replace("\\", "\\\\").replace('"', '\\"')
    return f"""sudo tee /etc/apparmor.d/pyspaces <<'END'
abi <abi/4.0>,
include <tunables/global>
profile pyspaces "{quoted}" flags=(unconfined) {{
  userns,
  include if exists <local/pyspaces>
}}
END
sudo apparmor_parser -r /etc/apparmor.d/pyspaces"""


def sysctl() -> Row:
    """Return whether the sysctl of Debian's kernels allows user namespaces for everyone."""
    value = procfs.sysctl(DEBIAN)
    name = "sysctl-allows"
    if value is None:
        return Row(name=name, answer=YES, evidence=f"this kernel has no {DEBIAN}")
    if value != "0":
        return Row(name=name, answer=YES, evidence=f"{DEBIAN} is {value}")
    answer = DEGRADED if os.geteuid() == 0 else NO
    return Row(
        name=name, answer=answer, evidence=f"{DEBIAN} is 0", remedy=f"sudo sysctl {DEBIAN}=1"
    )


def terminal() -> Row:
    """Return whether the kernel prevents a command from putting input into a terminal.

    TIOCSTI in ioctl_tty(2). Before Linux 6.2, there is no such sysctl, and nothing prevents it. A
    process with CAP_SYS_ADMIN in the initial user namespace can do it in any case.
    """
    name = "no-tiocsti"
    value = procfs.sysctl(_TIOCSTI)
    if value == "0":
        return Row(
            name=name, answer=YES, evidence=f"{_TIOCSTI} is 0, which applies to all but root"
        )
    found = f"{_TIOCSTI} is {value}" if value else f"this kernel has no {_TIOCSTI}"
    return Row(
        name=name,
        answer=DEGRADED,
        evidence=f"{found}: a command can put input into the terminal that it shares",
        remedy=f"--pty or --new-session; or sudo sysctl {_TIOCSTI}=0, since Linux 6.2",
    )


def limits() -> Row:
    """Return whether a limit of this user namespace is 0."""
    names = [f"user.max_{row.link}_namespaces" for row in namespaces.NAMESPACES]
    values = {name: procfs.sysctl(name) for name in names}
    zero = [name for name, value in values.items() if value == "0"]
    if zero:
        return Row(
            name="limits-allow",
            answer=NO,
            evidence=f"{', '.join(zero)}: 0, so none can be created",
            remedy="as root: sysctl " + " ".join(f"{name}=10000" for name in zero),
        )
    shown = ", ".join(f"{name.split('_')[1]} {value}" for name, value in values.items() if value)
    return Row(name="limits-allow", answer=YES, evidence=f"user.max_*_namespaces: {shown}")


def unfiltered() -> Row:
    """Return whether a seccomp filter refuses the system calls of a launch."""
    name = "unfiltered"
    mode = procfs.status_field("self", "Seccomp")
    if mode != "2":
        return Row(
            name=name, answer=YES, evidence=f"Seccomp is {mode or 'not'} in /proc/self/status"
        )
    refused = {}
    for call in ("clone3", "clone", "unshare", "mount"):
        if number := filtered.refusal(call, constants.CLONE_NEWUSER):
            refused[call] = os.strerror(number)
    if not refused:
        evidence = "a seccomp filter is on this process, and allows clone3, clone, unshare, mount"
        return Row(name=name, answer=YES, evidence=evidence)
    # Without clone3, clone(2) does the same.
    answer = DEGRADED if refused == {"clone3": os.strerror(errno.ENOSYS)} else NO
    remedy = None if answer == DEGRADED else _UNCONFINED
    evidence = ", ".join(f"{call} ({why})" for call, why in refused.items())
    return Row(
        name=name, answer=answer, evidence=f"a seccomp filter refuses {evidence}", remedy=remedy
    )


def visible_proc() -> Row:
    """Return whether all of /proc is visible, which the kernel requires to mount a new one."""
    name = "proc-visible"
    try:
        mounts = list(mountinfo.mounts())
    except OSError:
        return Row(name=name, answer=NO, evidence="not mounted", remedy="mount -t proc proc /proc")
    if covered := masked_proc_paths():
        remedy = (
            "--security-opt systempaths=unconfined (podman: unmask=ALL) when the container starts"
        )
        return Row(name=name, answer=NO, evidence=f"covered: {', '.join(covered)}", remedy=remedy)
    points = [mount.point for mount in mounts if mount.kind == "proc"]
    return Row(name=name, answer=YES, evidence=f"nothing covers {points[0] if points else '/proc'}")
