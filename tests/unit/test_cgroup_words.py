"""The words of the limits of a cgroup, and what is written for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyspaces import settings
from pyspaces.errors import UsageFault
from pyspaces.features.cgroup import systemd
from pyspaces.features.cgroup.values import Resources, cpus_of
from pyspaces.sizes import size_of, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("0", 0), ("7", 7), ("7b", 7), ("1k", 1024), ("512M", 512 << 20), ("512m", 512 << 20)),
        *(("512MB", 512 << 20), ("512MiB", 512 << 20), ("2G", 2 << 30), ("1T", 1 << 40)),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize(
    "text", ["", "M", "B", "iB", "1.5G", "-1", "1KK", "1X", "1 G", "٣", "0x10"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 512M or 2G"):
        size_of(text)


@given(st.integers(0, (1 << 63) - 1))
def test_a_size_is_read_as_it_is_written(size: int) -> None:
    assert size_of(size_text(size)) == size


def test_the_largest_unit_is_used() -> None:
    assert [size_text(n) for n in (0, 1000, 1024, 512 << 20, 1 << 50)] == [
        *("0", "1000", "1K", "512M", "1024T"),
    ]


@pytest.mark.parametrize(
    ("text", "cpus"), [("1", 1.0), ("1.5", 1.5), (".25", 0.25), ("0.01", 0.01)]
)
def test_cpus(text: str, cpus: float) -> None:
    assert cpus_of(text) == cpus


@pytest.mark.parametrize("text", ["", ".", "1.", "-1", "nan", "1e3", "1,5", "1.000001", "123456"])
def test_what_is_no_number_of_cpus(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number of CPUs such as 1\.5"):
        cpus_of(text)


def written(**values: float) -> dict[str, str]:
    return {one.file: one.text for one in Resources.from_data(values).settings()}


def test_what_is_written() -> None:
    assert written(memory=4096) == {
        "memory.max": "4096",
        "memory.oom.group": "1",
        "memory.swap.max": "0",
    }
    assert written(memory=4096, swap=1)["memory.swap.max"] == "1"
    assert written(swap=-1) == {"memory.swap.max": "max"}
    assert written(pids=3) == {"pids.max": "3"}
    assert written(cpus=0.01) == {"cpu.max": "1000 100000"}
    assert written(cpus=1.5) == {"cpu.max": "150000 100000"}
    for weight, of_bfq in ((1, 1), (7, 7), (100, 100), (111, 101), (10000, 1000)):
        both = {"io.bfq.weight": str(of_bfq), "io.weight": f"default {weight}"}
        assert written(io_weight=weight) == both
    assert written() == {}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"memory": "0"}, "memory: 0: is not between 1 and 9223372036854775807"),
        ({"memory": "9" * 19 + "T"}, "is more than 9223372036854775807 bytes"),
        ({"memory": "x"}, "memory: 'x' is not a size such as 512M or 2G"),
        ({"swap": "-2"}, "swap: '-2' is not a size such as 512M or 2G"),
        ({"pids": "0"}, "pids: 0: is not between 1 and 4194304"),
        ({"pids": "many"}, "pids: 'many' is not a whole number"),
        ({"cpus": "0"}, "cpus: 0.0: is not between 0.01 and 8192"),
        ({"io_weight": "10001"}, "io-weight: 10001: is not between 1 and 10000"),
        (
            {"memory": "1G", "no_fork": True},
            "no-fork: cannot be combined with --memory: no launcher",
        ),
        (
            {"pids": 1, "hold": True, "name": "x", "user": True},
            "hold: cannot be combined with --pids",
        ),
    ],
)
def test_what_is_refused(values: dict[str, object], fault: str) -> None:
    command = {} if "hold" in values else {"command": ["true"]}
    with pytest.raises(UsageFault) as caught:
        settings.plan_from({**command, **values})
    assert any(fault in line for line in caught.value.faults), caught.value.faults


def test_a_plan_of_it_survives_as_data() -> None:
    given = {"memory": "512M", "swap": "unlimited", "pids": 64, "cpus": 1.5, "io_weight": 10}
    plan = settings.plan_from({**given, "command": ["true"]})
    assert type(plan).from_data(plan.to_data()) == plan
    assert str(plan.resources) == "memory 512M, swap unlimited, pids 64, cpus 1.5, io-weight 10"


def test_the_name_of_a_unit_is_a_part_of_an_object_path_as_systemd_has_it() -> None:
    """A digit is replaced where the name begins, and nowhere else."""
    assert systemd._escaped("1a-1.scope") == "_31a_2d1_2escope"
