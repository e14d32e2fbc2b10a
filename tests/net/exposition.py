"""What /metrics answers, parsed by prometheus-client's own parser."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families


class Exposition:
    """The samples of one scrape."""

    def __init__(self, body: bytes) -> None:
        """Parse ``body``; fails if it is no valid exposition."""
        self.families = list(text_string_to_metric_families(body.decode()))

    def samples(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], int]]:
        """Yield (labels, value) of the samples of ``name`` that have at least ``labels``."""
        for family in self.families:
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    yield sample.labels, int(sample.value)

    def total(self, name: str, **labels: str) -> int:
        """Add up these samples; there must be one."""
        values = [value for _, value in self.samples(name, **labels)]
        assert values, f"no sample {name} {labels}"
        return sum(values)

    def by(self, label: str, name: str, **labels: str) -> dict[str, int]:
        """Return the sums by the value of ``label``, where not zero."""
        sums: dict[str, int] = {}
        for found, value in self.samples(name, **labels):
            sums[found[label]] = sums.get(found[label], 0) + value
        return {key: value for key, value in sums.items() if value}
