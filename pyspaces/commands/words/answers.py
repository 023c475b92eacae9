"""Options of other tools that mean nothing here, or something else: what to write instead.

Data. For each option, whose it is, and the hint of the error; `ON_ENTER` has those that differ for
`enter`. An option that is in here must not be one of ours.
"""

from __future__ import annotations

BWRAP, UNSHARE, NSENTER = "bubblewrap", "unshare", "nsenter"
PODMAN, FIREJAIL = "podman", "firejail"
SYSTEMD, CHROOT = "systemd-run", "chroot"

_SELINUX = "labels of SELinux are not set here; runcon(1) sets one"
_BINFMT = "mount -t binfmt_misc inside does it"
_ENGINE = "leave it out: there is no engine that keeps containers"

ANSWERS: dict[str, tuple[str, str]] = {
    "--unshare-user-try": (BWRAP, "write --user, which fails if it cannot be had"),
    "--unshare-cgroup-try": (BWRAP, "write --cgroup, which fails if it cannot be had"),
    "--userns": (
        f"{BWRAP}'s and {PODMAN}",
        "write --join user=/proc/self/fd/FD for a descriptor, --map-current for keep-id, and"
        " nothing for host",
    ),
    "--userns2": (BWRAP, "write --no-nested-users to prevent user namespaces inside"),
    "--pidns": (BWRAP, "write --join pid=/proc/self/fd/FD"),
    "--exec-label": (BWRAP, _SELINUX),
    "--file-label": (BWRAP, _SELINUX),
    "--level-prefix": (BWRAP, "leave it out"),
    "--not-a-security-boundary": (BWRAP, "leave it out: what cannot be set up is an error"),
    "--whitelist-env": (UNSHARE, "write --keep-env VAR,VAR..."),
    "--owner": (UNSHARE, "leave it out: the owner is the caller"),
    "--mount-binfmt": (UNSHARE, _BINFMT),
    "--load-interp": (UNSHARE, _BINFMT),
    "--detach": (PODMAN, "put & behind the line, and --name NAME for `pyspaces stop`"),
    "-d": (PODMAN, "put & behind the line, and --name NAME for `pyspaces stop`"),
    "--privileged": (
        PODMAN,
        "leave it out: root inside has all capabilities unless --cap-drop is given",
    ),
    "--env-file": (PODMAN, "write --setenv VAR VALUE for each line of the file"),
    "--entrypoint": (PODMAN, "write the command behind the options"),
    "--shm-size": (PODMAN, "write --size SIZE --tmpfs /dev/shm"),
    "--sysctl": (PODMAN, "write to /proc/sys inside"),
    "--group-add": (PODMAN, "write --groups GROUP,GROUP..."),
    "--memory-swap": (PODMAN, "write --swap SIZE, which is what comes on top of --memory"),
    "--cpu-shares": (PODMAN, "write --cpus N"),
    "--cpu-quota": (PODMAN, "write --cpus N"),
    "--rootfs": (PODMAN, "write --root DIR"),
    "--publish-all": (PODMAN, "write --publish OUTSIDE:INSIDE for each port"),
    "--restart": (PODMAN, _ENGINE),
    "--label": (PODMAN, _ENGINE),
    "--pull": (PODMAN, _ENGINE),
    "--platform": (PODMAN, _ENGINE),
    "--replace": (PODMAN, _ENGINE),
    "--expose": (PODMAN, "leave it out: every port is open on the network of the command"),
    "--stop-timeout": (PODMAN, "give `pyspaces stop` a time"),
    "--gpus": (PODMAN, "write --dev-bind PATH PATH for each of their device files"),
    "--link": (PODMAN, "start both on a network: --net=NETWORK"),
    "--log-driver": (PODMAN, "leave it out: the command writes where the caller would"),
    "--cgroupns": (PODMAN, "write --cgroup for a namespace of its own, and nothing for host"),
    "--userspec": (CHROOT, "write --setuid USER --setgid GROUP"),
    "--property": (SYSTEMD, "write the option: --memory, --cpus, --pids, --timeout"),
    "--unit": (SYSTEMD, "write --name NAME"),
    "--wait": (SYSTEMD, "leave it out: pyspaces waits for the command in any case"),
    "--collect": (SYSTEMD, "leave it out: nothing of a command stays behind"),
    "--working-directory": (SYSTEMD, "write --workdir DIR"),
    "--same-dir": (SYSTEMD, "leave it out: the command begins in the directory of the caller"),
    "--slice": (SYSTEMD, "leave it out; --memory and the like find a place themselves"),
    "--private": (FIREJAIL, 'write --tmpfs "$HOME"'),
    "--private-home": (FIREJAIL, 'write --tmpfs "$HOME", then --bind for each file of it'),
    "--private-bin": (FIREJAIL, "write --allow-exec PATH"),
    "--private-etc": (FIREJAIL, "write --mask PATH for each file of /etc"),
    "--noprofile": (FIREJAIL, "leave it out: there are no profiles by the name of a program"),
    "--rmenv": (FIREJAIL, "write --unsetenv VAR"),
    "--overlay-tmpfs": (FIREJAIL, "write --throwaway"),
    "--noroot": (FIREJAIL, "write --user --map-current"),
    "--shell": (FIREJAIL, "write the shell as the command"),
    "--whitelist": (FIREJAIL, "write --host-ro, then --bind PATH PATH"),
    "--noblacklist": (FIREJAIL, "leave it out: nothing is hidden unless --mask is given"),
    "--quiet": (FIREJAIL, "leave it out: nothing is printed without a reason"),
    "--nogroups": (FIREJAIL, "write --groups none"),
    "--seccomp.drop": (FIREJAIL, "write --seccomp-deny CALL,CALL"),
    "--seccomp.keep": (FIREJAIL, "write --seccomp-allow CALL,CALL"),
    "--rlimit-as": (FIREJAIL, "write --rlimit as=SIZE"),
    "--rlimit-cpu": (FIREJAIL, "write --rlimit cpu=SECONDS"),
    "--rlimit-fsize": (FIREJAIL, "write --rlimit fsize=SIZE"),
    "--rlimit-nofile": (FIREJAIL, "write --rlimit nofile=NUMBER"),
    "--rlimit-nproc": (FIREJAIL, "write --rlimit nproc=NUMBER"),
    "--disable-mnt": (FIREJAIL, "write --mask /mnt --mask /media"),
    "--netfilter": (FIREJAIL, "write --allow-host NAME for each host that may be reached"),
    "--trace": (FIREJAIL, "write --seccomp-learn FILE, which lists what the command calls"),
    "--join-or-start": (FIREJAIL, "write `pyspaces enter NAME`, or --name NAME"),
    "--nosound": (FIREJAIL, "write --mask for the sockets in $XDG_RUNTIME_DIR"),
    "--x11": (FIREJAIL, "an X server of its own has to be started before"),
    "--appimage": (FIREJAIL, "run the file as the command"),
}
ON_ENTER: dict[str, tuple[str, str]] = {
    "--wd": (NSENTER, "write --workdir DIR, a path inside, or --root for the target's own"),
    "--follow-context": (NSENTER, _SELINUX),
    "-Z": (NSENTER, _SELINUX),
    "--user-parent": (NSENTER, "leave it out: an owner is entered where that is necessary"),
    "--net-socket": (NSENTER, "write --net-file FILE, or give a process"),
    "-N": (NSENTER, "write --net-file FILE, or give a process"),
    "-e": (
        f"{NSENTER}'s and {PODMAN}",
        "write --env-of-target for nsenter's, --setenv VAR VALUE for podman's",
    ),
    "--env": (
        f"{NSENTER}'s and {PODMAN}",
        "write --env-of-target for nsenter's, --setenv VAR VALUE for podman's",
    ),
    "--detach": (PODMAN, "put & behind the line"),
    "-d": (PODMAN, "put & behind the line"),
    "--privileged": (PODMAN, "leave it out: root inside has all capabilities"),
    "--env-file": (PODMAN, "write --setenv VAR VALUE for each line of the file"),
    "--detach-keys": (PODMAN, "leave it out: a command is not detached"),
}
NOT_INTERACTIVE = "standard input is passed on in any case; for a terminal, write -t"
