"""Profiles in a checkout, or a directory, of somebody who means no good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import SCRIPT, outcome

from pyspaces import UsageFault
from pyspaces.settings.profiles import files, places, reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from conftest import Run

GOOD = "[profile.x]\nuser = true\nhostname = 'theirs'\n"
NAMES = (".pyspaces.toml", "pyproject.toml")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory is a checkout, and the user has no profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    place = tmp_path / "checkout"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def refusal(text: str) -> str:
    with pytest.raises(UsageFault) as caught:
        places.find(text)
    return f"{caught.value.message} {caught.value.hint}"


def test_what_is_not_named_changes_nothing(checkout: Path, pyspaces: Run) -> None:
    # Not even if it cannot be read.
    for text in (GOOD, "nonsense", "[tool.pyspaces]\nuser = true\n[profile]\nuser = true"):
        for name in NAMES:
            (checkout / name).write_text(text)
        done = pyspaces("run", "--dry-run", "--json", "--", "true")
        assert (done.returncode, done.stderr) == (0, "")
        assert "theirs" not in done.stdout
        assert '"namespaces": []' in done.stdout


@pytest.mark.parametrize("name", ["untrusted", "build", "mine"])
def test_a_checkout_cannot_redefine_a_name(checkout: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "config/pyspaces").mkdir(parents=True)
    (tmp_path / "config/pyspaces/mine.toml").write_text("hostname = 'mine'")
    (checkout / NAMES[0]).write_text(f"[profile.{name}]\n")
    (checkout / NAMES[1]).write_text(f"[tool.pyspaces.profile.{name}]\n")
    other = "user" if name == "mine" else "pyspaces"
    assert f"say which: project:{name} or {other}:{name}" in refusal(name)
    assert places.find(f"{other}:{name}").place == other
    assert places.find(f"project:{name}").path == "./.pyspaces.toml"
    # Nor can it extend what is the user's own.
    (checkout / NAMES[0]).write_text(
        "[profile.y]\nextends = 'mine'\n[profile.z]\nextends = '/etc/x'"
    )
    for theirs, why in (("y", "no such profile"), ("z", "is not a name")):
        with pytest.raises(UsageFault, match=why):
            reading.read(theirs)


def test_a_link_a_fifo_and_a_directory_are_left_out(checkout: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    for name in NAMES:
        file = checkout / name
        for target, why in (
            (str(secret), "symbolic link"),
            ("/dev/zero", "symbolic link"),
            ("fifo", "not a regular file"),
            ("directory", "not a regular file"),
        ):
            if target == "fifo":
                os.mkfifo(file)
            elif target == "directory":
                file.mkdir()
            else:
                file.symlink_to(target)
            assert why in refusal("x")
            assert "s3cret" not in refusal("x")
            # What is left out stands in nobody's way.
            assert places.find("build").place == "pyspaces"
            if target == "directory":
                file.rmdir()
            else:
                file.unlink()


def test_what_others_can_change_is_left_out_unless_it_is_named(
    checkout: Path, tmp_path: Path
) -> None:
    file = checkout / NAMES[0]
    file.write_text(GOOD)
    file.chmod(0o646)
    assert "can be written by others" in refusal("x")
    assert f"name the file: ./{NAMES[0]}:x" in refusal("x")
    assert reading.read(f"./{NAMES[0]}:x").settings["hostname"] == "theirs"
    file.chmod(0o644)
    checkout.chmod(0o777)
    assert "in a directory that others can write" in refusal("x")
    checkout.chmod(0o1777)  # where only the owner can replace it
    assert places.find("x").place == "project"
    checkout.chmod(0o755)
    own = tmp_path / "config/pyspaces/own.toml"
    own.parent.mkdir(parents=True)
    own.write_text("user = true")
    own.chmod(0o666)
    assert "can be written by others" in refusal("own")


@pytest.mark.as_root
def test_root_does_not_use_what_is_in_the_checkout_of_another_user(checkout: Path) -> None:
    file = checkout / NAMES[0]
    file.write_text(GOOD)
    os.chown(file, 12345, 12345)
    assert "belongs to another user" in refusal("x")
    os.chown(file, 0, 12345)
    file.chmod(0o664)
    assert "can be written by others" in refusal("x")
    file.chmod(0o644)
    assert places.find("x").place == "project"
    os.chown(checkout, 12345, 12345)
    assert "directory of another user" in refusal("x")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"#" * (files.LARGEST + 1), "is larger than 256 KiB"),
        (b"a = " + b"[" * 50_000, "is nested too deeply"),
        (b".".join([b"a"] * 40_000) + b" = 1", "has a key of more than 100 parts"),
        (b" . ".join([b'"a b"'] * 4000) + b" = 1", "has a key of more than 100 parts"),
        (b"a" * 250_000, "is not TOML"),  # as quickly
        (b"[profile.x]\nnice = " + b"9" * 100_000, "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x = \x1b[31m", "is not TOML"),
        (b"profile = 3", "profile: has to be a table"),
        (b"[profile]\nx = 3", "has to be a table"),
        (b"[other]\n", "nothing but tables called profile.NAME"),
    ],
    ids=range(11),
)
def test_a_file_that_is_too_much_is_refused_in_time(
    checkout: Path, data: bytes, why: str, pyspaces: Run
) -> None:
    (checkout / NAMES[0]).write_bytes(data)
    assert why in refusal("x")
    if why == "is not TOML":
        done = pyspaces("run", "--profile", "x", "--", "true")
        assert (done.returncode, why in done.stderr, "\x1b" in done.stderr) == (2, True, False)
    assert places.find("pyspaces:build").place == "pyspaces"


def test_a_named_file_may_be_a_pipe_and_no_device(tmp_path: Path) -> None:
    line = 'exec "$0" run --profile <(echo "setenv = {A = \\"b\\"}") -- sh -c \'echo $A\''
    assert outcome(["bash", "-c", line, SCRIPT]).stdout == "b\n"
    assert "not a regular file" in refusal("/dev/zero")
    assert "not a regular file" in refusal(f"{tmp_path}/")
    assert "no such file" in refusal(f"{tmp_path}/none.toml")


def test_a_file_is_written_to_no_place_where_there_is_one(tmp_path: Path, pyspaces: Run) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    done = pyspaces("run", "--user", "--save-profile", str(link))
    assert (done.returncode, "File exists" in done.stderr) == (125, True)
    assert not target.exists()


def test_letters_that_a_terminal_obeys_are_not_printed(checkout: Path, pyspaces: Run) -> None:
    text = '[profile."\\u001b[31m"]\n[profile.x]\ndescription = "\\u001b[31m"\nhostname = "\\u001b"'
    (checkout / NAMES[0]).write_text(text)
    for words in (("list",), ("list", "--json"), ("show", "x"), ("show", "\x1b")):
        done = pyspaces("profile", *words)
        assert "\x1b" not in done.stdout + done.stderr
