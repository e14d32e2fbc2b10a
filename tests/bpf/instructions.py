"""Count the instructions that a packet executes, by interpreting the program as the verifier left it.

Such a count has no noise. The program is read back from the kernel with its map lookups inlined, and run on a copy of
the maps' elements, so that nothing is changed. Helpers are not counted but as calls: of those, it knows the lookup in a
trie, the clock and the output of an event.
"""

from __future__ import annotations

import ctypes
import operator
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from cnf.kernel import libbpf

_U64: Final = (1 << 64) - 1
_LIMIT: Final = 100_000
"""Instructions after which a program is taken for one that does not end."""

# linux/bpf.h and linux/bpf_common.h: classes, sources, modes and sizes of an instruction
_LD, _LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(8)
_FROM_REGISTER: Final = 0x08
_SIZES: Final = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_MEMSX, _ATOMIC = 0x80, 0xC0
_MODE: Final = 0xE0
_LOAD_64, _EXIT, _CALL, _GOTO, _GOTO_FAR = 0x18, 0x95, 0x85, 0x05, 0x06
_FETCH, _EXCHANGE, _COMPARE = 0x01, 0xE1, 0xF1
_MAP_FD, _MAP_VALUE = 1, 2
# enum bpf_map_type
_ARRAY, _PERCPU_ARRAY, _TRIE, _RINGBUF = 2, 6, 11, 27

# Where things are for the interpreter: a map at its number << _MAP_SHIFT, its values _VALUES behind that. Maps are
# numbered as the program comes to them: the kernel's ids grow without end.
_FRAME, _STACK, _CONTEXT, _QUEUE, _DEVICE, _FOUND = (number << 24 for number in range(1, 7))
_MAP_SHIFT: Final = 44
_VALUES: Final = 1 << 32
_POINTERS: Final = 1 << 42
"""Of a per-CPU array: its table of pointers stands this far before its values."""
_KERNEL: Final = 1 << 63
"""Kernel addresses in the program, from here on, are that of jiffies."""
_STACK_BYTES: Final = 1024
_DEVICE_BYTES: Final = 8192


class Counted(NamedTuple):
    """What a packet has cost, and its verdict."""

    executed: int
    calls: int
    verdict: int


class _Instruction(NamedTuple):
    code: int
    target: int
    source: int
    offset: int
    immediate: int


def count(program: int, frame: bytes, ifindex: int, jiffies: int) -> Counted:
    """Interpret the program behind a descriptor on a frame that comes in on ``ifindex`` at the tick ``jiffies``.

    Raises:
        NotImplementedError: the program does something that no program of cnf's does on the kernels it was tried on.

    """
    machine = _Machine(_translated(program), frame, ifindex, jiffies)
    try:
        return machine.run()
    finally:
        machine.close()


def _translated(program: int) -> list[_Instruction]:
    """Read a program as the verifier left it."""
    size = 0
    for _ in range(2):  # first its length
        buffer = ctypes.create_string_buffer(size)
        info = libbpf.ProgInfo(xlated_prog_len=size, xlated_prog_insns=ctypes.addressof(buffer))
        size = libbpf.info_of(program, info).xlated_prog_len
    raw = [buffer.raw[at : at + 8] for at in range(0, size, 8)]
    return [
        _Instruction(
            word[0],
            word[1] & 15,
            word[1] >> 4,
            int.from_bytes(word[2:4], "little", signed=True),
            int.from_bytes(word[4:8], "little", signed=True),
        )
        for word in raw
    ]


def _signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >> (bits - 1) & 1 else number


def _calculate(operation: int, one: int, other: int, bits: int) -> int:
    """Return what an arithmetic instruction works out, before it is cut to its width."""
    if operation in (0x60, 0x70, 0xC0):
        other &= bits - 1
    if operation == 0xC0:
        one = _signed(one, bits)
    if operation in (0x30, 0x90) and not other:
        return one if operation == 0x90 else 0
    return _OPERATIONS[operation](one, other)


_OPERATIONS: Final[dict[int, Callable[[int, int], int]]] = {
    0x00: operator.add,
    0x10: operator.sub,
    0x20: operator.mul,
    0x30: operator.floordiv,
    0x40: operator.or_,
    0x50: operator.and_,
    0x60: operator.lshift,
    0x70: operator.rshift,
    0x80: lambda one, _other: -one,
    0x90: operator.mod,
    0xA0: operator.xor,
    0xB0: lambda _one, other: other,
    0xC0: operator.rshift,
}
_BYTE_ORDER: Final = 0xD0

_COMPARISONS: Final[dict[int, Callable[[int, int], int]]] = {
    0x10: operator.eq,
    0x20: operator.gt,
    0x30: operator.ge,
    0x40: operator.and_,
    0x50: operator.ne,
    0x60: operator.gt,
    0x70: operator.ge,
    0xA0: operator.lt,
    0xB0: operator.le,
    0xC0: operator.lt,
    0xD0: operator.le,
}
_SIGNED: Final = {0x60, 0x70, 0xC0, 0xD0}


class _Machine:
    """A processor for one run of a program."""

    def __init__(self, program: list[_Instruction], frame: bytes, ifindex: int, jiffies: int) -> None:
        self._program, self._jiffies = program, jiffies
        context = bytearray(64)  # struct xdp_buff of net/xdp.h: data, data_end, data_meta, data_hard_start, rxq
        for at, address in enumerate((_FRAME, _FRAME + len(frame), _FRAME, _FRAME, _QUEUE)):
            context[8 * at : 8 * at + 8] = address.to_bytes(8, "little")
        self._memory = {
            _FRAME: bytearray(frame),
            _STACK: bytearray(_STACK_BYTES),
            _CONTEXT: context,
            _QUEUE: bytearray(_DEVICE.to_bytes(8, "little")),  # struct xdp_rxq_info: dev
            _DEVICE: bytearray(ifindex.to_bytes(4, "little") * (_DEVICE_BYTES // 4)),  # wherever it has its ifindex
        }
        self._numbers: dict[int, int] = {}
        """Numbers of maps, by the kernel's ids."""
        self._maps: dict[int, tuple[int, libbpf.MapInfo]] = {}
        self._elements: dict[tuple[int, int], bytearray] = {}
        self._registers = [0] * 12
        self._calls = 0

    def run(self) -> Counted:
        """Run the program to its end."""
        registers, at, executed = self._registers, 0, 0
        registers[1], registers[10] = _CONTEXT, _STACK + _STACK_BYTES
        while (word := self._program[at]).code != _EXIT:
            executed += 1
            if executed > _LIMIT:
                raise NotImplementedError(f"still running after {_LIMIT} instructions")
            at = self._step(at, word)
        return Counted(executed + 1, self._calls, registers[0])

    def close(self) -> None:
        """Close the maps."""
        for descriptor, _info in self._maps.values():
            os.close(descriptor)

    def _step(self, at: int, word: _Instruction) -> int:
        """Do one instruction; return the index of the next."""
        kind = word.code & 7
        if word.code == _LOAD_64:
            self._load_64(word, self._program[at + 1].immediate)
            return at + 2
        if kind in (_JMP, _JMP32):
            return at + 1 + self._jump(word, 64 if kind == _JMP else 32)
        if kind in (_ALU, _ALU64):
            self._arithmetic(word, 64 if kind == _ALU64 else 32)
        elif kind == _LDX:
            self._load(word)
        elif kind == _STX and word.code & _MODE == _ATOMIC:
            self._atomic(word)
        elif kind in (_ST, _STX):
            value = self._registers[word.source] if kind == _STX else word.immediate
            self._write(self._registers[word.target] + word.offset, _SIZES[word.code & 0x18], value)
        else:
            raise NotImplementedError(f"instruction {word}")
        return at + 1

    def _jump(self, word: _Instruction, bits: int) -> int:
        """Call a helper, or return how many instructions are left out."""
        if word.code == _CALL:
            self._call(word)
            return 0
        if word.code == _GOTO_FAR:
            return word.immediate
        operation = word.code & 0xF0
        one, other = self._operands(word, bits)
        if operation in _SIGNED:
            one, other = _signed(one, bits), _signed(other, bits)
        return word.offset if word.code == _GOTO or _COMPARISONS[operation](one, other) else 0

    def _operands(self, word: _Instruction, bits: int) -> tuple[int, int]:
        mask = (1 << bits) - 1
        other = self._registers[word.source] if word.code & _FROM_REGISTER else word.immediate
        return self._registers[word.target] & mask, other & mask

    def _load_64(self, word: _Instruction, upper: int) -> None:
        lower, upper = word.immediate & 0xFFFFFFFF, upper & 0xFFFFFFFF
        if word.source == _MAP_FD:  # by now its id
            value = self._number(lower) << _MAP_SHIFT
        elif word.source == _MAP_VALUE:
            value = (self._number(lower) << _MAP_SHIFT) + _VALUES + upper
        else:
            value = lower | upper << 32
        self._registers[word.target] = value

    def _arithmetic(self, word: _Instruction, bits: int) -> None:
        one, other = self._operands(word, bits)
        if word.code & 0xF0 == _BYTE_ORDER:
            octets = (one & ((1 << word.immediate) - 1)).to_bytes(word.immediate // 8, "little")
            swapped = word.code & _FROM_REGISTER or word.code & 7 == _ALU64
            result = int.from_bytes(octets, "big" if swapped else "little")
        elif word.code & 0xF0 == 0xB0 and word.offset in (8, 16, 32):  # a move that extends the sign
            result = _signed(other & ((1 << word.offset) - 1), word.offset)
        elif word.code & 0xF8 == 0 and one and not one & (1 << _MAP_SHIFT) - 1:
            result = one + _VALUES  # offsetof(struct bpf_array, value), in the kernel
        else:
            result = _calculate(word.code & 0xF0, one, other, bits)
        self._registers[word.target] = result & ((1 << bits) - 1)

    def _load(self, word: _Instruction) -> None:
        size = _SIZES[word.code & 0x18]
        value = self._read(self._registers[word.source] + word.offset, size)
        if word.code & _MODE == _MEMSX:
            value = _signed(value, 8 * size)
        self._registers[word.target] = value & _U64

    def _atomic(self, word: _Instruction) -> None:
        size = _SIZES[word.code & 0x18]
        address, operand = self._registers[word.target] + word.offset, self._registers[word.source]
        before = self._read(address, size)
        if word.immediate == _COMPARE:
            if before == self._registers[0]:
                self._write(address, size, operand)
            self._registers[0] = before
            return
        exchange = word.immediate == _EXCHANGE
        after = operand if exchange else _calculate(word.immediate & 0xF0, before, operand, 64)
        self._write(address, size, after)
        if word.immediate & _FETCH:
            self._registers[word.source] = before

    def _call(self, word: _Instruction) -> None:
        self._calls += 1
        map_number = self._registers[1] >> _MAP_SHIFT
        if not map_number:
            self._registers[0] = time.monotonic_ns()
            return
        descriptor, info = self._map(map_number)
        if info.type == _RINGBUF:
            self._registers[0] = 0
            return
        if info.type != _TRIE:
            raise NotImplementedError(f"helper {word.immediate} with a map of type {info.type}")
        memory, at = self._at(self._registers[2])
        key, value = bytes(memory[at : at + info.key_size]), ctypes.create_string_buffer(info.value_size)
        self._registers[0] = 0
        if libbpf.library().bpf_map_lookup_elem(descriptor, key, value) == 0:
            self._memory[_FOUND] = bytearray(value.raw)
            self._registers[0] = _FOUND

    def _read(self, address: int, size: int) -> int:
        if address & _KERNEL:
            return self._jiffies
        map_number, offset = address >> _MAP_SHIFT, (address & (1 << _MAP_SHIFT) - 1) - _VALUES
        if map_number and self._map(map_number)[1].type == _PERCPU_ARRAY and offset < _POINTERS:
            return address + _POINTERS - offset + offset // 8 * _stride(self._map(map_number)[1])
        memory, at = self._at(address)
        return int.from_bytes(memory[at : at + size], "little")

    def _write(self, address: int, size: int, value: int) -> None:
        memory, at = self._at(address)
        memory[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")

    def _at(self, address: int) -> tuple[bytearray, int]:
        """Return the memory that has an address, and where."""
        map_number, offset = address >> _MAP_SHIFT, (address & (1 << _MAP_SHIFT) - 1) - _VALUES
        if not map_number:
            base = address & ~((1 << 24) - 1)
            return self._memory[base], address - base
        stride = _stride(self._map(map_number)[1])
        number, at = divmod(offset % _POINTERS, stride)
        return self._element(map_number, number), at

    def _element(self, map_number: int, number: int) -> bytearray:
        """Return a copy of an array's element; of a per-CPU array, that of the first CPU."""
        if (map_number, number) not in self._elements:
            descriptor, info = self._map(map_number)
            copies = libbpf.possible_cpus() if info.type == _PERCPU_ARRAY else 1
            value = ctypes.create_string_buffer(_stride(info) * copies)
            libbpf.check(libbpf.library().bpf_map_lookup_elem(descriptor, number.to_bytes(4, "little"), value))
            self._elements[map_number, number] = bytearray(value.raw[: _stride(info)])
        return self._elements[map_number, number]

    def _number(self, map_id: int) -> int:
        if map_id not in self._numbers:
            self._numbers[map_id] = len(self._numbers) + 1
            descriptor = libbpf.check(libbpf.library().bpf_map_get_fd_by_id(ctypes.c_uint32(map_id)))
            self._maps[self._numbers[map_id]] = descriptor, libbpf.map_info(descriptor)
        return self._numbers[map_id]

    def _map(self, map_number: int) -> tuple[int, libbpf.MapInfo]:
        return self._maps[map_number]


def _stride(info: libbpf.MapInfo) -> int:
    """Return how far an array's elements are apart."""
    return -(-int(info.value_size) // 8) * 8
