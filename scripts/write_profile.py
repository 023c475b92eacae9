#!/usr/bin/env python3
"""Write our own profile of system calls as the modules that a launch loads, from its JSON.

To read JSON takes 5 ms of a launch, to compile the profile another 11: the compiled filters are
written, too, for machines of the type of this one. With --check, only compare, the filters only if
libseccomp has the version that has compiled them.
"""

from __future__ import annotations

import json
import os
import pprint
import sys
import textwrap
from pathlib import Path

from pyspaces.features.confinement.compiling import compiled
from pyspaces.features.confinement.seccomp import DEFAULT, Seccomp
from pyspaces.kernel.libseccomp import Library

ROOM = Path(__file__).parents[1] / "pyspaces" / "features" / "confinement"
MODULE, READY = ROOM / "_default.py", ROOM / "_ready.py"
HEAD = '''\
"""Our own profile of system calls, default.json; scripts/write_profile.py writes it from there."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# fmt: off
'''


OF_READY = '''\
"""The filters of `--seccomp default`, compiled; scripts/write_profile.py writes it.

Pure. MACHINE: as uname(2) has it. VERSION: of the libseccomp that has compiled them.
"""

from __future__ import annotations

'''


def filters() -> str:
    """Return the text of the module with the compiled filters."""
    found = compiled(Seccomp(profile=DEFAULT), frozenset())
    assert not any(one.flags for one in found)
    rows = []
    for one in found:
        lines = textwrap.wrap(one.program.hex(), 88)
        rows.append("    (\n" + "".join(f'        "{line}"\n' for line in lines) + "    ),\n")
    head = f'MACHINE = "{os.uname().machine}"\nVERSION = "{Library().version()}"\n'
    return f"{OF_READY}{head}PROGRAMS = (\n{''.join(rows)})\n"


def main() -> None:
    """Write the modules, or check that they are up to date."""
    data = json.loads((ROOM / "default.json").read_text())
    shown = pprint.pformat(data, width=96, compact=True, sort_dicts=False).replace("'", '"')
    new = f"{HEAD}PROFILE: dict[str, Any] = {shown}\n"
    if "--check" in sys.argv[1:]:
        if new != MODULE.read_text():
            raise SystemExit(f"{MODULE}: is outdated: run scripts/write_profile.py")
        if f'VERSION = "{Library().version()}"' in READY.read_text() and (
            READY.read_text() != filters()
        ):
            raise SystemExit(f"{READY}: is outdated: run scripts/write_profile.py")
    else:
        MODULE.write_text(new)
        READY.write_text(filters())


if __name__ == "__main__":
    main()
