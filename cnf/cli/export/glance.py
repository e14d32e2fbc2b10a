"""What ``cnfctl status`` shows of flow records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from cnf.cli.api.replies import Exporter, Records
from cnf.cli.show.table import Column, Style, render
from cnf.cli.show.warnings import warning
from cnf.units import moment, number_of, size


def glance(records: Records, width: int | None, style: Style) -> Iterator[str]:
    """Yield where the records go, and a warning for each place that they do not reach."""
    columns: tuple[Column[Exporter], ...] = (
        Column("EXPORTER", lambda exporter: exporter["exporter"]),
        Column("RECORDS", lambda exporter: f"{exporter['records']:,}", right=True),
        Column("BYTES", lambda exporter: size(exporter["bytes"]), right=True),
        Column("LOST", lambda exporter: f"{exporter['lost']:,}", right=True),
        Column("WAITING", lambda exporter: f"{exporter['waiting']:,}", right=True),
    )
    if records["exporters"]:
        yield from render(columns, records["exporters"], width, style)
    for exporter in records["exporters"]:
        failure = exporter["last_error"]
        if failure and exporter["failing"]:
            remedy = f" ({failure['remedy']})" if failure["remedy"] else ""
            since = moment(datetime.fromisoformat(failure["at"]))
            yield from warning(f"not sent, {since}: {failure['error']}{remedy}", width, style)
    yield f"{number_of(records['made'], 'flow record')} made"
    if records["lost_packets"]:
        lost = f"{number_of(records['lost_packets'], 'packet')} ({size(records['lost_bytes'])}) of finished flows"
        yield from warning(f"{lost} are in no record since the start (docs/export.md)", width, style)
    history = records["history"]
    if history:
        since = (
            f"since {moment(datetime.fromisoformat(history['oldest']))}" if history["oldest"] else "of no minute yet"
        )
        yield f"history {since}, {size(history['bytes'])} in {history['folder']}"
        if history["errors"]:
            errors = number_of(history["errors"], "minute")
            yield from warning(f"history: {errors} could not be written when due (journalctl -u cnfd)", width, style)
