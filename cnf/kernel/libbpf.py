"""The few calls of libbpf.so.1 that the daemon makes, by ctypes. BCC's own library depends on it, so it is there.

Every call returns what libbpf 1.x returns: 0 or a descriptor, or ``-errno``.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cnf.errors import MapError, UnavailableError

LIBRARY = "libbpf.so.1"
LICENSE = b"GPL"
INSTRUCTION_BYTES = 8
LOG_BYTES = 16 << 20
"""The verifier refuses a program whose log does not fit."""

InfoT = TypeVar("InfoT", bound=ctypes.Structure)


class BatchOpts(ctypes.Structure):
    """``struct bpf_map_batch_opts`` of libbpf's bpf.h."""

    _fields_ = (("sz", ctypes.c_size_t), ("elem_flags", ctypes.c_uint64), ("flags", ctypes.c_uint64))


class TestRunOpts(ctypes.Structure):
    """``struct bpf_test_run_opts`` of libbpf's bpf.h."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class MapCreateOpts(ctypes.Structure):
    """``struct bpf_map_create_opts`` of libbpf's bpf.h, as of libbpf 1.0."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("not_used", ctypes.c_uint32 * 5),  # from btf_fd to inner_map_fd
        ("map_flags", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
        ("numa_node", ctypes.c_uint32),
        ("map_ifindex", ctypes.c_uint32),
    )


class MapKind(NamedTuple):
    """All that makes a map what it is, but for its name and what it holds."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int


class ProgLoadOpts(ctypes.Structure):
    """``struct bpf_prog_load_opts`` of libbpf's bpf.h, as of libbpf 1.0."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("not_used", ctypes.c_uint32 * 8),  # from expected_attach_type to attach_btf_obj_fd
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_void_p),
    )


class ProgInfo(ctypes.Structure):
    """The first fields of ``struct bpf_prog_info`` (linux/bpf.h); the kernel fills as many bytes as are asked for."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_ubyte * 8),
        ("jited_prog_len", ctypes.c_uint32),
        ("xlated_prog_len", ctypes.c_uint32),
        ("jited_prog_insns", ctypes.c_uint64),
        ("xlated_prog_insns", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
    )


class MapInfo(ctypes.Structure):
    """The first fields of ``struct bpf_map_info`` (linux/bpf.h)."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    )


class LinkCreateOpts(ctypes.Structure):
    """The first fields of ``struct bpf_link_create_opts`` of libbpf's bpf.h."""

    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32))


class LinkUpdateOpts(ctypes.Structure):
    """``struct bpf_link_update_opts`` of libbpf's bpf.h, as of version 1.0."""

    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("old_prog_fd", ctypes.c_uint32))


class LinkInfo(ctypes.Structure):
    """The first fields of ``struct bpf_link_info`` (linux/bpf.h), of a TCX link."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
    )


_FD, _POINTER, _U32, _U64 = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
_SIGNATURES: dict[str, list[Any]] = {
    "bpf_map_lookup_elem": [_FD, _POINTER, _POINTER],
    "bpf_map_lookup_and_delete_elem": [_FD, _POINTER, _POINTER],
    "bpf_map_update_elem": [_FD, _POINTER, _POINTER, _U64],
    "bpf_map_delete_elem": [_FD, _POINTER],
    "bpf_map_get_next_key": [_FD, _POINTER, _POINTER],
    "bpf_map_update_batch": [_FD, _POINTER, _POINTER, ctypes.POINTER(_U32), ctypes.POINTER(BatchOpts)],
    "bpf_map_delete_batch": [_FD, _POINTER, ctypes.POINTER(_U32), ctypes.POINTER(BatchOpts)],
    "bpf_map_lookup_batch": [_FD, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, ctypes.POINTER(BatchOpts)],
    "bpf_map_create": [_U32, ctypes.c_char_p, _U32, _U32, _U32, ctypes.POINTER(MapCreateOpts)],
    "bpf_obj_get": [ctypes.c_char_p],
    "bpf_obj_get_info_by_fd": [_FD, _POINTER, ctypes.POINTER(_U32)],
    "bpf_obj_pin": [_FD, ctypes.c_char_p],
    "bpf_map_get_fd_by_id": [_U32],
    "bpf_prog_get_fd_by_id": [_U32],
    "bpf_prog_load": [_U32, ctypes.c_char_p, ctypes.c_char_p, _POINTER, ctypes.c_size_t, ctypes.POINTER(ProgLoadOpts)],
    "bpf_prog_query": [_FD, _U32, _U32, _POINTER, _POINTER, ctypes.POINTER(_U32)],
    "bpf_link_create": [_FD, _FD, _U32, ctypes.POINTER(LinkCreateOpts)],
    "bpf_link_update": [_FD, _FD, ctypes.POINTER(LinkUpdateOpts)],
    "bpf_link_detach": [_FD],
    "bpf_prog_test_run_opts": [_FD, ctypes.POINTER(TestRunOpts)],
    "libbpf_num_possible_cpus": [],
}


@functools.cache
def library() -> ctypes.CDLL:
    """Load libbpf once, with the signatures above.

    Raises:
        UnavailableError: the library, or one of the calls, is not there.

    """
    try:
        lib = ctypes.CDLL(LIBRARY, use_errno=True)
        for name, arguments in _SIGNATURES.items():
            function = getattr(lib, name)
            function.argtypes = arguments
            function.restype = ctypes.c_int
        lib.libbpf_set_print(None)  # what it returns is told by us, in one line
    except (OSError, AttributeError) as error:
        remedy = "install the distribution's libbpf, version 1.0 or newer"
        raise UnavailableError(f"{LIBRARY} cannot be used: {error}", remedy=remedy) from error
    return lib


@functools.cache
def possible_cpus() -> int:
    """Return the number of CPUs that a per-CPU map holds values for."""
    return int(library().libbpf_num_possible_cpus())


def info_of(fd: int, info: InfoT) -> InfoT:
    """Return ``info`` with what the kernel says of the object behind a descriptor. Raises OSError."""
    size = _U32(ctypes.sizeof(info))
    check(library().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)))
    return info


def program_id(fd: int) -> int:
    """Return the kernel's id of the program behind ``fd``, the number that ``ip link`` and bpftool show."""
    return int(info_of(fd, ProgInfo()).id)


def program_name(program_id: int) -> str:
    """Return the name of a program, cut to 15 bytes by the kernel.

    Raises:
        OSError: there is none of this id, or CAP_SYS_ADMIN is missing.

    """
    fd = open_program(program_id)
    try:
        return name_of(fd)
    finally:
        os.close(fd)


def open_program(program_id: int) -> int:
    """Return a new descriptor of the program of this id. Raises OSError, without CAP_SYS_ADMIN in any case."""
    return check(library().bpf_prog_get_fd_by_id(program_id))


def name_of(program: int) -> str:
    """Return the name of the program behind a descriptor, cut to 15 bytes by the kernel. Raises OSError."""
    return _text(info_of(program, ProgInfo()).name)


def map_names(program: int) -> list[str]:
    """Return the names of the maps that a program uses, each cut to 15 bytes.

    Raises:
        OSError: CAP_SYS_ADMIN is missing, for instance.

    """
    count = info_of(program, ProgInfo()).nr_map_ids
    numbers = (ctypes.c_uint32 * count)()
    info_of(program, ProgInfo(nr_map_ids=count, map_ids=ctypes.addressof(numbers)))
    names = []
    for number in numbers:
        fd = check(library().bpf_map_get_fd_by_id(number))
        try:
            names.append(_text(map_info(fd).name))
        finally:
            os.close(fd)
    return names


def map_info(fd: int) -> MapInfo:
    """Return what the map behind ``fd`` is. Raises MapError."""
    try:
        return info_of(fd, MapInfo())
    except OSError as error:
        raise MapError(f"asking for what a map is failed: {error.strerror}", errno=error.errno or 0) from error


def map_kind(fd: int) -> MapKind:
    """Return the kind of the map behind ``fd``. Raises MapError."""
    info = map_info(fd)
    return MapKind(info.type, info.key_size, info.value_size, info.max_entries, info.map_flags)


def make_map(name: str, kind: MapKind) -> int:
    """Make a map and return its descriptor. Raises OSError."""
    opts = MapCreateOpts(sz=ctypes.sizeof(MapCreateOpts), map_flags=kind.map_flags)
    sizes = (kind.key_size, kind.value_size, kind.max_entries)
    return check(library().bpf_map_create(kind.type, name.encode()[:15], *sizes, ctypes.byref(opts)))


class RejectedError(OSError):
    """The verifier has rejected a program; ``log`` is what it says."""

    log: str


def load_program(name: str, program_type: int, code: bytes) -> int:
    """Load a program, instructions of enum bpf_prog_type ``program_type``, and return its descriptor.

    Raises:
        RejectedError: the kernel refused.

    """
    instructions = ctypes.create_string_buffer(code, len(code))
    opts = ProgLoadOpts(sz=ctypes.sizeof(ProgLoadOpts))

    def load() -> int:
        count = len(code) // INSTRUCTION_BYTES
        return int(library().bpf_prog_load(program_type, name.encode(), LICENSE, instructions, count, opts))

    status = load()
    if status < 0:  # once more, for the log: to write it takes several times as long
        log = ctypes.create_string_buffer(LOG_BYTES)
        opts.log_level, opts.log_size, opts.log_buf = 1, LOG_BYTES, ctypes.addressof(log)
        status = load()
        if status < 0:
            error = RejectedError(-status, os.strerror(-status))
            error.log = log.value.decode(errors="backslashreplace")
            raise error
    return status


def put_program(array: int, place: int, program: int) -> None:
    """Put a program into an array of such, for tail calls."""
    key, value = ctypes.c_uint32(place), ctypes.c_uint32(program)
    check(library().bpf_map_update_elem(array, ctypes.byref(key), ctypes.byref(value), 0))


def link_info(fd: int) -> LinkInfo:
    """Return what the link behind ``fd`` is. Raises OSError."""
    return info_of(fd, LinkInfo())


def pin(fd: int, path: Path) -> None:
    """Give the object behind ``fd`` a name in bpffs."""
    check(library().bpf_obj_pin(fd, os.fsencode(path)))


def open_pin(path: Path) -> int:
    """Return a new descriptor of what is pinned at ``path``."""
    return check(library().bpf_obj_get(os.fsencode(path)))


def run(fd: int, frame: bytes, repeat: int) -> tuple[int, bytes, int]:
    """Run an XDP program on ``frame`` (14 bytes or more); return verdict, frame afterwards, nanoseconds a run.

    Raises:
        OSError: the kernel refused.

    """
    size = max(len(frame), 64)
    data_in = ctypes.create_string_buffer(frame, len(frame))
    data_out = ctypes.create_string_buffer(size)
    opts = TestRunOpts(
        sz=ctypes.sizeof(TestRunOpts),
        data_in=ctypes.addressof(data_in),
        data_out=ctypes.addressof(data_out),
        data_size_in=len(frame),
        data_size_out=size,
        repeat=repeat,
    )
    check(library().bpf_prog_test_run_opts(fd, ctypes.byref(opts)))
    return int(opts.retval), data_out.raw[: opts.data_size_out], int(opts.duration)


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


def check(status: int) -> int:
    """Return a status that is no error; raise OSError for one that is."""
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    return status
