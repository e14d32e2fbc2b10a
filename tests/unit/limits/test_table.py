"""Promises of cnf.limits.table: which limits are taken, and that all else is refused with its key path."""

from ipaddress import IPv4Network, IPv6Network
from typing import get_args

import pytest

from cnf import config
from cnf.abi import FRAGMENTS, TRAFFIC
from cnf.errors import ConfigError
from cnf.limits.table import RULE as READ_RULE
from cnf.limits.table import Limits, Rule, Traffic, written
from cnf.limits.token_bucket import Meter

ETH0 = '[[interfaces]]\nname = "eth0"\n'
RULE = '[[limits.rules]]\nname = "r"\nprefixes = ["::/0"]\n'


def limits(text: str) -> Limits:
    """Return the [limits] of a configuration with an interface and ``text``."""
    found = config.parse(ETH0 + text, "test.toml").limits
    assert found is not None
    return found


def rule(text: str) -> Rule:
    """Return the one rule of the options in ``text``."""
    (only,) = limits(RULE + text).rules
    return only


def problems(text: str) -> list[str]:
    """Return what is wrong with ``text``."""
    with pytest.raises(ConfigError) as caught:
        limits(text)
    return [str(problem) for problem in caught.value.problems]


def test_without_the_table_what_is_set_at_run_time_holds() -> None:
    """Then there are no rules, and room for few sources."""
    assert config.for_interfaces(["eth0"]).limits == Limits(mode="enforce", max_sources=16_384)
    assert not config.for_interfaces(["eth0"]).limits.say_anything


@pytest.mark.parametrize(
    "text",
    [
        'deny = ["192.0.2.1"]',
        'unreadable = "drop"',
        '[[limits.rules]]\nname = "r"\nprefixes = ["192.0.2.1"]\npackets_per_second = 1',
        '[[limits.sets]]\nname = "s"\nfile = "/s"\naction = "allow"',
    ],
)
def test_limits_that_say_anything(text: str) -> None:
    """They are lost where the kernel takes no program with limits."""
    assert limits(f"[limits]\n{text}").say_anything


def test_empty_table_limits_nothing_and_cannot_drop() -> None:
    """What [limits] alone switches on is shadow mode, without a rule."""
    assert limits("[limits]") == Limits(mode="shadow", max_sources=262_144, ipv6_source_prefix=64, max_rules=1024)


def test_traffic_is_what_the_program_tells_apart() -> None:
    """The protocols that a rule may name are those of the program, in its order, and all fragments by one word."""
    assert get_args(Traffic) == (*(each for each in TRAFFIC if each not in FRAGMENTS), "fragment")


def test_rule_has_the_mode_of_the_table_or_its_own() -> None:
    """A rule without a mode follows limits.mode."""
    found = limits(
        '[limits]\nmode = "enforce"\n'
        + RULE
        + "bits_per_second = 8\n"
        + RULE.replace('"r"', '"s"')
        + 'mode = "off"\nbits_per_second = 8'
    )
    assert [found.mode_of(each) for each in found.rules] == ["enforce", "off"]


@pytest.mark.parametrize(
    ("value", "rate"),
    [
        ("8", 8),
        ('"8"', 8),
        ('"64k"', 64_000),
        ('"1.5M"', 1_500_000),
        ('"0.064k"', 64),
        ('"1G"', 10**9),
        ("999999999", 999_999_999),
        ('"1.000001G"', 1_000_001_000),
        ('"1T"', 10**12),
    ],
)
def test_bits_have_decimal_units(value: str, rate: int) -> None:
    """1k is 1,000 bits, as network people count."""
    assert rule(f"bits_per_second = {value}").bits_per_second == rate


@pytest.mark.parametrize(
    "value",
    ["7", "0", "-8", '"7.9"', '"8.5"', '"1.1T"', '"8 k"', '"8K"', '"8kb"', '"-8k"',
     '"1e3"', '"٨"', "8.0", "true", "[]"],
)  # fmt: skip
def test_bits_are_whole_and_in_their_range(value: str) -> None:
    """Less than a byte a second, a part of a bit, and units that are not known, are refused."""
    (only,) = problems(RULE + f"bits_per_second = {value}")
    assert only.startswith("limits.rules[0].bits_per_second: expected bits a second from 8 to 1000000000000, such as ")


def test_high_rates_are_whole_thousands() -> None:
    """A rate that 64 bits could not keep exactly for long is refused instead of rounded."""
    (only,) = problems(RULE + "bits_per_second = 1_000_000_001")
    assert only == (
        "limits.rules[0].bits_per_second: expected whole thousands of bits in a rate above 1G, got 1000000001"
    )


def test_open_burst_is_a_second_of_the_rate() -> None:
    """A rule need not say its burst; a frame always fits."""
    assert rule("packets_per_second = 7").packets == Meter(7, 7, 1)
    assert rule('bits_per_second = "8M"').octets == Meter(8_000_000, 1_000_000, 8)
    assert rule("bits_per_second = 8").octets == Meter(8, 65_536, 8)
    assert rule("bits_per_second = 8").packets is None


def test_prefixes_are_networks() -> None:
    """IPv4 and IPv6 may stand side by side; an address alone is a prefix of its whole length."""
    found = limits('[limits]\nallow = ["0.0.0.0/0", "2001:DB8::/32", "192.0.2.1", "::1"]').allow
    everything, documentation = IPv4Network("0.0.0.0/0"), IPv6Network("2001:db8::/32")
    assert found == (everything, documentation, IPv4Network("192.0.2.1/32"), IPv6Network("::1/128"))


@pytest.mark.parametrize(
    ("value", "right"), [("10.0.0.1/8", "10.0.0.0/8"), ("2001:db8::1/64", "2001:db8::/64"), ("1.2.3.4/0", "0.0.0.0/0")]
)
def test_host_bits_are_refused_with_the_right_prefix(value: str, right: str) -> None:
    """A slip of the pen is not guessed at, but the prefix that was perhaps meant is named."""
    expected = f'limits.deny[1]: expected a prefix without host bits, got "{value}" (write "{right}")'
    assert problems(f'[limits]\ndeny = ["::/0", "{value}"]') == [expected]


@pytest.mark.parametrize(
    "value",
    ['"10.0.0.0/33"', '"::/129"', '"10.0.0/8"', '"10.0.0.0/255.0.0.0"', '"fe80::%eth0/64"', '"eth0"', '""', '"/8"',
     "10", '"010.0.0.0/8"', '"10.0.0.0/8 "', '"٨.0.0.0/8"', '"::/0/0"'],
)  # fmt: skip
def test_what_is_no_prefix_is_refused(value: str) -> None:
    """Masks, zones, names and numbers out of range are no prefix."""
    (only,) = problems(f"[limits]\nallow = [{value}]")
    assert only.startswith('limits.allow[0]: expected a prefix such as "192.0.2.0/24" or "2001:db8::/32", got ')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "limits.rules[0]: expected packets_per_second, bits_per_second or both"),
        (
            "packets_per_second = 1\nburst_bytes = 9000",
            "limits.rules[0].burst_bytes: expected only beside bits_per_second",
        ),
        (
            "bits_per_second = 8\nburst_packets = 1",
            "limits.rules[0].burst_packets: expected only beside packets_per_second",
        ),
        (
            "packets_per_second = 0",
            "limits.rules[0].packets_per_second: expected an integer from 1 to 1000000000, got 0",
        ),
        (
            f"packets_per_second = {2**64}",
            f"limits.rules[0].packets_per_second: expected an integer from 1 to 1000000000, got {2**64}",
        ),
        (
            'packets_per_second = 1\nbucket = "both"',
            'limits.rules[0].bucket: expected source or prefix, got "both"',
        ),
        (
            'packets_per_second = 1\nprotocols = ["udp", "dns"]',
            'limits.rules[0].protocols[1]: expected tcp, tcp_syn, udp, icmp, icmpv6, other or fragment, got "dns"',
        ),
        (
            "packets_per_second = 1\nprotocols = []",
            "limits.rules[0].protocols: expected an array of protocols, at least one, got an empty array",
        ),
        (
            "packets_per_second = 1\ninterfaces = []",
            "limits.rules[0].interfaces: expected an array of interfaces, at least one, got an empty array",
        ),
        (
            "packets_per_second = 1\npacket_per_second = 1",
            "limits.rules[0].packet_per_second: unknown key, did you mean packets_per_second?",
        ),
    ],
)
def test_rule_with_a_mistake_is_one_problem(text: str, expected: str) -> None:
    """Each mistake in a rule is named with its key path and what was expected there."""
    assert problems(RULE + text) == [expected]


def test_name_is_one_that_metrics_can_carry() -> None:
    """A name is short, plain and a rule's own."""
    long = "x" * 65
    for name in ("", "a b", "ä", "a/b", long):
        (only,) = problems(f'[[limits.rules]]\nname = "{name}"\nprefixes = ["::/0"]\npackets_per_second = 1')
        assert only.startswith("limits.rules[0].name: expected a name of 1 to 64 letters, digits, dots, dashes and ")
    twice = RULE + "packets_per_second = 1\n"
    assert problems(twice + twice) == ['limits.rules[1].name: expected each rule once, got "r" again']


def test_burst_of_a_frame_at_least() -> None:
    """A bucket that a frame of 1,514 bytes never fits would be a block in disguise."""
    assert rule("bits_per_second = 8\nburst_bytes = 1514").burst_bytes == 1514
    (only,) = problems(RULE + "bits_per_second = 8\nburst_bytes = 1513")
    assert only.startswith("limits.rules[0].burst_bytes: expected bytes from 1514 to 1000000000000, ")


@pytest.mark.parametrize(
    ("rates", "key", "most"),
    [
        ("packets_per_second = 1", "burst_packets", 864_000),  # ten days
        ("packets_per_second = 1000", "burst_packets", 864_000_000),
        ("packets_per_second = 1000\nbits_per_second = 999999937", "burst_packets", 2305),  # a second 10^18
        ('bits_per_second = "1k"', "burst_bytes", 108_000_000),
        ("bits_per_second = 999999937", "burst_bytes", (1 << 61) // (8 * 10**9)),
    ],
)
def test_burst_is_as_long_as_64_bits_can_keep(rates: str, key: str, most: int) -> None:
    """A burst that the program's words cannot keep exactly is refused with the greatest that they can."""
    assert rule(f"{rates}\n{key} = {most}")
    (only,) = problems(f"{RULE}{rates}\n{key} = {most + 1}")
    assert only.startswith(f"limits.rules[0].{key}: expected at most {most} at the rule's rates, got {most + 1} (")


def test_every_problem_of_the_table_is_found_in_one_go() -> None:
    """Mistakes of the table, of its lists and of several rules come together."""
    text = """
        [limits]
        mode = "on"
        allow = ["10.0.0.1/8", 7]
        max_source = 1
        ipv6_source_prefix = 0
        max_rules = 15
        [[limits.rules]]
        name = "a"
        prefixes = []
        burst_packets = 0
        [[limits.rules]]
        name = "a"
        bits_per_second = 7
        """
    assert [found.partition(":")[0] for found in problems(text)] == [
        "limits.mode",
        "limits.allow[0]",
        "limits.allow[1]",
        "limits.max_source",
        "limits.ipv6_source_prefix",
        "limits.max_rules",
        "limits.rules[0].prefixes",
        "limits.rules[0].burst_packets",
        "limits.rules[0]",
        "limits.rules[0].burst_packets",
        "limits.rules[1].bits_per_second",
        "limits.rules[1].prefixes",
        "limits.rules[1].name",
    ]


def test_rule_is_written_as_it_is_read() -> None:
    """A rule can be shown as the table that one would write, without the keys that have their default."""
    text = 'packets_per_second = 7\nbits_per_second = "1.5M"\nprotocols = ["udp"]\nbucket = "source"\nmode = "off"'
    found = rule(text)
    assert written(found) == {
        "name": "r",
        "prefixes": ["::/0"],
        "packets_per_second": 7,
        "bits_per_second": 1_500_000,
        "protocols": ["udp"],
        "mode": "off",
    }
    assert READ_RULE(written(found), "") == found
