#!/usr/bin/env python3
"""Write our own profile of system calls as the modules that a launch loads, from its JSON.

To read JSON takes 5 ms of a launch, to compile the profile another 11: the compiled filters are
written, too, for machines of the types that `seccomp.READY` names; libseccomp makes those of every
machine of the same byte order as this one. With --check, only compare, the filters only if
libseccomp has the version that has compiled them.
"""

from __future__ import annotations

import json
import pprint
import sys
import textwrap
from pathlib import Path

from pyspaces.features.confinement.compiling import compiled
from pyspaces.features.confinement.seccomp import DEFAULT, READY, Seccomp
from pyspaces.kernel.libseccomp import Library

ROOM = Path(__file__).parents[1] / "pyspaces" / "features" / "confinement"
MODULE = ROOM / "_default.py"
HEAD = '''\
"""Our own profile of system calls, default.json; scripts/write_profile.py writes it from there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# fmt: off
'''


OF_READY = '''\
"""The filters of `--seccomp default` for {machine}, compiled; scripts/write_profile.py writes it.

Pure. VERSION: of the libseccomp that has compiled them.
"""

from __future__ import annotations

'''


def path_of(machine: str) -> Path:
    """Return the file of the module with the filters for a machine."""
    return ROOM / f"_ready_{machine}.py"


def filters(machine: str) -> str:
    """Return the text of the module with the filters for a machine."""
    found = compiled(Seccomp(profile=DEFAULT), frozenset(), machine=machine)
    assert not any(one.flags for one in found)
    rows = []
    for one in found:
        lines = textwrap.wrap(one.program.hex(), 88)
        text = "".join(f'        "{line}"\n' for line in lines)
        rows.append(f'    "{lines[0]}",\n' if len(lines) == 1 else f"    (\n{text}    ),\n")
    head = f'{OF_READY.format(machine=machine)}VERSION = "{Library().version()}"\n'
    return f"{head}PROGRAMS = (\n{''.join(rows)})\n"


def main() -> None:
    """Write the modules, or check that they are up to date."""
    data = json.loads((ROOM / "default.json").read_text())
    shown = pprint.pformat(data, width=96, compact=True, sort_dicts=False).replace("'", '"')
    new = f"{HEAD}PROFILE: dict[str, Any] = {shown}\n"
    if "--check" in sys.argv[1:]:
        if new != MODULE.read_text():
            raise SystemExit(f"{MODULE}: is outdated: run scripts/write_profile.py")
        for machine in READY:
            path = path_of(machine)
            text = path.read_text()
            if f'VERSION = "{Library().version()}"' in text and text != filters(machine):
                raise SystemExit(f"{path}: is outdated: run scripts/write_profile.py")
    else:
        MODULE.write_text(new)
        for machine in READY:
            path_of(machine).write_text(filters(machine))


if __name__ == "__main__":
    main()
