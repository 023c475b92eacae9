#!/usr/bin/env python3
"""Write our own profile of system calls as the module that a launch loads, from its JSON.

To read JSON takes 5 ms of a launch. With --check, only compare.
"""

from __future__ import annotations

import json
import pprint
import sys
from pathlib import Path

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


def main() -> None:
    """Write the module, or check that it is up to date."""
    data = json.loads((ROOM / "default.json").read_text())
    shown = pprint.pformat(data, width=96, compact=True, sort_dicts=False).replace("'", '"')
    new = f"{HEAD}PROFILE: dict[str, Any] = {shown}\n"
    if "--check" in sys.argv[1:]:
        if new != MODULE.read_text():
            raise SystemExit(f"{MODULE}: is outdated: run scripts/write_profile.py")
    else:
        MODULE.write_text(new)


if __name__ == "__main__":
    main()
