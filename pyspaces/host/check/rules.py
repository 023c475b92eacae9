"""What may prevent namespaces on this host: sysctls, limits, filters, a covered /proc.

Reads the sysctls, and tries what filters answer. A row is `yes` if nothing prevents namespaces.
"""

from __future__ import annotations

import errno
import os

from pyspaces.hints.creation import APPARMOR, DEBIAN, Confinement
from pyspaces.hints.mounts import masked_proc_paths
from pyspaces.host.check.trial import DEGRADED, NO, YES, Row, finding
from pyspaces.host.check.where import interpreter
from pyspaces.kernel import constants, filtered, mountinfo, namespaces, procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_TIOCSTI = "dev.tty.legacy_tiocsti"
_UNCONFINED = "--security-opt seccomp=unconfined, or --cap-add SYS_ADMIN, when the container starts"
_UNMASKED = "--security-opt systempaths=unconfined (podman: unmask=ALL) when the container starts"


def visible_proc() -> Row:
    """Return whether all of /proc is visible, which the kernel requires to mount a new one."""
    try:
        mounts = list(mountinfo.mounts())
    except OSError:
        return finding(NO, "not mounted", "mount -t proc proc /proc")
    if covered := masked_proc_paths():
        return finding(NO, f"covered: {', '.join(covered)}", _UNMASKED)
    points = [mount.point for mount in mounts if mount.kind == "proc"]
    return finding(YES, f"nothing covers {points[0] if points else '/proc'}")


def unfiltered() -> Row:
    """Return whether a seccomp filter refuses the system calls of a launch."""
    mode = procfs.status_field("self", "Seccomp")
    if mode != "2":
        return finding(YES, f"Seccomp is {mode or 'not'} in /proc/self/status")
    answers = {
        call: filtered.refusal(call, constants.CLONE_NEWUSER)
        for call in ("clone3", "clone", "unshare", "mount")
    }
    refused = {call: number for call, number in answers.items() if number}
    if not refused:
        evidence = "a seccomp filter is on this process, and allows clone3, clone, unshare, mount"
        return finding(YES, evidence)
    calls = ", ".join(f"{call} ({os.strerror(number)})" for call, number in refused.items())
    evidence = f"a seccomp filter refuses {calls}"
    # Without clone3, clone(2) does the same.
    if refused == {"clone3": errno.ENOSYS}:
        return finding(DEGRADED, evidence)
    return finding(NO, evidence, _UNCONFINED)


def apparmor_row(confinement: Confinement, interpreter: str) -> Row:
    """Return whether AppArmor lets this interpreter use unprivileged user namespaces.

    interpreter: its real path, for the profile.
    """
    if confinement.restricts is None:
        return finding(YES, f"this kernel has no {APPARMOR}")
    evidence = f"{APPARMOR} is {confinement.restricts}, and this process is {confinement.label}"
    if not confinement.holds():
        return finding(YES, evidence)
    return finding(_unless_root(), evidence, _profile(interpreter))


def _unless_root() -> str:
    """Return the answer about a restriction that does not apply to root."""
    return DEGRADED if os.geteuid() == 0 else NO


def _profile(interpreter: str) -> str:
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
    if value is None:
        return finding(YES, f"this kernel has no {DEBIAN}")
    if value != "0":
        return finding(YES, f"{DEBIAN} is {value}")
    return finding(_unless_root(), f"{DEBIAN} is 0", f"sudo sysctl {DEBIAN}=1")


def limits() -> Row:
    """Return whether a limit of this user namespace is 0."""
    names = [f"user.max_{row.link}_namespaces" for row in namespaces.NAMESPACES]
    values = {name: procfs.sysctl(name) for name in names}
    if zero := [name for name, value in values.items() if value == "0"]:
        remedy = "as root: sysctl " + " ".join(f"{name}=10000" for name in zero)
        return finding(NO, f"{', '.join(zero)}: 0, so none can be created", remedy)
    shown = ", ".join(f"{name.split('_')[1]} {value}" for name, value in values.items() if value)
    return finding(YES, f"user.max_*_namespaces: {shown}")


def terminal() -> Row:
    """Return whether the kernel prevents a command from putting input into a terminal.

    TIOCSTI in ioctl_tty(2). Before Linux 6.2, there is no such sysctl, and nothing prevents it. A
    process with CAP_SYS_ADMIN in the initial user namespace can do it in any case.
    """
    value = procfs.sysctl(_TIOCSTI)
    if value == "0":
        return finding(YES, f"{_TIOCSTI} is 0, which applies to all but root")
    found = f"{_TIOCSTI} is {value}" if value else f"this kernel has no {_TIOCSTI}"
    return finding(
        DEGRADED,
        f"{found}: a command can put input into the terminal that it shares",
        f"--pty or --new-session; or sudo sysctl {_TIOCSTI}=0, since Linux 6.2",
    )


RULES: dict[str, Callable[[], Row]] = {
    "proc-visible": visible_proc,
    "unfiltered": unfiltered,
    "apparmor-allows": lambda: apparmor_row(Confinement.of_this_process(), interpreter()),
    "sysctl-allows": sysctl,
    "limits-allow": limits,
    "no-tiocsti": terminal,
}
