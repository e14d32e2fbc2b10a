"""BPF_PROG_TEST_RUN of a program of TC, on an skb whose fields a test sets as the kernel would."""

from __future__ import annotations

import ctypes
from typing import Final

from cnf.kernel import libbpf

TC_ACT_UNSPEC: Final = -1
TC_ACT_SHOT: Final = 2
ETHERNET: Final = 14
_U32, _U64 = ctypes.c_uint32, ctypes.c_uint64


class Skb(ctypes.Structure):
    """``struct __sk_buff`` of linux/bpf.h, as far as BPF_PROG_TEST_RUN takes it over."""

    _fields_ = (
        ("len", _U32),
        ("pkt_type", _U32),
        ("mark", _U32),
        ("queue_mapping", _U32),
        ("protocol", _U32),
        ("vlan", _U32 * 3),
        ("priority", _U32),
        ("ingress_ifindex", _U32),
        ("ifindex", _U32),
        ("tc_index", _U32),
        ("cb", _U32 * 5),
        ("hash", _U32),
        ("tc_classid", _U32),
        ("data", _U32 * 2),
        ("napi_id", _U32),
        ("socket", _U32 * 13),
        ("data_meta", _U32),
        ("flow_keys", _U64),
        ("tstamp", _U64),
        ("wire_len", _U32),
        ("gso_segs", _U32),
        ("sk", _U64),
        ("gso_size", _U32),
    )


def run_skb(program: int, frame: bytes, repeat: int = 1, **fields: int) -> int:
    """Run a program of TC on ``frame``, with these fields of the skb; return its verdict.

    Raises:
        OSError: the kernel refused.

    """
    skb = Skb(**fields)
    data = ctypes.create_string_buffer(frame, len(frame))
    opts = libbpf.TestRunOpts(
        sz=ctypes.sizeof(libbpf.TestRunOpts),
        data_in=ctypes.addressof(data),
        data_size_in=len(frame),
        ctx_in=ctypes.addressof(skb),
        ctx_size_in=ctypes.sizeof(skb),
        repeat=repeat,
    )
    libbpf.check(libbpf.library().bpf_prog_test_run_opts(program, ctypes.byref(opts)))
    return ctypes.c_int32(opts.retval).value


def has_skb(frame: bytes) -> bool:
    """Return whether BPF_PROG_TEST_RUN makes an skb of a frame: of IP only with a whole header."""
    return len(frame) >= ETHERNET + {b"\x08\x00": 20, b"\x86\xdd": 40}.get(frame[12:14], 1)
