"""Blueprints: which of the program's parts to build, for a configuration and this process's capabilities.

Light to import: the compiling child is started before numpy, pyroute2 and the rest of the daemon are loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cnf.config import MAX_INTERFACES, Settings
from cnf.kernel import capabilities
from cnf.kernel.hooks import HOOKS, RECEIVING, TC_EGRESS, TC_INGRESS, XDP, Hook
from cnf.limits.table import denied_room, room
from cnf.process.light_imports import sha256

Table = Literal["cache", "lru_hash"]
"""The kind of map that flows and sources are kept in."""

SOURCE: Final = Path(__file__).parent.parent / "bpf" / "flow.c"
CLOCK: Final = "cnf_clock"
"""The program that tells what jiffies are now, when it is test-run."""
SECRETS: Final = "cache_secrets"
CACHE_MAPS: Final = (SECRETS, "cache_crowded", "flow_settings")
LIMITER_PREFIX: Final = "limit_"
LIMITER_MAPS: Final = (
    "limit_generation",
    "limit_settings",
    "limit_groups",
    "limit_policies",
    "limit_rules",
    "limit_shared",
    "limit_counters",
    "limit_denied",
    "limit_denied_counters",
)
CAPTURE_MAPS: Final = (
    "capture_until",
    "capture_settings",
    "capture_spent",
    "capture_counters",
    "capture_draft",
    "capture_ring",
)


class Copier(NamedTuple):
    """A program that copies frames for who captures, and where a hook's program finds it."""

    entry: str
    array: str
    place: int


CAPTURES: Final = {
    XDP: Copier("cnf_capture_xdp", "capture_xdp", 0),
    TC_INGRESS: Copier("cnf_capture_in", "capture_skb", 0),
    TC_EGRESS: Copier("cnf_capture_out", "capture_skb", 1),
}
"""By hook."""
LAYOUT_SOURCES: Final = ("abi.h", "cache.h", "cache_find.h", "cache_tables.h", "counters.h", "direct.h")
"""Headers that say how the maps' structs are laid out, and where in a map a key or an interface is found."""
RING_BYTES: Final = 256 << 10
"""Size of the ring of events: it holds 2,047."""
EVICTED_RING_BYTES: Final = 16 << 20
"""Size of the ring where evicted flows are events, too: it holds 131,071."""
TABLES: Final = {
    f"{name}{family}"
    for name in ("flows", "flow_drops", "flow_recorded", "flow_until", "limit_sources", "limit_over")
    for family in "46"
}
"""The arrays of the caches, with an element a set, or a slot."""
RECORDED: Final = ("recorded", "until")
"""The nouns of the arrays in which user space notes what has been recorded of a slot's flow."""
WAYS: Final = 8
TRAFFIC_CLASSES: Final = 11
LIMIT_GROUPS: Final = 32
MAX_SETS: Final = 64
"""CNF_WAYS, CNF_TRAFFIC_CLASSES, CNF_LIMIT_GROUPS and CNF_MAX_SETS of abi.h, where cnf.abi would load numpy."""
DIRECT_ENTRIES: Final = 1 << 21
"""Entries of a table up to which the program addresses its memory: each of IPv6 takes 208 bytes, and the verifier adds
no more than 2^29 to an address (BPF_MAX_VAR_OFF of linux/bpf_verifier.h)."""
PLACES_AN_INTERFACE: Final = 16
"""Entries an interface of the array that finds interfaces: of 1,000 with random numbers, 30 share an entry."""


@dataclass(frozen=True, slots=True)
class LimiterSize:
    """Capacities of the limiter's tables."""

    sources: int
    """Of a family."""
    rules: int
    """A power of two."""
    prefixes: int
    """Of a family, of one rule set."""

    @property
    def denied(self) -> int:
        """Return the number of entries of limits.deny, of two rule sets."""
        return denied_room(self.prefixes)


class Variant(NamedTuple):
    """A program to compile from the source; all variants have the same maps."""

    limiter: int
    """CNF_LIMITER of bpf/flow.c."""
    functions: Mapping[str, int]
    """Its entry points, with their types, enum bpf_prog_type of linux/bpf.h."""
    captures: int = 1
    """CNF_CAPTURES."""

    @property
    def defines(self) -> dict[str, int]:
        """Return the preprocessor's definitions that tell it from other variants."""
        entry_points = {"CNF_XDP": XDP, "CNF_SKB_INGRESS": TC_INGRESS, "CNF_SKB_EGRESS": TC_EGRESS}
        there = {name: int(hook.entry in self.functions) for name, hook in entry_points.items()}
        return {"CNF_LIMITER": self.limiter, "CNF_CAPTURES": self.captures} | there


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The source to build, and what of it is compiled in."""

    max_entries: int
    table: Table = "cache"
    ipv6: bool = True
    vlan: bool = True
    limiter: LimiterSize | None = None
    plain: bool = False
    """With a limiter: whether what receives is there without it, too, for as long as nothing is limited."""
    flow_records: bool = False
    """Whether what of each flow is recorded stands beside a cache."""
    finished_events: bool = False
    """Whether flows that make room are events."""
    max_interfaces: int = MAX_INTERFACES
    hooks: tuple[Hook, ...] = (XDP,)
    """Those that the program is for. Only their entry points are built; of a hook for what is sent, counters, too."""
    source: Path = SOURCE
    others: Mapping[str, int] = field(default_factory=lambda: {CLOCK: XDP.program_type})
    """Programs besides the hooks' own, with their types."""

    @property
    def programs(self) -> dict[str, int]:
        """Return the names of the programs that are loaded, with their types, enum bpf_prog_type of linux/bpf.h."""
        return {hook.entry: hook.program_type for hook in self.hooks} | self._captures | dict(self.others)

    @property
    def variants(self) -> list[Variant]:
        """Return what to compile: one program, or the plain one and the limiting one, which has all maps."""
        if not (self.plain and self.limiter):
            return [Variant(int(self.limiter is not None), self.programs)]
        limiting = {hook.entry: hook.program_type for hook in RECEIVING if hook in self.hooks}
        plain = {name: kind for name, kind in self.programs.items() if name not in self._captures}
        return [Variant(0, plain, captures=0), Variant(1, limiting | self._captures)]

    @property
    def _captures(self) -> dict[str, int]:
        return {CAPTURES[hook].entry: hook.program_type for hook in self.hooks}

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps that the program will have."""
        families = ("4", "6") if self.ipv6 else ("4",)
        names = [f"flows{family}" for family in families]
        if self.table == "cache":
            names += [f"flow_drops{family}" for family in families if self.limiter]
            names += [f"flow_{noun}{family}" for noun in RECORDED * self.flow_records for family in families]
            names += CACHE_MAPS
        if self.limiter:
            nouns = ["prefixes", "sets", "sources"] + ["over"] * (self.table == "cache")
            names += [f"limit_{noun}{family}" for noun in nouns for family in ("4", "6")]
            names += LIMITER_MAPS
        if self.ring_bytes:
            names += ["events", "events_lost", "event_draft"]
        names += ["interface_sent"] * self._egress
        names += [*CAPTURE_MAPS, *dict.fromkeys(CAPTURES[hook].array for hook in self.hooks)]
        return (*names, "table_counters", "interfaces", "interfaces_direct", "interface_counters", "handover")

    @property
    def limiter_maps(self) -> tuple[str, ...]:
        """Return the names of the limiter's own maps: they can be made anew while the others stay."""
        return tuple(name for name in self.maps if name.startswith(LIMITER_PREFIX))

    @property
    def ring_bytes(self) -> int:
        """Return the size of the ring of events; 0 where there are no events."""
        if self.finished_events:
            return EVICTED_RING_BYTES
        return RING_BYTES if self.limiter else 0

    @property
    def defines(self) -> dict[str, int]:
        """Return the preprocessor's definitions that the maps depend on."""
        defines = {"CNF_CACHE": int(self.table == "cache"), "CNF_MAX_ENTRIES": self.max_entries}
        defines |= {"CNF_MAX_INTERFACES": self.max_interfaces}
        defines |= {f"CNF_COUNT_{name}": count for name, count in self.counts.items()}
        defines |= {f"CNF_DIRECT_{name}": int(name in self.direct) for name in self.counts}
        defines |= {"CNF_IPV6": int(self.ipv6), "CNF_VLAN": int(self.vlan), "CNF_EGRESS": int(self._egress)}
        defines |= {"CNF_FLOW_RECORDS": int(self.flow_records), "CNF_FINISHED_EVENTS": int(self.finished_events)}
        defines |= {"CNF_RING_BYTES": self.ring_bytes, "CNF_FLOW_DROPS": int("flow_drops4" in self.maps)}
        if self.limiter is None:
            return defines | {"CNF_LIMITER": 0}
        return defines | {
            "CNF_LIMITER": 1,
            "CNF_MAX_SOURCES": self.limiter.sources,
            "CNF_MAX_RULES": self.limiter.rules,
            "CNF_MAX_POLICIES": self.limiter.rules,
            "CNF_MAX_PREFIXES": self.limiter.prefixes,
            "CNF_MAX_DENIED": self.limiter.denied,
        }

    @property
    def _egress(self) -> bool:
        return TC_EGRESS in self.hooks

    @property
    def direct(self) -> dict[str, int]:
        """Return the number of elements of each array that the program addresses.

        An LRU hash may be loaded without CAP_PERFMON; then the verifier follows offsets that vary on too many paths.
        """
        if self.table != "cache":
            return {}
        entries = max(self.max_entries, self.limiter.sources if self.limiter else 0)
        small = entries <= DIRECT_ENTRIES
        return {name: count for name, count in self.counts.items() if small or name not in TABLES}

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of elements of each DIRECT_ARRAY() of direct.h.

        A cache has twice as many slots as entries, so that few homes are full when the table is, and hardly any second
        set.
        """
        rules = self.limiter.rules if self.limiter else 0
        counts = {"cache_secrets": 1, "cache_crowded": 4, "flow_settings": 1, "capture_until": 1}
        if self.table == "cache":
            flow_sets, source_sets = _sets(self.max_entries), _sets(self.limiter.sources if self.limiter else 0)
            for family in ("4", "6"):
                counts |= {f"flows{family}": flow_sets, f"flow_drops{family}": flow_sets * WAYS}
                counts |= {f"flow_{noun}{family}": flow_sets * WAYS for noun in RECORDED}
                counts |= {f"limit_sources{family}": source_sets, f"limit_over{family}": source_sets * WAYS}
        counts["interfaces_direct"] = 1 << (PLACES_AN_INTERFACE * self.max_interfaces - 1).bit_length()
        counts |= {"limit_generation": 3, "limit_settings": 2, "limit_rules": rules, "limit_shared": rules}
        counts["limit_denied"] = self.limiter.denied + 2 * MAX_SETS if self.limiter else 0
        counts["limit_groups"] = 2 * (self.max_interfaces + 1) * TRAFFIC_CLASSES
        counts["limit_policies"] = 2 * rules * LIMIT_GROUPS
        there = self.maps
        return {name: count for name, count in counts.items() if name in there}

    @property
    def map_numbers(self) -> dict[str, int]:
        """Return the definitions by which MAP_VALUE() of direct.h names a map."""
        return {f"CNF_MAP_{name}": number for number, name in enumerate(self.maps)}

    @property
    def layout(self) -> str:
        """Return a name for the maps' layout: a hash of the definitions, and of the code of LAYOUT_SOURCES."""
        sources = [_code(self.source.with_name(name).read_text(encoding="utf-8")) for name in LAYOUT_SOURCES]
        return sha256(json.dumps([self.defines, *sources], sort_keys=True).encode())[:16]


def _sets(entries: int) -> int:
    return -(-2 * entries // WAYS)


def _code(source: str) -> str:
    """Return a source without comments, and with single spaces."""
    return " ".join(re.sub(r"/\*.*?\*/", " ", source, flags=re.DOTALL).split())


def plan(settings: Settings) -> Blueprint:
    """Return what to build for these settings."""
    flows, limits = settings.flows, settings.limits
    table = table_to_be_had(flows.table)
    return Blueprint(
        flows.max_entries,
        table,
        ipv6=flows.ipv6,
        vlan=flows.vlan,
        limiter=LimiterSize(limits.max_sources, *room(limits)),
        plain=True,
        flow_records=settings.records,
        finished_events=(flows.evicted_records or settings.export.is_on) and table == "cache",
        max_interfaces=settings.max_interfaces,
        hooks=HOOKS,  # whatever the interfaces ask for now: a reload may ask for another, and loads nothing
    )


def table_to_be_had(wanted: Table) -> Table:
    """Return the kind of table to build: without CAP_PERFMON the verifier follows a cache on too many paths."""
    return "lru_hash" if capabilities.missing(capabilities.SPEED) else wanted
