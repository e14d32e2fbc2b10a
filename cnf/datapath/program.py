"""Programs as BCC has built them, but with numbers in place of the maps' descriptors: so they can be kept in a file."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from cnf.kernel.libbpf import MapKind

_INSTRUCTION: Final = struct.Struct("<BBhi")
"""struct bpf_insn of linux/bpf.h: code, registers (source << 4 | destination), offset, immediate."""
_WIDE_LOAD: Final = 0x18
"""BPF_LD | BPF_DW | BPF_IMM, the one instruction that takes two places."""
_MAP: Final = 1
"""Source register BPF_PSEUDO_MAP_FD: the immediate is a map's descriptor, as BCC puts it."""
_MAP_VALUE: Final = 2
"""BPF_PSEUDO_MAP_VALUE: the immediate is a map's number, as DIRECT_AT() of direct.h puts it."""
_MAP_NUMBER: Final = 5
"""BPF_PSEUDO_MAP_IDX: the same for a lookup, ELEMENT() of direct.h; the kernel is to see a descriptor."""


class Function(NamedTuple):
    """A function of flow.c that the kernel runs."""

    type: int
    """enum bpf_prog_type of linux/bpf.h."""
    instructions: bytes
    maps: Sequence[tuple[int, int]]
    """Where in these, in bytes, an instruction is about a map, and the map's number."""

    def linked(self, descriptors: Sequence[int]) -> bytes:
        """Return the instructions with the maps' descriptors in place of their numbers."""
        linked = bytearray(self.instructions)
        for place, number in self.maps:
            opcode, registers, offset, _number = _INSTRUCTION.unpack_from(linked, place)
            _INSTRUCTION.pack_into(linked, place, opcode, registers, offset, descriptors[number])
        return bytes(linked)


@dataclass(frozen=True, slots=True)
class Program:
    """All that BCC is needed for."""

    bcc_version: str
    built_by: Mapping[str, Sequence[int]]
    """The files that BCC consists of, by path, each with what tells it from another one: see ``bcc_files.py``."""
    maps: Mapping[str, MapKind]
    """The maps by name, in the order of their numbers."""
    functions: Mapping[str, Function]
    limiting: Mapping[str, Function] = field(default_factory=dict)
    """The same functions with limits, where they are there both ways."""

    @classmethod
    def of_json(cls, text: str) -> Program:
        """Read what ``to_json()`` has written. Raises ValueError for anything else."""
        try:
            document = json.loads(text)
            return cls(
                str(document["bcc_version"]),
                {str(path): tuple(map(int, marks)) for path, marks in document["built_by"].items()},
                {str(name): MapKind(*map(int, kind)) for name, kind in document["maps"].items()},
                _functions(document["functions"]),
                _functions(document["limiting"]),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a program: {error!r}") from error

    def to_json(self) -> str:
        """Return it as text."""
        document = {"bcc_version": self.bcc_version, "built_by": self.built_by, "maps": self.maps}
        return json.dumps(document | {"functions": _rows(self.functions), "limiting": _rows(self.limiting)})


def _rows(functions: Mapping[str, Function]) -> dict[str, tuple[int, str, Sequence[tuple[int, int]]]]:
    return {
        name: (function.type, base64.b64encode(function.instructions).decode(), function.maps)
        for name, function in functions.items()
    }


def _functions(rows: Mapping[str, tuple[Any, Any, Any]]) -> dict[str, Function]:
    return {
        str(name): Function(int(kind), base64.b64decode(code), [(int(at), int(of)) for at, of in maps])
        for name, (kind, code, maps) in rows.items()
    }


def function(program_type: int, instructions: bytes, numbers: Mapping[int, int]) -> Function:
    """Return a function as BCC has compiled it; ``numbers`` are the maps' by descriptor."""
    code, maps = bytearray(instructions), []
    place = 0
    while place < len(code):
        opcode, registers, offset, immediate = _INSTRUCTION.unpack_from(code, place)
        if opcode == _WIDE_LOAD and registers >> 4 == _MAP:
            maps.append((place, numbers[immediate]))
        elif opcode == _WIDE_LOAD and registers >> 4 in {_MAP_VALUE, _MAP_NUMBER}:
            maps.append((place, immediate))
            if registers >> 4 == _MAP_NUMBER:
                _INSTRUCTION.pack_into(code, place, opcode, _MAP << 4 | registers & 0xF, offset, immediate)
        place += 2 * _INSTRUCTION.size if opcode == _WIDE_LOAD else _INSTRUCTION.size
    return Function(program_type, bytes(code), maps)
