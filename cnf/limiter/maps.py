"""The limiter's maps: write a rule set into the bank that is not in use, switch to it, and read what it has counted."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from cnf.abi import (
    COUNTER,
    FAMILIES,
    LIMIT4_KEY,
    LIMIT4_PREFIX,
    LIMIT6_KEY,
    LIMIT6_PREFIX,
    LIMIT_DENIED,
    LIMIT_GROUPS,
    LIMIT_MATCH,
    LIMIT_POLICY,
    LIMIT_RULE,
    LIMIT_SETTINGS,
    LIMIT_SOURCE,
    MAX_SETS,
    TRAFFIC,
    VERDICTS,
    Family,
)
from cnf.arrays import Records
from cnf.counts import Count
from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.maps import CounterArray, DirectArray, write_batch
from cnf.limits.groups import OVERFLOW
from cnf.limits.layout import BANK_BITS, Bank
from cnf.limits.table import Network

GRACE: Final = 0.1
"""Seconds after which no CPU runs a packet that has seen the bank before: a packet takes microseconds."""

NO_RULE_SET: Final = 0
"""Stands in the kernel for the generation when every packet passes, so that none is looked up."""

PREFIX_KEYS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": LIMIT4_PREFIX, "ipv6": LIMIT6_PREFIX}
SOURCE_KEYS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": LIMIT4_KEY, "ipv6": LIMIT6_KEY}

_GENERATION: Final = np.dtype("<u8")
_GROUP: Final = np.dtype("<u8")


def is_limiting(maps: Mapping[str, int]) -> bool:
    """Tell whether the rule set in force, in a datapath's maps, limits or counts anything."""
    return bool(DirectArray("limit_generation", maps["limit_generation"], _GENERATION).read(0) != NO_RULE_SET)


class LimiterMaps:
    """Install rule sets in a datapath that has a limiter; at first there is none, and every packet passes."""

    def __init__(self, maps: Mapping[str, int], rules: int) -> None:
        """Take a datapath's maps, descriptors by name, with places for ``rules`` rules, and with what they hold."""
        self._prefixes = {
            family: _Prefixes(name, maps[name], PREFIX_KEYS[family])
            for family in FAMILIES
            for name in (f"limit_prefixes{family[-1]}",)
        }
        self._maps = maps
        self._policy_room = rules * LIMIT_GROUPS
        self._generation = DirectArray("limit_generation", maps["limit_generation"], _GENERATION)
        self.generation = int(self._generation.read(0) or self._generation.read(1))
        self._settings = DirectArray("limit_settings", maps["limit_settings"], LIMIT_SETTINGS)
        self._groups = DirectArray("limit_groups", maps["limit_groups"], _GROUP)
        self._slots = len(self._groups) // (2 * len(TRAFFIC))
        self._policies = DirectArray("limit_policies", maps["limit_policies"], LIMIT_POLICY)
        self._rules = DirectArray("limit_rules", maps["limit_rules"], LIMIT_RULE)
        self._shared = DirectArray("limit_shared", maps["limit_shared"], LIMIT_SOURCE)
        self._counters = CounterArray("limit_counters", maps["limit_counters"])
        self._denied = DirectArray("limit_denied", maps["limit_denied"], LIMIT_DENIED)
        self._denied_counters = CounterArray("limit_denied_counters", maps["limit_denied_counters"])
        self._first_set = len(self._denied) - 2 * MAX_SETS
        self._switched = time.monotonic() - GRACE
        self._group_of: Mapping[str, Records] = {OVERFLOW: np.zeros(len(TRAFFIC), _GROUP)}

    @property
    def is_limiting(self) -> bool:
        """Whether the rule set in force limits or counts anything."""
        return is_limiting(self._maps)

    @property
    def sets_bank(self) -> int:
        """The bank of the sets that goes with the rule set in force; 0 is none."""
        return int(self._settings.read(self.generation & 1)["sets"])

    def install(self, bank: Bank, slots: Mapping[int, str], sets: Mapping[str, int] = MappingProxyType({})) -> None:
        """Write a rule set whole into the bank that is not in use, then switch to it by writing one word.

        ``slots`` are the interfaces by counter slot, ``sets`` the fields of ``struct limit_settings`` about sets.

        Raises:
            MapError: the kernel refused; the rule set before stays in force.

        """
        generation = self.generation + 1
        number = generation & 1
        self.wait()
        for place in bank.rule_places:
            for verdict in range(len(VERDICTS)):
                self._counters.zero(place * len(VERDICTS) + verdict)
        self._rules.write_many(bank.rule_places, bank.rules)
        self._shared.write_many(bank.shared_places, np.zeros(len(bank.shared_places), LIMIT_SOURCE))
        self._denied_counters.zero_many(bank.denied_places)
        self._denied.write_many(bank.denied_places, np.zeros(len(bank.denied_places), LIMIT_DENIED))
        policies = bank.policies.reshape(-1)
        self._policies.write_many(number * self._policy_room + np.arange(len(policies)), policies)
        others = bank.groups[OVERFLOW]
        groups = np.tile(others, (self._slots, 1))
        for slot, name in slots.items():
            groups[slot] = bank.groups.get(name, others)
        self._groups.write_many(number * groups.size + np.arange(groups.size), groups.reshape(-1))
        settings = np.zeros((), LIMIT_SETTINGS)
        settings["source6_mask"] = bank.source6_mask
        settings["drop_unreadable"] = bank.drop_unreadable
        settings["ends"] = bank.ends
        for name, word in sets.items():
            settings[name] = word
        self._settings.write(number, settings)
        for family, prefixes in self._prefixes.items():
            prefixes.write(number, *bank.prefixes[family])
        passes_all = bank.passes_all and not settings["sets"]
        self._generation.write(0, np.array(NO_RULE_SET if passes_all else generation, _GENERATION))
        # For the next daemon, where the first says nothing.
        self._generation.write(1, np.array(generation, _GENERATION))
        self.generation, self._switched = generation, time.monotonic()
        self._group_of = bank.groups

    def wait(self) -> None:
        """Return once no CPU uses the bank that was switched away from."""
        time.sleep(max(0.0, self._switched + GRACE - time.monotonic()))

    def seat(self, name: str, slot: int) -> None:
        """Have the rule set in force take the counter slot ``slot`` for ``name``, while nothing comes in there."""
        groups = self._group_of.get(name, self._group_of[OVERFLOW])
        first = ((self.generation & 1) * self._slots + slot) * len(TRAFFIC)
        self._groups.write_many(first + np.arange(len(TRAFFIC)), groups)

    def counts(self, place: int) -> tuple[Count, ...]:
        """Return what the rule at ``place`` has counted, in the order of VERDICTS."""
        return tuple(self._counters.sum(place * len(VERDICTS) + verdict) for verdict in range(len(VERDICTS)))

    def shared(self, place: int) -> Records:
        """Return a shared bucket and its counts: LIMIT_SOURCE, shape ()."""
        return self._shared.read(place)

    def denied(self, count: int) -> tuple[Records, Records]:
        """Return what the first ``count`` entries of ``deny`` have dropped, and when: COUNTER and LIMIT_DENIED."""
        if not count:
            return np.empty(0, COUNTER), np.empty(0, LIMIT_DENIED)
        return self._denied_counters.sums(0, count), self._denied.read_range(0, count)

    def begin_sets(self, places: Iterable[int]) -> None:
        """Have the counters of the sets at ``places``, which no packet counts in, begin at nothing."""
        first = self._first_set + np.array([*places], np.uint32)
        self._denied.write_many(first, np.zeros(len(first), LIMIT_DENIED))
        self._denied_counters.zero_many(np.concatenate([first, first + MAX_SETS]))

    def set_counts(self) -> tuple[Records, Records]:
        """Return what sets have counted, by place, and what they have in shadow: COUNTER, shape (MAX_SETS,)."""
        counts = self._denied_counters.sums(self._first_set, 2 * MAX_SETS)
        return counts[:MAX_SETS], counts[MAX_SETS:]

    def set_times(self) -> Records:
        """Return when sets have denied packets, by place: LIMIT_DENIED, shape (MAX_SETS,)."""
        return self._denied.read_range(self._first_set, MAX_SETS)

    def denied_places(self) -> dict[Network, int]:
        """Return the places of the entries of ``deny`` that are in force; not of one that is protected as a whole."""
        bank = self.generation & 1
        return {network: place for table in self._prefixes.values() for network, place in table.denied(bank).items()}


class _Prefixes:
    """One family's prefixes, of both banks."""

    def __init__(self, name: str, fd: int, key: np.dtype[Any]) -> None:
        self._name = name
        self._fd = fd
        self._written = self._there(key)

    def write(self, bank: int, keys: Records, values: Records) -> None:
        """Have these prefixes and no others in ``bank``."""
        for key in self._written.get(bank, ()):
            status = libbpf.library().bpf_map_delete_elem(self._fd, key.tobytes())
            if status not in (0, -errno.ENOENT):  # which is: the writing broke off before this one
                raise MapError(f"deleting from map {self._name}: {os.strerror(-status)}", errno=-status)
        keys = keys.copy()
        keys["bank"] = bank
        self._written[bank] = keys
        write_batch(self._name, self._fd, keys, values)

    def denied(self, bank: int) -> dict[Network, int]:
        """Return the places of the entries of ``deny`` in ``bank``.

        An entry's place is also that of the longer prefixes within it, which other rules have.
        """
        found: dict[int, Network] = {}
        value = np.empty((), LIMIT_MATCH)
        for key in sorted(self._written.get(bank, ()), key=lambda each: int(each["length"])):
            libbpf.library().bpf_map_lookup_elem(self._fd, key.tobytes(), value.ctypes.data)
            if value["deny_until"]:
                network = ip_network((key["addr"].tobytes(), int(key["length"]) - BANK_BITS))
                found.setdefault(int(value["denied"]), network)
        return {network: place for place, network in found.items()}

    def _there(self, key: np.dtype[Any]) -> dict[int, Records]:
        """Return the keys that the map holds, by bank."""
        found, current = [], np.zeros((), key)
        before: int | None = None
        while libbpf.library().bpf_map_get_next_key(self._fd, before, current.ctypes.data) == 0:
            found.append(current.copy())
            before = current.ctypes.data
        keys = np.array(found, key)
        return {bank: keys[keys["bank"] == bank] for bank in (0, 1)}
