"""Say what keeps this machine from creating namespaces, and the line that changes it.

    pyspaces check --json --user --pid --net --mount | python3 why.py

Reads what `pyspaces check --json` prints; exits with 0 if the launch would work here, else with 1.
On GitHub, the lines are shown as errors of the job. Needs nothing but Python.
"""

import json
import os
import sys

APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"
FILTER = "seccomp filter"
# For words of a remedy and the service: the line that mends it there. "" stands for any service.
LINES = {
    (APPARMOR, "GitHub Actions"): f"add a step before: sudo sysctl -w {APPARMOR}=0",
    (APPARMOR, ""): f"as root of the runner: sysctl -w {APPARMOR}=0",
    (FILTER, "GitHub Actions"): (
        "in the job: container: {options: --security-opt seccomp=unconfined"
        " --security-opt apparmor=unconfined}"
    ),
    (FILTER, "GitLab CI"): (
        "in config.toml of the runner: [runners.docker] security_opt ="
        ' ["seccomp=unconfined", "apparmor=unconfined"]'
    ),
    (FILTER, ""): "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
}


def line_for(remedy: str, service: str) -> str:
    """Return the line that mends it on this service, or an empty string."""
    for name in (service, ""):
        for (words, where), line in LINES.items():
            if words in remedy and where == name:
                return line
    return ""


def main() -> int:
    """Read, print, and return the exit status."""
    found = json.load(sys.stdin)
    if found["launch"]:
        return 0
    service = found["host"]["runner"] or ""
    before = "::error::" if os.environ.get("GITHUB_ACTIONS") == "true" else ""
    for row in found["rows"]:
        if row["answer"] == "no":
            remedy = row["remedy"] or ""
            print(f"{before}{row['name']}: {row['evidence']}")
            if text := line_for(remedy, service) or remedy:
                print(f"{before}to mend it: {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
