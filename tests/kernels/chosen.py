"""The tests that run on each of the kernels: what every kernel must do, chosen to be quick."""

from __future__ import annotations

from typing import Final

BLUEPRINTS: Final = "tests/bpf/test_blueprints.py::test_it_loads_and_does_all_that_it_has"
FULLEST: Final = ("cache limits records evicted ipv6 vlan", "lru_hash limits records ipv6 vlan")
CHOSEN: Final = (
    *(f"{BLUEPRINTS}[{each}]" for each in FULLEST),
    *(f"{BLUEPRINTS}[{each}]" for each in ("cache", "cache ipv6 vlan", "cache limits", "cache limits ipv6 vlan")),
    *(f"{BLUEPRINTS}[{each}]" for each in ("cache evicted ipv6 vlan", "lru_hash", "lru_hash limits", "lru_hash ipv6")),
    "tests/bpf/test_forms.py::test_a_form_is_passed_and_counted_once_where_the_table_says",
    "tests/net/test_doctor.py::test_limits_without_cap_perfmon",
    "tests/net/test_takeover.py::test_a_spent_bucket_stays_spent[source]",
    "tests/net/test_tc.py::test_left_on_purpose[clsact]",
    "tests/net/test_tc.py::test_a_reload_changes_mode_and_directions",
)
"""Programs that differ most, every packet form, a daemon with limits in force that is killed and started again, and one
at TC, by clsact and by what the kernel has."""
HARDENED: Final = f"""\
echo 2 >/proc/sys/net/core/bpf_jit_harden
echo confidentiality >/sys/kernel/security/lockdown
exec "$@" {" ".join(f"'{BLUEPRINTS}[{each}]'" for each in FULLEST)}
"""
PYTEST: Final = (
    ".venv/bin/python",
    "-m",
    "pytest",
    "-q",
    "--color=no",
    "--durations=10",
    "-o",
    "faulthandler_timeout=0",
)


SCRIPT: Final = f"""\
set -e
export CNF_STRICT=1
"$@" {" ".join(f"'{each}'" for each in CHOSEN)}
{HARDENED}"""
COMMAND: Final = ("sh", "-c", SCRIPT, "sh", *PYTEST)
