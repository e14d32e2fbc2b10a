"""What another CPU does at the worst moment gives no flow two slots, no packet to nobody, and no token twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import FAMILIES, FLOW_DROPS, LIMIT_OVER, WAYS, Family
from cnf.arrays import Records
from cnf.counts import Count
from cnf.datapath.cache import Secrets
from cnf.flows.recorder import SETS
from cnf.kernel.maps import DirectArray
from cnf.kernel.ring import Ring
from cnf.limiter.source_cache import SETS as SOURCE_SETS
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import XDP_DROP
from tests.bpf.placement import place
from tests.bpf.racing import SHOW, Racing, Step, add, put, take
from tests.bpf.tables import CacheFlows, CacheSlots
from tests.bpf.test_cache_slots import IDLE, Slots

EVERYBODY: Final = ["0.0.0.0/0", "::/0"]
FULL: Final = 6
"""Packets of a burst."""
BURST_BYTES: Final = 1 << 16
LIMITS: Final[dict[str, Any]] = {
    "mode": "enforce",
    "ipv6_source_prefix": 128,
    "rules": [{"name": "r", "prefixes": EVERYBODY, "packets_per_second": 1, "burst_packets": FULL}],
}
pytestmark = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Racing]:
    """Load racing.c once."""
    racing = Racing()
    yield racing
    racing.loaded.close()


@pytest.fixture
def racing(loaded: Racing) -> Racing:
    """Give each test empty tables, and no limits."""
    loaded.start({})
    return loaded


class Flows(Slots):
    """Flows that meet in one set."""

    def __init__(self, racing: Racing, family: Family) -> None:
        """Begin with an empty table."""
        super().__init__(racing, family)
        table = racing.tables[family]
        assert isinstance(table, CacheFlows)
        self.table = table
        self.set_dtype = SETS[family]
        self._racing = racing

    def after(self, number: int, packets: int = 1) -> Records:
        """Return the set as another CPU leaves it that has had packets of a flow."""
        return self._racing.afterwards(self.table, lambda: self.send(number, packets))

    def drops(self) -> Records:
        """Return what was dropped of the flow in each slot: shape (slots,) of FLOW_DROPS."""
        assert self.table.aside
        return self.table.aside.window(0, self.table.aside.size).view(FLOW_DROPS)[:, 0]


@pytest.fixture
def flows(racing: Racing, family: Family) -> Flows:
    """Give each test an empty flow table."""
    return Flows(racing, family)


class Sources:
    """Sources that meet in one set; the flows of their packets are there already."""

    def __init__(self, racing: Racing, family: Family) -> None:
        """Find them."""
        table = racing.sources_by_family[family]
        assert isinstance(table, CacheSlots)
        self.table = table
        self.set_dtype = SOURCE_SETS[family]
        self._racing, self.family = racing, family
        self._slots = Slots(racing, family)
        self.size = self._slots.size
        racing.switch(LIMITS)
        self.numbers, self.of_one_tag = self._meeting()
        racing.start({})
        for number in {*self.numbers, *self.of_one_tag}:
            self._slots.send(number)
        racing.switch(LIMITS)

    def send(self, number: int, packets: int = 1) -> list[int]:
        """Send packets of a source; return their verdicts."""
        return [self._slots.send(number) for _ in range(packets)]

    def after(self, number: int, packets: int = 1) -> Records:
        """Return the set as another CPU leaves it that has had packets of a source."""
        return self._racing.afterwards(self.table, lambda: self.send(number, packets))

    @property
    def counted(self) -> list[tuple[int, int]]:
        """Return the packets of each source within the limit, and over it, in ascending order."""
        return sorted((int(value["packets"]), int(value["over_packets"])) for _, _, value in self._racing.sources())

    @property
    def busy(self) -> int:
        """Return the packets that could not have a slot."""
        return self._racing.table_counters.read_sources(self.family).errors["busy"].packets

    def word(self, name: str = "packet_time") -> int:
        """Return a word of the bucket of the only source."""
        ((_, _, value),) = self._racing.sources()
        return int(value["bucket"][name])

    def _meeting(self) -> tuple[list[int], list[int]]:
        """Return sources of one set, nine that each have a tag of their own, and two of the same tag."""
        self._slots.send(0)
        (block,) = self.table.cache.blocks()
        keys = np.repeat(self.table.cache.records(block.words)["key"], 1 << 17)
        assert keys.dtype.fields
        end = int(keys.dtype.fields["addr"][1]) + keys.dtype["addr"].itemsize
        octets = keys.view(np.uint8).reshape(len(keys), -1)
        octets[:, end - 4 : end] = np.arange(1, 1 + len(keys), dtype=">u4").view(np.uint8).reshape(len(keys), -1)
        sets, tags = place(keys, Secrets(self._racing.loaded.maps).words(), self.table.sets.size)
        found = np.flatnonzero(sets == sets[0])
        of_tag, first, count = np.unique(tags[found], return_index=True, return_counts=True)
        of_one_tag = found[tags[found] == of_tag[count.argmax()]]
        return (1 + found[first][: WAYS + 1]).tolist(), (1 + of_one_tag[:2]).tolist()


@pytest.fixture
def sources(racing: Racing, family: Family) -> Sources:
    """Give each test an empty table of sources, and LIMITS."""
    return Sources(racing, family)


def test_a_set_that_has_changed_is_looked_at_again(racing: Racing, flows: Flows) -> None:
    """A new flow whose set another CPU has changed since it was looked at has its slot all the same."""
    mine, others = flows.neighbours(2)
    racing.script({(Step.CLAIM, 0): put(flows.after(others))})
    flows.send(mine)
    assert (flows.counted, flows.sums.inserted, flows.sums.errors["busy"]) == ([1, 1], 2, Count())


@pytest.mark.parametrize("step", [Step.LOOKED, Step.CLAIM])
def test_a_flow_that_another_cpu_makes_is_not_made_twice(racing: Racing, flows: Flows, step: Step) -> None:
    """Two first packets of a flow, on two CPUs, are two packets of one flow."""
    (mine,) = flows.neighbours(1)
    racing.script({(step, 0): put(flows.after(mine, 3))})
    flows.send(mine)
    assert (flows.counted, flows.sums.inserted, flows.sums.errors["busy"]) == ([4], 1, Count())


def test_a_claimed_set_is_waited_for(racing: Racing, flows: Flows) -> None:
    """A new flow that finds its set claimed has it once the other CPU has released it."""
    mine, others = flows.neighbours(2)
    flows.send(others)
    sequences = flows.table.writable()["head"]["sequence"]
    released = flows.after(others)
    released["head"]["sequence"] += 2
    sequences[:] += 1
    racing.script({(Step.WAIT, 0): put(released)})
    flows.send(mine)
    assert (flows.counted, flows.sums.errors["busy"]) == ([1, 2], Count())


@pytest.mark.parametrize("looks", [1, 8])
def test_a_claimed_set_is_waited_for_as_long_as_it_takes(racing: Racing, flows: Flows, looks: int) -> None:
    """Eight looks at a set are enough for another CPU to release it, and one that is released ends the wait."""
    mine, others = flows.neighbours(2)
    flows.send(others)
    flows.table.writable()["head"]["sequence"] += 1
    racing.script({(Step.READ, looks - 1): add(1)})
    flows.send(mine)
    assert (flows.counted, flows.sums.errors["busy"]) == ([1, 1], Count())


def test_two_collisions_are_counted_once(racing: Racing, flows: Flows) -> None:
    """A packet that meets other CPUs twice is counted as busy, once, and makes no flow."""
    mine, others = flows.neighbours(2)
    one, two = (flows.after(others, packets) for packets in (1, 2))
    two["head"]["sequence"] += 2
    racing.script({(Step.CLAIM, 0): put(one), (Step.CLAIM, 1): put(two)})
    flows.send(mine)
    assert (flows.counted, flows.sums.errors["busy"]) == ([2], Count(1, flows.size))


def test_a_flow_that_comes_back_on_two_cpus_starts_anew_once(racing: Racing, flows: Flows) -> None:
    """What it had counted is booked as expired once, and both packets are the new flow's."""
    (mine,) = flows.neighbours(1)
    flows.send(mine, 5)
    flows.tick(IDLE + 1)
    racing.script({(Step.CLAIM, 0): put(flows.after(mine))})
    flows.send(mine)
    assert (flows.counted, flows.sums.inserted) == ([2], 2)
    assert (flows.sums.expired, flows.sums.expired_entries) == (Count(5, 5 * flows.size), 1)


def test_nobody_finds_a_slot_while_its_key_is_written(racing: Racing, flows: Flows) -> None:
    """The tag of the flow before has gone before the new key is written, and the new one comes after it."""
    *eight, ninth = flows.neighbours(WAYS + 1)
    for number in eight:
        flows.send(number)
        flows.tick(1)
    racing.script({(Step.TAG, number): SHOW for number in range(3)})
    flows.send(ninth)
    hidden(racing, flows.set_dtype, ninth)


def hidden(racing: Racing, set_dtype: np.dtype[Any], number: int) -> None:
    """Check the steps of writing a key: a tag leads to the old one, none to what is written, one to the new one."""
    assert racing.passes(Step.TAG) == 2
    before, between = (racing.shown(Step.TAG, turn, set_dtype) for turn in range(2))
    assert before["head"]["sequence"] == between["head"]["sequence"]
    assert between["head"]["sequence"] % 2 == 1
    (way,) = np.flatnonzero(before["slots"]["key"] != between["slots"]["key"])
    tags = [image["head"]["tags"].reshape(1).view(np.uint8) for image in (before, between)]
    assert tags[1][way] == 0
    assert [tag for tag in range(WAYS) if tags[0][tag] != tags[1][tag]] == [way] * bool(tags[0][way])
    for field in ("addr", "src_addr"):
        if field in (between["slots"].dtype["key"].names or ()):
            assert between["slots"]["key"][field][way].tobytes()[-4:] == number.to_bytes(4, "big")


def test_a_flow_inherits_nothing(racing: Racing, flows: Flows) -> None:
    """The flow that takes over a slot begins with its own packet: count, bytes, times, flags and drops."""
    *eight, ninth = flows.neighbours(WAYS + 1)
    for number in eight:
        flows.send(number, 7)
    racing.switch({"mode": "enforce", "deny": EVERYBODY})
    for number in eight:
        flows.send(number, 3)
    racing.switch({})
    flows.table.writable()["slots"]["tcp_flags"] |= np.uint64(0x1F)
    assert (flows.drops()["packets"] == 3).sum() == WAYS
    flows.tick(1)
    flows.send(ninth)

    (slot,) = (slot for slot in flows.table.writable()["slots"].ravel() if slot["packets"] == 1)
    fields = ("bytes", "first_seen", "last_seen", "tcp_flags")
    assert [int(slot[field]) for field in fields] == [flows.size, racing.jiffies, racing.jiffies, 0]
    assert Counter(flows.drops()["packets"].tolist())[3] == WAYS - 1
    assert Counter(flows.drops()["bytes"].tolist())[3 * flows.size] == WAYS - 1


def test_a_source_whose_set_has_changed_is_looked_for_again(racing: Racing, sources: Sources) -> None:
    """A new source whose set another CPU has changed meanwhile has its slot all the same."""
    mine, others, *_ = sources.numbers
    racing.script({(Step.CLAIM, 0): put(sources.after(others, 2))})
    assert sources.send(mine) == [XDP_PASS]
    assert (sources.counted, sources.busy) == ([(1, 0), (2, 0)], 0)


@pytest.mark.parametrize("at", [(Step.LOOKED, 1), (Step.CLAIM, 0)])
def test_a_source_that_another_cpu_makes_has_one_bucket(racing: Racing, sources: Sources, at: tuple[Step, int]) -> None:
    """What another CPU has debited since this one looked stays debited."""
    mine, *_ = sources.numbers
    racing.script({at: put(sources.after(mine, FULL))})
    assert sources.send(mine) == [XDP_DROP]
    assert (sources.counted, sources.busy) == ([(FULL, 1)], 0)
    assert racing.passes(Step.CLAIM) == 1


def test_a_claimed_set_of_sources_is_waited_for(racing: Racing, sources: Sources) -> None:
    """A new source that finds its set claimed has a slot once the other CPU has released it."""
    mine, others, *_ = sources.numbers
    sources.send(others)
    released = sources.table.writable()[set_of(sources)].copy()
    released["head"]["sequence"] += 2
    sources.table.writable()["head"]["sequence"] += 1
    racing.script({(Step.WAIT, 0): put(released)})
    assert sources.send(mine) == [XDP_PASS]
    assert (sources.counted, sources.busy) == ([(1, 0), (1, 0)], 0)


def set_of(sources: Sources) -> int:
    """Return the index of the only set that is in use."""
    (index,) = np.flatnonzero(sources.table.writable()["head"]["sequence"])
    return int(index)


def test_a_source_that_meets_others_twice_passes(racing: Racing, sources: Sources) -> None:
    """A packet whose source can have no slot passes, and is counted as an insert error once."""
    mine, others, *_ = sources.numbers
    one, two = (sources.after(others, packets) for packets in (1, 2))
    two["head"]["sequence"] += 2
    racing.script({(Step.CLAIM, 0): put(one), (Step.CLAIM, 1): put(two)})
    assert sources.send(mine) == [XDP_PASS]
    assert (sources.counted, sources.busy) == ([(2, 0)], 1)


def test_a_source_that_another_cpu_decides_on_anew_is_not_refilled(racing: Racing, sources: Sources) -> None:
    """Of two CPUs that see another rule set first, one fills the bucket, and the other takes from it."""
    mine, *_ = sources.numbers
    sources.send(mine, FULL)
    (rule,) = LIMITS["rules"]
    racing.switch(LIMITS | {"rules": [rule | {"burst_packets": 2}]})
    racing.script({(Step.CLAIM, 0): put(sources.after(mine, 2))})
    assert sources.send(mine) == [XDP_DROP]
    assert sources.counted == [(FULL + 2, 1)]


def test_nobody_finds_a_source_while_its_key_is_written(racing: Racing, sources: Sources) -> None:
    """The tag of a source is there only after its key."""
    mine, others, *_ = sources.numbers
    sources.send(others)
    racing.script({(Step.TAG, number): SHOW for number in range(3)})
    sources.send(mine)
    hidden(racing, sources.set_dtype, mine)


def test_a_source_inherits_nothing(racing: Racing, sources: Sources) -> None:
    """The source that takes over a slot has a full bucket, and counts from its own packet on, also what is over."""
    *eight, ninth = sources.numbers
    for number in eight:
        sources.send(number, FULL + 2)
    assert sources.counted == [(FULL, 2)] * WAYS
    assert sources.send(ninth, FULL) == [XDP_PASS] * FULL

    (value,) = (value for _, _, value in racing.sources() if not value["over_packets"])
    names = (
        "packets",
        "bytes",
        "over_packets",
        "over_bytes",
        "dropped_packets",
        "dropped_bytes",
        "last_over",
        "last_drop",
    )
    assert [int(value[name]) for name in names] == [FULL, FULL * sources.size, 0, 0, 0, 0, 0, 0]
    assert sources.table.aside
    over = sources.table.aside.window(0, sources.table.aside.size).view(LIMIT_OVER)[:, 0]
    assert Counter(over["bytes"].tolist())[2 * sources.size] == WAYS - 1
    assert sources.send(ninth) == [XDP_DROP]
    sums = racing.table_counters.read_sources(sources.family)
    assert (sums.evicted_entries, sums.expired_entries) == (1, 0)


def test_a_word_that_another_cpu_debits_is_debited_from_there(racing: Racing, sources: Sources) -> None:
    """A packet pays on top of what another CPU's has paid, if there is enough; else it is over, and pays nothing."""
    mine, *_ = sources.numbers
    cost = cost_of(sources)
    start = sources.word()
    racing.script({(Step.SWAP, 0): add((FULL - 3) * cost)})
    assert sources.send(mine) == [XDP_PASS]
    assert sources.word() == start + (FULL - 2) * cost
    sources.table.clear()
    sources.send(mine)
    start = sources.word()
    racing.script({(Step.SWAP, 0): add((FULL - 1) * cost)})
    assert sources.send(mine) == [XDP_DROP]
    assert sources.word() == start + (FULL - 1) * cost


@pytest.mark.parametrize(("others", "verdict"), [(FULL - 2, XDP_PASS), (FULL - 1, XDP_DROP)])
def test_a_blind_debit_is_taken_back_where_nothing_was_left(
    racing: Racing, sources: Sources, others: int, verdict: int
) -> None:
    """After four swaps that others win, a packet is debited blindly: for good only if the bucket held it."""
    mine, *_ = sources.numbers
    cost = cost_of(sources)
    sources.table.clear()
    sources.send(mine)
    start = sources.word()
    acts = {(Step.SWAP, turn): add(cost) for turn in range(3)}
    racing.script(acts | {(Step.SWAP, 3): add((others - 3) * cost)})
    assert sources.send(mine) == [verdict]
    assert racing.passes(Step.SWAP) == 4
    assert sources.word() == start + (others + (verdict == XDP_PASS)) * cost


def test_a_bucket_that_is_another_rules_by_now_is_not_debited(racing: Racing, sources: Sources) -> None:
    """A packet whose source another CPU has put under another rule passes, and costs the other rule nothing."""
    mine, *_ = sources.numbers
    sources.send(mine)
    racing.script({(Step.SWAP, 0): take(decision_of(racing) ^ 1)})
    assert sources.send(mine) == [XDP_PASS]
    assert sources.word() == 0


def test_a_bucket_of_the_same_rule_in_another_set_is_debited(racing: Racing, sources: Sources) -> None:
    """Another generation, or enforcing in place of shadow, makes the bucket no other rule's."""
    mine, *_ = sources.numbers
    sources.send(mine)
    start = sources.word()
    racing.script({(Step.SWAP, 0): take(decision_of(racing) ^ (1 << 32 | 1 << 23))})
    assert sources.send(mine) == [XDP_PASS]
    assert sources.word() == start


def test_a_packet_that_others_leave_no_bytes_gets_its_token_back(racing: Racing, sources: Sources) -> None:
    """A packet within the packets' rate, whose bytes another CPU takes at that moment, costs no packet."""
    mine, *_ = sources.numbers
    (rule,) = LIMITS["rules"]
    racing.switch(LIMITS | {"rules": [rule | {"bits_per_second": 8, "burst_bytes": BURST_BYTES}]})
    sources.send(mine)
    start, octets = sources.word(), sources.word("byte_time")
    sources.send(mine)
    cost = sources.word("byte_time") - octets
    sources.table.clear()
    sources.send(mine)
    racing.script({(Step.SWAP, 1): add((BURST_BYTES // sources.size - 1) * cost)})
    assert sources.send(mine) == [XDP_DROP]
    assert sources.word() == start
    assert racing.passes(Step.SWAP) == 2


def test_a_rule_set_that_another_cpu_tells_of_is_told_once(racing: Racing, sources: Sources) -> None:
    """Of two CPUs that see a rule set first, one tells of it."""
    mine, *_ = sources.numbers
    sources.send(mine)
    racing.switch(LIMITS)
    with closing(Ring(racing.loaded.maps["events"])) as ring:
        ring.read()
        racing.script({(Step.ANNOUNCE, 0): add(1)})
        sources.send(mine)
        assert racing.passes(Step.ANNOUNCE) == 1
        assert len(ring.read().events) == 0


def test_a_rule_set_that_is_older_than_one_told_of_is_not_told(racing: Racing, sources: Sources) -> None:
    """A CPU that was held up since it read the generation does not tell of it after a newer one."""
    mine, *_ = sources.numbers
    sources.send(mine)
    generations = DirectArray("limit_generation", racing.loaded.maps["limit_generation"], np.dtype("<u8"))
    newer = np.array(racing.maps.generation + 5, "<u8")
    with closing(Ring(racing.loaded.maps["events"])) as ring:
        ring.read()
        generations.write(2, newer)
        sources.send(mine)
        assert len(ring.read().events) == 0
    assert generations.read(2) == newer
    generations.write(2, np.array(0, "<u8"))


def test_a_bucket_that_was_full_is_debited_from_where_another_cpu_has_left_it(racing: Racing, sources: Sources) -> None:
    """Of two packets after a long time, on two CPUs, both pay."""
    mine, *_ = sources.numbers
    cost = cost_of(sources)
    before = sources.word()
    racing.show(racing.now + 3600 * 10**9)
    by_other = sources.after(mine)["slots"]["bucket"]["packet_time"].max()
    racing.script({(Step.SWAP, 0): add(int(by_other) - before)})
    assert sources.send(mine) == [XDP_PASS]
    assert racing.passes(Step.SWAP) == 2
    assert sources.word() == by_other + cost


def test_sources_of_one_tag_have_a_bucket_each(racing: Racing, sources: Sources) -> None:
    """Two sources that nothing but their keys tells apart are looked for until the right one is found."""
    one, two = sources.of_one_tag
    assert sources.send(one, FULL + 1) == [XDP_PASS] * FULL + [XDP_DROP]
    assert sources.send(two, FULL + 2) == [XDP_PASS] * FULL + [XDP_DROP] * 2
    assert sources.send(one, 2) == [XDP_DROP] * 2
    assert sources.counted == [(FULL, 2), (FULL, 3)]
    assert racing.table_counters.read_sources(sources.family).inserted == 2


def test_a_source_that_no_rule_is_about_makes_room_when_it_is_the_longest_unused(
    racing: Racing, sources: Sources
) -> None:
    """Nothing is lost by it, so that it counts as expired; which are in use is known of these, too."""
    racing.switch({"mode": "enforce", "ipv6_source_prefix": 128, "deny": ["203.0.113.0/24"], "allow": EVERYBODY})
    *eight, ninth = sources.numbers
    for turn in range(2):
        for number in eight if turn == 0 else reversed(eight):
            sources.send(number)
            racing.show(racing.now + racing.tick_ns)
    sources.send(ninth)

    left = {int.from_bytes(network.network_address.packed[-4:], "big") for network, _, _ in racing.sources()}
    assert left == {*eight[:-1], ninth}
    sums = racing.table_counters.read_sources(sources.family)
    assert (sums.evicted_entries, sums.expired_entries) == (0, 1)


def cost_of(sources: Sources) -> int:
    """Return by how much a packet moves the word."""
    mine, *_ = sources.numbers
    sources.send(mine)
    start = sources.word()
    sources.send(mine)
    return sources.word() - start


def decision_of(racing: Racing) -> int:
    """Return what the program has decided on the only source."""
    ((_, _, value),) = racing.sources()
    return int(value["decision"])
