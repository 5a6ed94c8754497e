"""Machines by the name of their type, or by what they have."""

import pytest

from clipmill.core.errors import UserError
from clipmill.core.gpus import TERAFLOPS
from clipmill.estimate.machine import MACHINES, Machine, parse_machine


def test_a_type_by_its_name() -> None:
    assert parse_machine("g5.12xlarge") == Machine("g5.12xlarge", 24, 4, "A10G")
    assert parse_machine("g5.12xlarge").times(3) == Machine("3 × g5.12xlarge", 72, 12, "A10G")
    assert all(machine.gpu in TERAFLOPS for machine in MACHINES.values() if machine.gpus)


def test_cores_and_gpus_in_numbers() -> None:
    assert parse_machine("8") == Machine("8 cores", 8, 0)
    assert parse_machine("32, 4, l4") == Machine("32 cores, 4 L4", 32, 4, "L4")
    assert parse_machine("32,4") == Machine("32 cores, 4 GPU", 32, 4)


@pytest.mark.parametrize("text", ["", "many", "0", "-2", "8,-1", "8,1,GTX", "8,1,L4,2", "nan", "inf"])
def test_anything_else_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(UserError, match=r"g6\.xlarge.*32,4,L4"):
        parse_machine(text)
