"""What is kept of a program is all that the kernel needs, and a map is found by its number."""

from __future__ import annotations

import struct
from typing import Final

import pytest

from cnf.datapath.program import Program, function
from cnf.kernel.libbpf import MapKind

INSTRUCTION: Final = struct.Struct("<BBhi")
CODE: Final = b"".join(
    INSTRUCTION.pack(*fields)
    for fields in (
        (0x18, 0x11, 0, 23),  # r1 = map 23
        (0, 0, 0, 0),
        (0x18, 0x22, 0, 1),  # r2 = the value of map number 1, and 8 bytes more
        (0, 0, 0, 8),
        (0x18, 0x03, 0, 23),  # r3 = the number 23
        (0x18, 0x11, 0, 99),  # of which this is the upper half
        (0xB7, 0x10, 0, 23),  # r0 = 23
        (0x95, 0, 0, 0),
    )
)


def test_maps_are_linked_where_they_are_meant_and_nowhere_else() -> None:
    """A number that is the same as a descriptor's stays what it is."""
    compiled = function(6, CODE, {23: 0, 24: 1})

    linked = compiled.linked([70, 71])

    immediates = [INSTRUCTION.unpack_from(linked, place)[3] for place in range(0, len(linked), INSTRUCTION.size)]
    assert immediates == [70, 0, 71, 8, 23, 99, 23, 0]
    assert compiled.linked([23, 1]) == CODE


def test_a_map_that_is_looked_up_by_its_number_is_one_to_the_kernel() -> None:
    """BPF_PSEUDO_MAP_IDX is for the compiler only: what is loaded has a descriptor, in the same register."""
    by_number = INSTRUCTION.pack(0x18, 0x53, 0, 1) + bytes(8)

    assert function(6, by_number, {23: 0}).linked([70, 71]) == INSTRUCTION.pack(0x18, 0x13, 0, 71) + bytes(8)


def test_a_program_is_the_same_after_it_was_kept() -> None:
    """Everything that is needed is written, and read."""
    program = Program(
        "0.26.0",
        {"/usr/lib/libbcc.so": (1, 2, 3)},
        {"flows4": MapKind(2, 4, 576, 16, 1024), "events": MapKind(27, 0, 0, 4096, 0)},
        {"cnf_ingress": function(6, CODE, {23: 0})},
    )

    assert Program.of_json(program.to_json()) == program


@pytest.mark.parametrize(
    "text", ["", "7", "[]", "{}", '{"bcc_version": "", "built_by": 3, "maps": {}, "functions": {}}', "{"]
)
def test_anything_else_is_refused(text: str) -> None:
    """A ValueError, whatever is wrong."""
    with pytest.raises(ValueError, match=r"."):
        Program.of_json(text)
