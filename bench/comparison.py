"""What the datapath took, beside a bare pass and the naive program in the same case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bench.datapath import Taken
from bench.report import Bar, Figure, Section
from bench.subjects import Program, Subject
from bench.workloads import ONE_FLOW, Case
from cnf.abi import Family
from cnf.datapath.blueprint import Table

BARE: Final = "bare"
NAIVE: Final = "naive"
IPV4: Final = "IPv4"
ONE_CPU: Final = "one CPU"
NAIVE_BARS: Final = {"one_flow": (0.45, 0.40), "flows_512k": (0.62, 0.50), "new_flows": (0.38, 0.33)}


class Comparison:
    """The figures of all cases, each compared with others of the same run."""

    def __init__(self, taken: Taken) -> None:
        """Compare what ``datapath.measure()`` returned."""
        self._figures: dict[tuple[Case, Family, Program, Table | None, bool], Figure] = {}
        self.sections: list[Section] = []
        self.rows: list[dict[str, Any]] = []
        section = Section("")
        for (case, family, subject), values in taken.items():
            title = f"datapath, {_words(case)}, {family.replace('ip', 'IP')}"
            if section.title != title:
                section = Section(title)
                self.sections.append(section)
            others = dict(self._others(case, family, subject))
            figure = section.add(subject.title, "ns", values, others, *_bars(case, family, subject))
            self._figures[case, family, subject.program, subject.table, subject.limiter] = figure
            self.rows.append(_row(case, family, subject, figure))

    def bare(self) -> Figure:
        """Return the bare pass of one IPv4 flow on one CPU."""
        return self._figures[Case(ONE_FLOW, 1), "ipv4", "bare", None, False]

    def _others(self, case: Case, family: Family, subject: Subject) -> Iterator[tuple[str, Figure]]:
        """Yield what a subject is compared with; it has been met before."""
        if subject.program != "bare":
            yield BARE, self._figures[case, family, "bare", None, False]
        if subject.program != "cnf":
            return
        yield NAIVE, self._figures[case, family, "naive", None, subject.limiter]
        if family == "ipv6":
            yield IPV4, self._figures[case, "ipv4", "cnf", subject.table, subject.limiter]
        if case.same_flow:
            alone = Case(case.workload, 1)
            yield ONE_CPU, self._figures[alone, family, "cnf", subject.table, subject.limiter]


def _bars(case: Case, family: Family, subject: Subject) -> Iterator[Bar]:
    one_flow = case.workload is ONE_FLOW
    if subject.program != "cnf":
        return
    if not subject.limiter:
        if case.cpus == 1 and family == "ipv4" and one_flow:
            yield Bar("flow only, one flow", 1.45, 1.33, BARE)
        return
    if case.cpus == 1 and family == "ipv4":
        if one_flow:
            yield Bar("flow and limiter, one flow", 1.9, 1.6, BARE)
        if case.workload.name in NAIVE_BARS:
            yield Bar(f"over naive, {case.workload.name}", *NAIVE_BARS[case.workload.name], NAIVE)
    if case.cpus == 1 and family == "ipv6" and one_flow:
        yield Bar("IPv6 flow and limiter, one flow", 2.0, 1.75, BARE)
        yield Bar("IPv6 over IPv4", 1.3, 1.1, IPV4)
    if case.same_flow and family == "ipv4":
        yield Bar("two CPUs on the same flow over one", 1.6, 1.3, ONE_CPU)


def _row(case: Case, family: Family, subject: Subject, figure: Figure) -> dict[str, Any]:
    row = {
        "program": subject.program,
        "table": subject.table,
        "family": family,
        "limiter": subject.limiter,
        "workload": case.workload.name,
        "cpus": case.cpus,
    }
    if case.same_flow is not None:
        row["same_flow"] = case.same_flow
    return row | {
        "median_ns": figure.median,
        "min_ns": figure.best,
        "over_bare": figure.over.get(BARE, 1.0),
        "over_naive": 1.0 if subject.program == "naive" else figure.over.get(NAIVE),
    }


def _words(case: Case) -> str:
    if case.cpus == 1:
        return f"{case.workload.name}, one CPU"
    return f"{case.workload.name}, {case.cpus} CPUs on {'the same flow' if case.same_flow else 'different flows'}"
