"""examples/ci: what can be checked of it without the services that it is for."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import DENY, SCRIPT, outcome

from pyspaces import cli
from pyspaces.hints import creation

ROOT = Path(__file__).parents[2]
CI = ROOT / "examples" / "ci"
WHY = CI / "why.py"
# The programs that the steps may name, besides those of a venv.
PROGRAMS = {"pip", "pyspaces", "python3", "sudo", ".venv/bin/pip", ".venv/bin/pyspaces"}


def loaded(name: str) -> Any:
    # YAML 1.1 takes the key `on` for a bool.
    return yaml.safe_load((CI / name).read_text().replace("\non:\n", '\n"on":\n'))


def steps() -> dict[str, str]:
    """Return the shell steps of both services, by a name."""
    found = {}
    for job, rows in loaded("github.yml")["jobs"].items():
        for number, step in enumerate(rows["steps"]):
            if "run" in step:
                found[f"github {job} {number}"] = step["run"]
    job = loaded("gitlab-ci.yml")["tests"]
    for number, line in enumerate([*job["before_script"], *job["script"]]):
        found[f"gitlab {number}"] = line
    return found


STEPS = steps()


def test_the_workflow_has_what_github_wants() -> None:
    flow = loaded("github.yml")
    assert {"name", "on", "permissions", "jobs"} == set(flow)
    assert set(flow["on"]) == {"push", "pull_request"}
    for job in flow["jobs"].values():
        assert set(job) <= {"runs-on", "container", "steps"}
        assert job["runs-on"].startswith("ubuntu-")
        assert set(job.get("container", {})) <= {"image", "options"}
        for step in job["steps"]:
            assert set(step) <= {"name", "uses", "with", "run"}
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_the_job_has_what_gitlab_wants() -> None:
    (name,) = loaded("gitlab-ci.yml")
    job = loaded("gitlab-ci.yml")[name]
    wanted = {"image", "variables", "cache", "before_script", "script", "artifacts"}
    assert set(job) == wanted
    assert all(isinstance(line, str) for line in [*job["before_script"], *job["script"]])


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_a_script_of_commands_that_exist(name: str) -> None:
    text = STEPS[name]
    done = outcome(["bash", "-n"], input=text)
    assert (done.returncode, done.stderr) == (0, "")
    joined = re.sub(r"\s*\|\|\s*\n?\s*", "\n", text)
    for line in filter(None, map(str.strip, joined.splitlines())):
        words = line.split()
        assert words[0] in PROGRAMS, line
        if words[0].endswith("pyspaces"):
            assert words[1] in cli.COMMANDS
        for word in words:
            if word.startswith(("examples/", "tests/")):
                assert (ROOT / word).exists(), line


def test_launches_of_the_examples_are_valid() -> None:
    """Each `pyspaces run` of every file, as a dry run."""
    lines = [line for text in STEPS.values() for line in text.splitlines()]
    lines += (CI / "tox.ini").read_text().splitlines()
    runs = [line.partition("pyspaces run")[2].partition(" -- ")[0] for line in lines]
    found = {words for words in runs if words}
    assert len(found) >= 2
    for words in found:
        done = outcome([SCRIPT, "run", "--dry-run", *words.split(), "--", "true"])
        assert (done.returncode, done.stderr) == (0, ""), words


def test_tox_and_nox_read_their_files() -> None:
    rows = configparser.ConfigParser(interpolation=None)
    rows.read(CI / "tox.ini")
    assert "pyspaces run" in rows["testenv"]["commands"]
    for words in (
        [sys.executable, "-m", "tox", "-c", str(CI / "tox.ini"), "list", "--no-desc"],
        [sys.executable, "-m", "nox", "-f", str(CI / "noxfile.py"), "--list"],
    ):
        done = outcome(words, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert re.search(r"py3|tests", done.stdout), done.stdout


def test_the_containerfile_copies_and_installs_what_is_there() -> None:
    text = (CI / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0].startswith("FROM ")
    words = {"FROM", "RUN", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {line.split()[0] for line in lines} == words
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "RUN":
            done = outcome(["bash", "-n"], input=rest)
            assert (done.returncode, done.stderr) == (0, "")
        if word in ("ENTRYPOINT", "CMD"):
            assert json.loads(rest)


def told(words: list[str], *, service: str = "") -> list[str]:
    """Return what why.py prints of a launch that is refused."""
    variables = {"GITHUB_ACTIONS": "true"} if service == "github" else {}
    around = {"PATH": "/usr/bin:/bin", **variables}
    check = outcome([*words, SCRIPT, "check", "--json", "--user", "--pid"], env=around)
    assert check.returncode == 1, check.stdout
    done = outcome([sys.executable, str(WHY)], input=check.stdout, env=around)
    assert done.returncode == 1
    return done.stdout.splitlines()


@pytest.mark.needs("userns")
def test_what_docker_forbids_is_told_with_the_line_for_the_service() -> None:
    # As Docker's filter does it: without clone3, and without the flags for clone.
    filtered = [sys.executable, DENY, number_of("clone3"), "1"]
    plain = told(filtered)
    assert plain[0].startswith("launch: cannot create the namespaces: ")
    assert plain[1].startswith("to mend it: docker run --security-opt seccomp=unconfined")
    assert told(filtered, service="github")[1] == (
        "::error::to mend it: in the job: container: {options: --security-opt seccomp=unconfined"
        " --security-opt apparmor=unconfined}"
    )


def number_of(call: str) -> str:
    return {"clone3": "435"}[call]  # on every architecture


def test_the_line_for_apparmor_is_that_of_the_hint() -> None:
    found = importlib.util.spec_from_file_location("why", WHY)
    assert found is not None
    assert found.loader is not None
    why = importlib.util.module_from_spec(found)
    found.loader.exec_module(why)
    assert why.APPARMOR == creation.APPARMOR
    line = why.line_for(f"{creation.APPARMOR} is 1, and ...", "GitHub Actions")
    assert line == f"add a step before: sudo sysctl -w {creation.APPARMOR}=0"
    assert why.line_for("something else", "GitLab CI") == ""


@pytest.mark.needs("userns", "pidns")
def test_nothing_is_told_where_the_launch_works() -> None:
    check = outcome([SCRIPT, "check", "--json", "--user", "--pid"])
    done = outcome([sys.executable, str(WHY)], input=check.stdout)
    assert (done.returncode, done.stdout) == (0, "")
