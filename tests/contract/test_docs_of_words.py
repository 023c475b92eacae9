"""The words of other tools that are taken, against pyspaces-from(7)."""

from __future__ import annotations

import re

from test_docs import ROOT

from pyspaces.commands.list import list_
from pyspaces.commands.words import aliases, answers

PAGE = ROOT / "man" / "pyspaces-from.7"


def test_every_word_that_is_taken_or_answered_is_listed_and_no_other() -> None:
    text = PAGE.read_text().replace("\\&", "")
    sections = re.split(r"^\.Sh FROM (\S+).*$", text, flags=re.MULTILINE)
    listed = {
        title: {
            f"-{word}"
            for line in re.findall(r"^\.It (Fl .*)$", body, re.MULTILINE)
            for word in re.findall(r"Fl (\S+)", line)
        }
        for title, body in zip(sections[1::2], sections[2::2], strict=True)
    }
    assert [*listed] == ["UNSHARE", "NSENTER", "LSNS", "BWRAP", "PODMAN", "FIREJAIL", "SYSTEMD-RUN"]
    of_enter = listed.pop("NSENTER")
    hidden = [option for option in list_.params if getattr(option, "hidden", False)]
    assert listed.pop("LSNS") == {word for option in hidden for word in option.opts}
    assert set().union(*listed.values()) == (
        # Of these two, `run` has values of its own.
        {*aliases.OF_RUN, *answers.ANSWERS} - {"--net", "--mount"}
    )
    # Those that podman has, too, are in its section, in the text.
    both = {"--interactive", "--tty", "--chdir", "--cwd"}
    both |= {word for word, (whose, _) in answers.ON_ENTER.items() if whose == answers.PODMAN}
    podman = text.partition("FROM PODMAN")[2]
    assert all(f"Fl {word[1:]}" in podman for word in both)
    assert of_enter == {*aliases.OF_ENTER, *answers.ON_ENTER} - both
    assert '"man/pyspaces-from.7" = "share/man/man7/' in (ROOT / "pyproject.toml").read_text()
