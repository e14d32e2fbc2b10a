"""The two directions of an interface's packets, as seen from this node. Light to import."""

from __future__ import annotations

from typing import Final, Literal

Direction = Literal["ingress", "egress"]
DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")
