"""Explain why the kernel refused something, and what it would allow.

Runs in the parent, after a failure only. A hint is given only if the state of the host proves the
cause: a wrong hint is worse than none.
"""

from __future__ import annotations

from pyspaces.errors import Hint
from pyspaces.hints import confinement, creation, ids, joining, mounts, network
from pyspaces.hints.case import Case
from pyspaces.kernel.libc import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyspaces.hints.case import Rule

__all__ = ["RULES", "Case", "explain"]


def explain(case: Case) -> Hint | None:
    """Return a hint, which is one line, for a failure; None if the cause is unknown.

    Its code is the name of the rule, with dashes.
    """
    for rule in RULES:
        try:
            for hint in rule(case):
                return Hint(hint, rule.__name__.replace("_", "-"))
        except KernelError:  # /proc cannot be read, so nothing is proved
            continue
    return None


RULES: tuple[Rule, ...] = (
    joining.foreign_process,
    joining.not_dumpable,
    joining.foreign_namespace,
    joining.pid_namespace_over,
    joining.pid_namespace_above,
    joining.map_below_joined,
    joining.keep_on_shared_mount,
    network.low_port,
    network.no_such_address,
    network.no_file_of_hosts,
    creation.needs_user_namespace,
    creation.user_namespaces_disabled,
    creation.own_ids_unmapped,
    creation.chrooted,
    creation.pid_namespace_ended,
    creation.no_procfs,
    creation.limit_reached,
    creation.not_in_kernel,
    creation.process_limit,
    creation.descriptor_limit,
    ids.setgroups_rule,
    ids.ids_need_capability,
    ids.lacks_capability,
    ids.read_only_proc,
    ids.nested_users,
    confinement.hard_limit,
    confinement.priority,
    confinement.oom_score,
    confinement.not_to_be_executed,
    confinement.needs_no_new_privs,
    creation.read_only_sysctls,
    mounts.no_proc_directory,
    mounts.missing_source,
    mounts.target_of_host,
    mounts.no_permission,
    mounts.tilde,
    mounts.hidden_outside,
    mounts.namespace_of_its_own,
    creation.clock_range,
    # A filter is proved by another call; AppArmor is blamed only if no other rule applies.
    creation.seccomp,
    mounts.masked_proc,
    creation.apparmor,
    ids.map_rule,
)
