"""What to write where this host is configured, if it is a container or belongs to a CI service.

Pure. A remedy of a row is for whoever starts containers; these are for who has a file to edit.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspaces.host.check.trial import Row

_FILTER, _PROC = "unfiltered", "proc-visible"
_UNCONFINED = "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
# For each place, by the row that says what is wrong there: the line, and where it belongs.
_OF_SERVICE: dict[str, dict[str, str]] = {
    "GitHub Actions": {
        _FILTER: f"in the workflow, under container: options: {_UNCONFINED}",
        _PROC: "in the workflow, under container: options: --privileged",
        "apparmor-allows": "in the workflow, a step before this one:"
        " - run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        "tun": "in the workflow, under container: options: --device /dev/net/tun",
    },
    "GitLab CI": {
        _FILTER: "in the runner's config.toml, under [runners.docker]: privileged = true",
        _PROC: "in the runner's config.toml, under [runners.docker]: privileged = true",
        "tun": 'in the runner\'s config.toml, under [runners.docker]: devices = ["/dev/net/tun"]',
    },
    "CircleCI": {
        _FILTER: "in .circleci/config.yml, instead of docker: machine: {image: default}",
        _PROC: "in .circleci/config.yml, instead of docker: machine: {image: default}",
    },
}
_OF_CONTAINER: dict[str, dict[str, str]] = {
    "docker": {
        _FILTER: f"docker run {_UNCONFINED}",
        _PROC: "docker run --security-opt systempaths=unconfined",
        "tun": "docker run --device /dev/net/tun",
    },
    "podman": {
        _FILTER: "podman run --security-opt seccomp=unconfined",
        _PROC: "podman run --security-opt unmask=ALL",
        "tun": "podman run --device /dev/net/tun",
    },
    "kubernetes": {
        _FILTER: "in the pod: securityContext: {seccompProfile: {type: Unconfined}}",
        _PROC: "in the pod: securityContext: {privileged: true}",
    },
}


def here(row: Row, facts: Mapping[str, object]) -> str | None:
    """Return what to write where this host is configured, so that `row` works; None if unknown.

    facts: `container` and `runner`, as `where.facts` has them.
    """
    # A device that is there, and closed by its mode, does not come from how the container is run.
    if row.name == "tun" and os.strerror(errno.EACCES) in row.evidence:
        return None
    service, container = str(facts["runner"]), str(facts["container"])
    if found := _OF_SERVICE.get(service, {}).get(row.name):
        return found
    # A service whose file is not known: its container is started by nobody who reads this.
    return _OF_CONTAINER.get(container, {}).get(row.name)
