"""What cnfd.socket holds for the service: it listens there whether a daemon runs or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cnf.cli.doctor import unit

NAME: Final = "cnfd.socket"


@dataclass(frozen=True, slots=True)
class Held:
    """Addresses that systemd listens on."""

    metrics: tuple[str, ...] = ()
    control: tuple[str, ...] = ()


def held() -> Held:
    """Return what the unit holds now."""
    lines = unit.show(NAME, "ActiveState", "Listen")
    if "ActiveState=active" not in lines:
        return Held()
    addresses = [line.removeprefix("Listen=").partition(" (")[0] for line in lines if line.startswith("Listen=")]
    control = tuple(address for address in addresses if address.startswith(("/", "@")))
    return Held(tuple(address for address in addresses if address not in control), control)
