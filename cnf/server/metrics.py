"""Prometheus metrics: collectors that read the latest snapshot and the live counters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cnf.abi import DROP_REASONS, INSERT_ERRORS, PROTOCOL_LABELS, UNPARSED_REASONS, VERDICTS
from cnf.arrays import Records
from cnf.flows.top import FlowLabels
from cnf.limiter.limiter import Limiter
from cnf.process.log import lost_lines, suppressed_lines
from cnf.process.usage import usage
from cnf.server.live import Live
from cnf.server.state import State


def received(_state: State, live: Live) -> Iterator[Metric]:
    """Yield what the program has received, dropped and seen being sent, live."""
    packets = CounterMetricFamily(
        "cnf_received_packets", "Packets that the program saw.", labels=("interface", "protocol")
    )
    octets = CounterMetricFamily(
        "cnf_received_bytes", "Bytes of these packets, whole frames.", labels=("interface", "protocol")
    )
    unparsed = CounterMetricFamily(
        "cnf_unparsed_packets", "Packets counted as malformed, by what was wrong.", labels=("interface", "reason")
    )
    dropped = CounterMetricFamily(
        "cnf_dropped_packets", "Packets that the program dropped.", labels=("interface", "reason")
    )
    dropped_octets = CounterMetricFamily("cnf_dropped_bytes", "Bytes of these packets.", labels=("interface", "reason"))
    totals = live.totals()
    for name, counters in totals.items():
        for index, protocol in enumerate(PROTOCOL_LABELS):
            packets.add_metric((name, protocol), int(counters["packets"][index]))
            octets.add_metric((name, protocol), int(counters["bytes"][index]))
        for index, reason in enumerate(UNPARSED_REASONS):
            unparsed.add_metric((name, reason), int(counters["unparsed"][index]))
        for index, reason in enumerate(DROP_REASONS):
            dropped.add_metric((name, reason), int(counters["dropped_packets"][index]))
            dropped_octets.add_metric((name, reason), int(counters["dropped_bytes"][index]))
    yield from (packets, octets, unparsed, dropped, dropped_octets)
    yield from _sent(totals if live.egress else {})


def _sent(totals: Mapping[str, Records]) -> Iterator[Metric]:
    packets = CounterMetricFamily(
        "cnf_sent_packets", "Packets that were sent, each segment of a super-frame.", labels=("interface", "protocol")
    )
    octets = CounterMetricFamily(
        "cnf_sent_bytes", "Bytes of these packets, whole frames.", labels=("interface", "protocol")
    )
    unparsed = CounterMetricFamily(
        "cnf_sent_unparsed_packets",
        "Sent packets counted as malformed, by what was wrong.",
        labels=("interface", "reason"),
    )
    for name, counters in totals.items():
        for index, protocol in enumerate(PROTOCOL_LABELS):
            packets.add_metric((name, protocol), int(counters["sent_packets"][index]))
            octets.add_metric((name, protocol), int(counters["sent_bytes"][index]))
        for index, reason in enumerate(UNPARSED_REASONS):
            unparsed.add_metric((name, reason), int(counters["sent_unparsed"][index]))
    yield from (packets, octets, unparsed)


def interfaces(state: State, _live: Live) -> Iterator[Metric]:
    """Yield the interfaces that the program is on, and the states of all."""
    attached = GaugeMetricFamily(
        "cnf_interface_attached",
        "1 where this direction of the interface is counted, in this mode; 0 where it is wanted, and not to be had.",
        labels=("interface", "direction", "mode"),
    )
    coverage = GaugeMetricFamily(
        "cnf_interface_coverage_ratio",
        "What was counted, divided by the statistics of the interface's driver, since the program is there.",
        labels=("interface", "direction"),
    )
    states = GaugeMetricFamily(
        "cnf_interface_state", "1, with the state of the interface as a label.", labels=("interface", "state")
    )
    for interface in state.interfaces:
        if not interface.directions:
            attached.add_metric((interface.name, "ingress", interface.requested_mode), 0)
        states.add_metric((interface.name, interface.state), 1)
        for there in interface.directions:
            if there.coverage is not None:
                coverage.add_metric((interface.name, there.direction), there.coverage)
            mode = there.mode or interface.requested_mode
            attached.add_metric((interface.name, there.direction, mode), int(there.mode is not None))
    yield from (attached, coverage, states)
    yield CounterMetricFamily(
        "cnf_link_notifications_lost",
        "Times that the kernel discarded notifications about interfaces; all interfaces were read again then.",
        state.lost_notifications,
    )


def flow_tables(state: State, _live: Live) -> Iterator[Metric]:
    """Yield the fill of the flow tables, and the flows that came and went, as of the latest drain."""
    tables = state.snapshot.tables if state.snapshot else {}

    def sum_of(attribute: str) -> int:
        return sum(getattr(table, attribute) for table in tables.values())

    entries = GaugeMetricFamily("cnf_flow_table_entries", "Flows in each family's table.", labels=("family",))
    capacity = GaugeMetricFamily("cnf_flow_table_capacity", "Flows that a table has room for.", labels=("family",))
    fill = GaugeMetricFamily(
        "cnf_flow_table_fill_ratio",
        "Flows divided by capacity; at 1 each new flow evicts one, and in a cache, by chance, a few from half on.",
        labels=("family",),
    )
    for family, table in tables.items():
        entries.add_metric((family,), table.entries)
        capacity.add_metric((family,), table.capacity)
        fill.add_metric((family,), table.entries / table.capacity)
    yield from (entries, capacity, fill)
    yield CounterMetricFamily("cnf_flows_created", "Flows that were put into a table.", sum_of("created"))
    yield CounterMetricFamily(
        "cnf_flows_expired", "Flows that have expired: idle, or ended by FIN or RST.", sum_of("expired")
    )
    yield CounterMetricFamily(
        "cnf_flows_evicted", "Flows that a full table evicted before they expired.", sum_of("evicted")
    )
    errors = CounterMetricFamily(
        "cnf_flow_insert_errors", "Packets whose flow could not be inserted into its table.", labels=("reason",)
    )
    for cause in INSERT_ERRORS:
        errors.add_metric((cause,), sum(table.insert_errors[cause] for table in tables.values()))
    yield errors


def ledger(state: State, _live: Live) -> Iterator[Metric]:
    """Yield the states of all packets, as of the latest drain."""
    labels = ("state", "direction")
    packets = GaugeMetricFamily("cnf_ledger_packets", "Packets by state.", labels=labels)
    octets = GaugeMetricFamily("cnf_ledger_bytes", "Bytes of these packets.", labels=labels)
    for direction, ledger in state.snapshot.ledgers.items() if state.snapshot else ():
        for name, count in ledger.states.items():
            packets.add_metric((name, direction), count.packets)
            octets.add_metric((name, direction), count.bytes)
    yield from (packets, octets)


def top_flows(state: State, _live: Live) -> Iterator[Metric]:
    """Yield the largest flows, and by interface, protocol and direction the rest, as src="other"."""
    note = "of a large flow since it has a series; src=other: of all other flows."
    packets = CounterMetricFamily("cnf_flow_packets", f"Packets {note}", labels=FlowLabels._fields)
    octets = CounterMetricFamily("cnf_flow_bytes", f"Bytes {note}", labels=FlowLabels._fields)
    for labels, count in state.series.items():
        packets.add_metric(labels, count.packets)
        octets.add_metric(labels, count.bytes)
    yield from (packets, octets)


def limiter(_state: State, live: Live) -> Iterator[Metric]:
    """Yield the counts of the rules, live, and the fill of the tables of sources, as of the latest drain."""
    if live.limiter is None:
        return
    packets = CounterMetricFamily(
        "cnf_limit_packets",
        "Packets that a rule decided on; would_limit: over the limit but passed, in mode shadow.",
        labels=("rule", "verdict"),
    )
    octets = CounterMetricFamily("cnf_limit_bytes", "Bytes of these packets.", labels=("rule", "verdict"))
    for rule, counts in live.limiter.counts().items():
        for verdict, count in zip(VERDICTS, counts, strict=True):
            packets.add_metric((rule, verdict), count.packets)
            octets.add_metric((rule, verdict), count.bytes)
    yield from (packets, octets)
    by_family = live.limiter.sources.tables if live.limiter.sources else {}
    entries = GaugeMetricFamily("cnf_limiter_sources", "Sources in each family's table.", labels=("family",))
    capacity = GaugeMetricFamily("cnf_limiter_capacity", "Sources that a table has room for.", labels=("family",))
    for family, table in by_family.items():
        entries.add_metric((family,), table.entries)
        capacity.add_metric((family,), table.capacity)
    yield from (entries, capacity)
    tables = by_family.values()
    yield CounterMetricFamily(
        "cnf_limiter_evictions", "Sources that a full table evicted.", sum(table.evicted for table in tables)
    )
    yield CounterMetricFamily(
        "cnf_limiter_insert_errors",
        "Packets that passed because their source could not be inserted.",
        sum(table.insert_errors for table in tables),
    )
    yield GaugeMetricFamily(
        "cnf_limiter_protected",
        "Addresses that pass whatever the rules say, until the change is confirmed or their session ends.",
        len(live.limiter.in_force.protected),
    )
    yield GaugeMetricFamily(
        "cnf_limiter_denied_prefixes",
        "Prefixes on the list deny.",
        len(live.limiter.in_force.effective.limits.deny),
    )
    yield GaugeMetricFamily(
        "cnf_limiter_generation", "Rule sets that were put in force.", live.limiter.in_force.generation
    )
    yield from _sets(live.limiter)


def _sets(limiter: Limiter) -> Iterator[Metric]:
    """Yield what each set of prefixes has counted, live, and what was read of its file."""
    labels = ("set", "action", "mode")
    packets = CounterMetricFamily(
        "cnf_limit_set_packets", "Packets from a set; mode=shadow: they came while it only counted.", labels=labels
    )
    octets = CounterMetricFamily("cnf_limit_set_bytes", "Bytes of these packets.", labels=labels)
    for (name, action), counts in limiter.sets.counts().items():
        for mode, count in (("enforce", counts.decided), ("shadow", counts.in_shadow)):
            packets.add_metric((name, action, mode), count.packets)
            octets.add_metric((name, action, mode), count.bytes)
    prefixes = GaugeMetricFamily("cnf_limit_set_prefixes", "Prefixes of a set.", labels=("set",))
    loaded = GaugeMetricFamily(
        "cnf_limit_set_loaded_timestamp_seconds", "When a set's file was read; 0: not yet.", labels=("set",)
    )
    errors = CounterMetricFamily(
        "cnf_limit_set_errors",
        "Files of a set that were missing, or refused.",
        labels=("set",),
    )
    failing = GaugeMetricFamily(
        "cnf_limit_set_failing", "1: the file of a set is not what is in force.", labels=("set",)
    )
    for file in limiter.sets.files:
        failing.add_metric((file.set.name,), file.error is not None)
        prefixes.add_metric((file.set.name,), len(file.prefixes))
        loaded.add_metric((file.set.name,), file.loaded or 0)
        errors.add_metric((file.set.name,), file.errors)
    yield from (packets, octets, prefixes, loaded, errors, failing)


def events(_state: State, live: Live) -> Iterator[Metric]:
    """Yield the events that the ring buffer had no room for, live."""
    if live.events is None:
        return
    lost = CounterMetricFamily("cnf_events_lost", "Events that found the ring buffer full.", labels=("kind",))
    for kind, count in live.events.lost().items():
        lost.add_metric((kind,), count)
    yield lost


def capture(_state: State, live: Live) -> Iterator[Metric]:
    """Yield what has become of the frames that clients wanted to capture, live."""
    if live.capture is None:
        return
    packets = CounterMetricFamily(
        "cnf_capture_packets", "Packets that were to be captured, by what became of them.", labels=("result",)
    )
    for result, number in live.capture.counts().items():
        packets.add_metric((result,), number)
    yield packets


def export(_state: State, live: Live) -> Iterator[Metric]:
    """Yield what the exporters have sent, live."""
    records = CounterMetricFamily("cnf_export_records", "Flow records sent or written.", labels=("exporter",))
    octets = CounterMetricFamily("cnf_export_bytes", "Bytes sent or written, with templates.", labels=("exporter",))
    lost = CounterMetricFamily(
        "cnf_export_lost", "Flow records that an exporter could not send, and never will.", labels=("exporter",)
    )
    errors = CounterMetricFamily("cnf_export_errors", "Sends or writes that failed.", labels=("exporter", "reason"))
    for counters in live.exports():
        records.add_metric((counters.exporter,), counters.records)
        octets.add_metric((counters.exporter,), counters.bytes)
        lost.add_metric((counters.exporter,), counters.lost)
        for reason, count in counters.errors.items():
            errors.add_metric((counters.exporter, reason), count)
    yield from (records, octets, lost, errors)


def history(_state: State, live: Live) -> Iterator[Metric]:
    """Yield what the history takes, how far it goes back, and how often it could not be written."""
    if live.history is None:
        return
    yield GaugeMetricFamily("cnf_history_bytes", "What the files of the history take.", live.history.bytes)
    oldest = GaugeMetricFamily("cnf_history_oldest_timestamp_seconds", "When the history begins.")
    if live.history.oldest is not None:
        oldest.add_metric((), live.history.oldest)
    yield oldest
    yield CounterMetricFamily(
        "cnf_history_write_errors", "Minutes that could not be written when they were due.", live.history.write_errors
    )


def records(_state: State, live: Live) -> Iterator[Metric]:
    """Yield how many flow records there are, and what is in none."""
    if live.stream is None:
        return
    yield CounterMetricFamily("cnf_flow_records", "Flow records that were made.", live.stream.last)
    note = "of flows that have finished, and that are in no record."
    packets = CounterMetricFamily("cnf_unrecorded_packets", f"Packets {note}", labels=("direction",))
    octets = CounterMetricFamily("cnf_unrecorded_bytes", f"Bytes {note}", labels=("direction",))
    for direction, count in live.stream.lost.counts.items():
        packets.add_metric((direction,), count.packets)
        octets.add_metric((direction,), count.bytes)
    yield from (packets, octets)


def web(_state: State, live: Live) -> Iterator[Metric]:
    """Yield whom the metrics server has refused, and what became of changes of its web configuration."""
    if live.access is None:
        return
    refused = CounterMetricFamily(
        "cnf_web_refused", "Handshakes and requests that the web configuration refuses.", labels=("reason",)
    )
    for reason, count in live.access.refused.items():
        refused.add_metric((reason,), count)
    yield refused
    yield CounterMetricFamily(
        "cnf_web_config_errors", "Changes of the web configuration that were refused.", live.access.errors
    )
    yield GaugeMetricFamily(
        "cnf_web_config_failing", "1: the web configuration is not what is in force.", int(live.access.is_failing)
    )


def daemon(state: State, _live: Live) -> Iterator[Metric]:
    """Yield the metrics of the daemon itself."""
    yield GaugeMetricFamily("cnf_drain_age_seconds", "Time since the latest drain.", state.drain_age())
    info = GaugeMetricFamily(
        "cnf_build_info", "1, with the versions that run here as labels.", labels=tuple(state.build_info)
    )
    info.add_metric(tuple(state.build_info.values()), 1)
    yield info
    yield CounterMetricFamily("cnf_log_lines_lost", "Log lines that could not be written.", lost_lines())
    yield CounterMetricFamily(
        "cnf_log_lines_suppressed", "Log lines left out after too many like them.", suppressed_lines()
    )


def process(_state: State, _live: Live) -> Iterator[Metric]:
    """Yield what the daemon takes of the machine, under the names that all client libraries have for it."""
    now = usage()
    yield CounterMetricFamily("process_cpu_seconds", "CPU time of the daemon, user and system.", now.cpu_seconds)
    yield GaugeMetricFamily("process_resident_memory_bytes", "Memory that is present.", now.resident_memory)
    yield GaugeMetricFamily("process_virtual_memory_bytes", "Address space.", now.virtual_memory)
    yield GaugeMetricFamily("process_open_fds", "Open file descriptors.", now.open_fds)
    yield GaugeMetricFamily("process_max_fds", "File descriptors that may be open.", now.max_fds)
    yield GaugeMetricFamily("process_start_time_seconds", "When the daemon was started.", now.started)


COLLECTORS: Final = (
    daemon,
    process,
    interfaces,
    ledger,
    flow_tables,
    received,
    limiter,
    events,
    capture,
    records,
    export,
    history,
    web,
    top_flows,
)
"""In order of importance: ``max_series`` leaves out series from the end."""
