#!/usr/bin/env python3
"""Write tests/slow.txt: the test functions that a plain `pytest` leaves out, to be quick.

usage: scripts/write_slow.py FILE [FILE...], where each FILE is a report that was written by
pytest -m 'not stress' -o junit_family=xunit1 --junitxml=FILE. Of several, as of root's and of an
ordinary user's run, the longer time of each test counts.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

TOP = Path(__file__).parent.parent
SLOW = TOP / "tests" / "slow.txt"
# The seconds that what is left may take, on the machine of the reports. To collect the tests, and
# what pytest does between them, comes to half as much.
BUDGET = 55.0


def seconds_of(reports: list[str]) -> dict[str, float]:
    """Return the time of each test function, all of its cases together."""
    cases: dict[tuple[str, str], float] = defaultdict(float)
    for report in reports:
        for case in ET.parse(report).iter("testcase"):  # noqa: S314
            name, _, values = case.attrib["name"].partition("[")
            key = (f"{_path_of(case.attrib['classname'])}::{name}", values)
            cases[key] = max(cases[key], float(case.attrib["time"]))
    functions: dict[str, float] = defaultdict(float)
    for (function, _), seconds in cases.items():
        functions[function] += seconds
    return functions


def _path_of(name: str) -> str:
    """Return the beginning of a node ID for a dotted name: of a module, or of a class in one."""
    module, classes = name.split("."), list[str]()
    while not (TOP / "/".join(module)).with_suffix(".py").is_file():
        classes.insert(0, module.pop())
    return "::".join(["/".join(module) + ".py", *classes])


def slowest(functions: dict[str, float]) -> list[str]:
    """Return the functions without which the others fit into the budget."""
    left, names = sum(functions.values()), []
    for name in sorted(functions, key=lambda name: -functions[name]):
        if left <= BUDGET:
            break
        names.append(name)
        left -= functions[name]
    return sorted(names)


def main() -> None:
    """Write the file."""
    SLOW.write_text("".join(f"{name}\n" for name in slowest(seconds_of(sys.argv[1:]))))


if __name__ == "__main__":
    main()
