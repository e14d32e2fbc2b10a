"""Names too long for an interface's own: the kernel knows whether they are altnames."""

from __future__ import annotations

from cnf.config import Settings
from cnf.errors import ConfigError, Problem
from cnf.kernel.links import Links
from cnf.readers import is_altname, shown


def checked(settings: Settings, source: str) -> Settings:
    """Return ``settings``, which ``source`` has, if every such name in them is an altname.

    Raises:
        ConfigError: one is not; all of them are named.
        KernelError: the interfaces cannot be listed.

    """
    names = {f"interfaces[{place}].name": interface.name for place, interface in enumerate(settings.interfaces)}
    long = {path: name for path, name in names.items() if is_altname(name)}
    if not long:
        return settings
    with Links() as links:
        present = links.read()
    problems = [
        Problem(
            path, f"expected 15 bytes at most, or an altname that an interface has, got {shown(name)} (see: ip link)"
        )
        for path, name in long.items()
        if not any(link.is_meant_by(name) for link in present)
    ]
    if problems:
        raise ConfigError(source, problems)
    return settings
