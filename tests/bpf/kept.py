"""Programs under test: one that was compiled for a test is kept in a file of the run for those after it."""

from __future__ import annotations

from pathlib import Path

from cnf.datapath import program_file
from cnf.datapath.blueprint import Blueprint
from cnf.datapath.build import Build, Datapath


def load(blueprint: Blueprint, pins: Path | None = None) -> Datapath:
    """Build a blueprint, with the maps pinned in a folder if there is one, and wait for it."""
    return Build(blueprint, pins, files=program_file.folder()).finish()
