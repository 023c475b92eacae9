"""The environment: kernel, interpreter, user, container, CI runner.

Only reads. This information accompanies the rows; none of them depends on it.
"""

from __future__ import annotations

import os
import platform
import sys

from pyspaces.kernel import procfs

# Files, and the container runtime that creates them.
_MARKS = (
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/run/host/container-manager", "systemd-nspawn"),
)
_CGROUPS = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc"))
_RUNNERS = (
    ("GITHUB_ACTIONS", "GitHub Actions"),
    ("GITLAB_CI", "GitLab CI"),
    ("CIRCLECI", "CircleCI"),
    ("BUILDKITE", "Buildkite"),
    ("JENKINS_URL", "Jenkins"),
    ("TF_BUILD", "Azure Pipelines"),
    ("TRAVIS", "Travis CI"),
    ("CIRRUS_CI", "Cirrus CI"),
    ("CI", "a CI runner"),
)


def facts() -> dict[str, str | int | bool | None]:
    """Return what is known about this host; unknown values are None."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "interpreter": interpreter(),
        "uid": os.geteuid(),
        "gid": os.getegid(),
        "container": container(),
        "runner": runner(),
        "nested_user_namespace": nested(),
    }


def interpreter() -> str:
    """Return the real path of the program that this process runs."""
    try:
        return os.readlink("/proc/self/exe")
    except OSError:
        return os.path.realpath(sys.executable)


def container() -> str | None:
    """Return the container runtime that this process runs in, by its traces; None if none."""
    if "gVisor" in (procfs.read_or_none("/proc/version") or ""):
        return "gvisor"
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    cgroup = procfs.read_or_none("/proc/1/cgroup") or ""
    return (
        next((name for path, name in _MARKS if os.path.exists(path)), None)
        or procfs.read_or_none("/run/systemd/container")
        or os.environ.get("container")  # noqa: SIM112 - as systemd and podman spell it
        or next((name for word, name in _CGROUPS if word in cgroup), None)
        or ("wsl" if "microsoft" in platform.release().lower() else None)
    )


def runner() -> str | None:
    """Return the CI runner that this process runs in, by its variables; None if none."""
    off = ("", "false", "0")
    return next(
        (name for variable, name in _RUNNERS if os.environ.get(variable, "") not in off), None
    )


def nested() -> bool | None:
    """Return whether this process is in a nested user namespace; None if /proc does not say."""
    try:
        return procfs.id_map("uid_map") != [(0, 0, 4294967295)]
    except OSError:
        return None
