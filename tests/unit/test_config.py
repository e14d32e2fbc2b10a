"""Promises of cnf.config: what is taken, and that all else is refused with its key path."""

import datetime as dt
import json
import os
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf import config
from cnf.errors import CnfError, ConfigError, PrivilegeError
from cnf.limits.table import Limits, Rule
from cnf.readers import is_altname
from tests.unit.plain_user import plain_user

EXAMPLE = Path(__file__).parents[2] / "deploy" / "cnf.toml"
ETH0 = '[[interfaces]]\nname = "eth0"\n'


def problems(text: str) -> list[str]:
    """Return what parse() finds wrong with ``text``."""
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "test.toml")
    assert "\n" not in str(caught.value)
    return [str(problem) for problem in caught.value.problems]


def problem(text: str) -> str:
    """Return the one thing that parse() finds wrong with ``text`` beside an interface that is right."""
    (only,) = problems(ETH0 + text)
    return only


def refusal(path: Path) -> str:
    """Return the one thing that load() finds wrong with ``path``."""
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert caught.value.exit_status == 78
    (only,) = caught.value.problems
    return str(only)


# What is taken


def test_interface_alone_is_enough() -> None:
    """Every option but the interfaces has a default."""
    settings = config.parse(ETH0, "test.toml")
    assert settings == config.Settings(interfaces=(config.Interface("eth0"),))
    assert settings == config.for_interfaces(["eth0"])


def test_every_option_is_read() -> None:
    """Each option of each table arrives in its setting."""
    settings = config.parse(
        """
        on_exit = "keep"
        [[interfaces]]
        name = "ens*"
        mode = "native"
        [[interfaces]]
        name = 'q"x\\y'
        mode = "generic"
        [flows]
        max_entries = 16777216
        idle_timeout = "2m"
        ended_timeout = "500ms"
        drain_interval = "1.5s"
        ipv6 = false
        vlan = false
        table = "cache"
        evicted_records = true
        [metrics]
        listen = "[::1]:80"
        top_flows = 0
        max_series = 1
        [control]
        socket = "/run/s"
        group = "netops"
        [log]
        level = "debug"
        format = "json"
        [limits]
        mode = "enforce"
        allow = ["10.0.0.0/8", "fd00::/8"]
        deny = ["192.0.2.1"]
        max_sources = 1
        ipv6_source_prefix = 56
        max_rules = 65536
        [[limits.rules]]
        name = "dns.v4_1-a"
        prefixes = ["0.0.0.0/0", "::/0"]
        packets_per_second = 10000
        burst_packets = 20000
        bits_per_second = "1.5G"
        burst_bytes = "4M"
        bucket = "prefix"
        protocols = ["udp", "fragment"]
        interfaces = ["eth*", "wg0"]
        mode = "off"
        """,
        "test.toml",
    )
    everywhere = IPv4Network("0.0.0.0/0"), IPv6Network("::/0")
    rule = Rule(
        "dns.v4_1-a", everywhere, 10_000, 20_000, 1_500_000_000, 4_000_000, "prefix", ("udp", "fragment"),
        ("eth*", "wg0"), "off",
    )  # fmt: skip
    assert settings == config.Settings(
        on_exit="keep",
        interfaces=(config.Interface("ens*", "native"), config.Interface('q"x\\y', "generic")),
        flows=config.Flows(1 << 24, 120.0, 0.5, 1.5, ipv6=False, vlan=False, table="cache", evicted_records=True),
        metrics=config.Metrics("[::1]:80", 0, 1),
        control=config.Control("/run/s", "netops"),
        log=config.Log("debug", "json"),
        limits=Limits(
            mode="enforce",
            allow=(IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8")),
            deny=(IPv4Network("192.0.2.1/32"),),
            max_sources=1,
            ipv6_source_prefix=56,
            max_rules=65536,
            rules=(rule,),
        ),
    )


def test_settings_are_immutable() -> None:
    """Settings can be shared between threads, because nobody can change them."""
    settings = config.for_interfaces(["eth0"])
    tables: tuple[attrs.AttrsInstance, ...]
    tables = (
        settings,
        *settings.interfaces,
        settings.flows,
        settings.metrics,
        settings.control,
        settings.log,
        Limits(),
    )
    for table in tables:
        for name, value in attrs.asdict(table).items():
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(table, name, value)


def test_example_holds_every_option_with_its_default() -> None:
    """deploy/cnf.toml is what the daemon does without it, and says of each option what the option says of itself."""
    assert config.load(EXAMPLE) == config.for_interfaces(["eth0"])
    told = {}
    table = ""
    for line in EXAMPLE.read_text().splitlines():
        if found := re.fullmatch(r"(?:# )?\[+([\w.]+)\]+ +# (.+)", line):
            table = found[1]
            told[table] = found[2]
        elif found := re.fullmatch(r"(?:# )?(\w+) = .+?  +# (.+)", line):
            told[f"{table}.{found[1]}".lstrip(".")] = found[2]
    assert told == meanings(config.Settings, "")


def meanings(table: type[attrs.AttrsInstance], path: str) -> dict[str, str]:
    """Return what a table's options, and those of the tables in it, say of themselves, by key path."""
    found = {}
    for option in attrs.fields(table):
        kind, _, found[path + option.name] = get_args(option.type)
        for inner in (kind, *get_args(kind)):
            if isinstance(inner, type) and attrs.has(inner):
                found |= meanings(inner, f"{path}{option.name}.")
    return found


def test_example_of_limits_holds_their_defaults() -> None:
    """The [limits] table that deploy/cnf.toml shows, but leaves out, is what an empty one does, with a rule and set."""
    text = re.sub(r"(?m)^# (?=\[|\w+ = )", "", EXAMPLE.read_text())
    limits = config.parse(text, "test.toml").limits
    assert limits is not None
    assert limits == Limits(rules=limits.rules, sets=limits.sets)
    assert (len(limits.rules), len(limits.sets)) == (1, 1)


@given(st.integers(100, 24 * 3600 * 1000))
def test_durations_keep_their_milliseconds(milliseconds: int) -> None:
    """A duration means the same in every unit that can write it."""
    written = [f"{milliseconds}ms", f"{milliseconds / 1000:.3f}s"]
    if milliseconds % 60_000 == 0:
        written.append(f"{milliseconds // 60_000}m")
    for text in written:
        settings = config.parse(f'{ETH0}[flows]\nidle_timeout = "{text}"', "test.toml")
        assert settings.flows.idle_timeout == milliseconds / 1000


@pytest.mark.parametrize(("text", "seconds"), [("100ms", 0.1), ("1m", 60), ("0.5h", 1800), ("24h", 86400)])
def test_duration_units(text: str, seconds: float) -> None:
    """Milliseconds, seconds, minutes and hours are known, with decimals, from 100 ms to a day."""
    assert config.parse(f'{ETH0}[flows]\ndrain_interval = "{text}"', "test.toml").flows.drain_interval == seconds


@given(
    st.one_of(
        st.ip_addresses(v=4),
        st.ip_addresses(v=6),
        st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,8})?", fullmatch=True),
    ),
    st.integers(1, 65535),
)
def test_listen_splits_into_host_and_port(host: IPv4Address | IPv6Address | str, port: int) -> None:
    """Host and port come out of listen as they were put in, an IPv6 address without its brackets."""
    listen = f"[{host}]:{port}" if isinstance(host, IPv6Address) else f"{host}:{port}"
    metrics = config.parse(f'{ETH0}[metrics]\nlisten = "{listen}"', "test.toml").metrics
    assert (metrics.listen, metrics.host, metrics.port) == (listen, str(host), port)


# What is refused


def test_empty_file_lacks_interfaces() -> None:
    """An empty configuration says what it lacks."""
    assert problems("") == ["interfaces: missing: at least one [[interfaces]] table with a name"]
    with pytest.raises(ConfigError, match="interfaces"):
        config.for_interfaces([])


def test_every_problem_is_found_in_one_go() -> None:
    """Ten mistakes are ten problems of one error, each with its key path, in one line with the source."""
    text = """
        color = true
        [[interfaces]]
        name = "eth0"
        mode = "fast"
        [[interfaces]]
        name = "eth0"
        mod = "auto"
        [[interfaces]]
        mode = 7
        [flows]
        max_entries = -1
        idle_timeout = 60
        drain_intervall = "5s"
        [metrics]
        listen = ":9995"
        """
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "/etc/cnf/cnf.toml")
    assert [found.path for found in caught.value.problems] == [
        "color",
        "interfaces[0].mode",
        "interfaces[1].mod",
        "interfaces[1].name",
        "interfaces[2].mode",
        "interfaces[2].name",
        "flows.max_entries",
        "flows.idle_timeout",
        "flows.drain_intervall",
        "metrics.listen",
    ]
    assert str(caught.value).startswith("configuration /etc/cnf/cnf.toml: color: unknown key")
    assert 'interfaces[0].mode: expected auto, native, generic or tc, got "fast"; ' in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[flows]\nmax_entrys = 1", "flows.max_entrys: unknown key, did you mean max_entries?"),
        ("[flow]", "flow: unknown key, did you mean flows?"),
        ("[log]\ncolour = 1", "log.colour: unknown key, expected level, format"),
        ('[log]\n"a\\u001b b" = 1', 'log."a\\u001b b": unknown key, expected level, format'),
    ],
)
def test_unknown_key_names_the_nearest_known_one(text: str, expected: str) -> None:
    """An unknown key is refused with the known one that looks like it, or with all that are known."""
    assert problem(text) == expected


@pytest.mark.parametrize(
    "value", ["-1", "0", "16777217", str(2**64), "true", "1.0", '"1"', "[]", "{}", "nan", "1979-05-27"]
)
def test_max_entries_is_an_integer_in_its_range(value: str) -> None:
    """Numbers out of range, booleans, floats and all other types are no table size."""
    assert problem(f"[flows]\nmax_entries = {value}").startswith(
        "flows.max_entries: expected an integer from 1 to 16777216, got "
    )


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [
        ("max_interfaces", 1, 65_536),
        ("flows.max_entries", 1, 1 << 24),
        ("metrics.top_flows", 0, 10_000),
        ("metrics.max_series", 1, 1_000_000),
    ],
)
def test_bounds_of_integers(key: str, least: int, most: int) -> None:
    """The least and the most of each option are taken, and one less or more is not."""
    for number in (least, most):
        config.parse(f"{key} = {number}\n{ETH0}", "test.toml")
    for number in (least - 1, most + 1):
        assert problems(f"{key} = {number}\n{ETH0}") == [
            f"{key}: expected an integer from {least} to {most}, got {number}"
        ]


@pytest.mark.parametrize("value", ["0", "1", '"true"', "[true]"])
def test_booleans_are_true_or_false(value: str) -> None:
    """No integer and no text stands for a boolean."""
    assert problem(f"[flows]\nipv6 = {value}").startswith("flows.ipv6: expected true or false, got ")


@pytest.mark.parametrize("value", ['"hash"', '"CACHE"', "1", "true"])
def test_table_is_one_of_two(value: str) -> None:
    """A flow table of another kind is refused with those that there are."""
    assert problem(f"[flows]\ntable = {value}").startswith("flows.table: expected cache or lru_hash, got ")


def test_evicted_records_need_the_cache() -> None:
    """An LRU hash tells nobody what it evicts, so that its evicted flows cannot be asked for."""
    assert problem('[flows]\ntable = "lru_hash"\nevicted_records = true') == (
        'flows.evicted_records: expected only beside table = "cache", got true with "lru_hash" '
        "(which tells nobody what it evicts)"
    )


@pytest.mark.parametrize(("machine", "table"), [("x86_64", "cache"), ("AMD64", "cache"), ("aarch64", "lru_hash")])
def test_default_table_goes_by_the_processor(machine: str, table: str) -> None:
    """The cache is the default where it has been measured to win."""
    assert config.default_table(machine) == table


@pytest.mark.parametrize("value", ["60", "1.5", '"60"', '"5 s"', '"-5s"', '"1e3s"', '"٣s"', '"s"', '"5d"', "true"])
def test_duration_needs_its_unit(value: str) -> None:
    """A number without a unit, or with one that is not known, is refused with a hint."""
    assert problem(f"[flows]\nidle_timeout = {value}").endswith("(write a number and its unit: ms, s, m or h)")


@pytest.mark.parametrize("value", ["0s", "99ms", "24.001h", "999999999h"])
def test_duration_has_a_range(value: str) -> None:
    """A drain every nanosecond or once a year is no setting."""
    expected = f'flows.drain_interval: expected a duration from "100ms" to "24h", such as "5s", got "{value}"'
    assert problem(f'[flows]\ndrain_interval = "{value}"') == expected


@pytest.mark.parametrize(
    "value",
    ["9995", "localhost", "127.0.0.1:0", "127.0.0.1:65536", "256.0.0.1:80", "1.2.3:80", "::1:80", "[::1]", "[::g]:80",
     "[1.2.3.4]:80", "a b:80", "*:80", "h:8O", "h:٨", "h:000080", "", ":"],
)  # fmt: skip
def test_listen_is_host_and_port(value: str) -> None:
    """What cannot be listened on is refused."""
    assert problem(f"[metrics]\nlisten = {json.dumps(value)}").startswith('metrics.listen: expected "HOST:PORT" or ')


def test_host_name_of_253_characters_is_the_longest() -> None:
    """The longest host name of DNS is taken, and one that is longer is refused, without a hint."""
    name = ".".join(["a" * 63] * 4)[:253]
    assert config.parse(f'{ETH0}[metrics]\nlisten = "{name}:80"', "test.toml").metrics.host == name
    assert problem(f'[metrics]\nlisten = "{name}a:80"').endswith('a:80"')


def test_listen_on_every_address_is_said_in_full() -> None:
    """A port alone would open the exporter to the network by accident, so it is refused with what to write."""
    assert problem('[metrics]\nlisten = ":9995"').endswith(
        'got ":9995" (for every address write "0.0.0.0:9995" or "[::]:9995")'
    )


@pytest.mark.parametrize(
    "name",
    ["", "a" * 128, "ä" * 64, "../eth0", "eth/0", ".", "..", "eth 0", "eth0\n", "eth0:1", "eth\0", 0],
)
def test_interface_name_is_one_that_the_kernel_takes(name: object) -> None:
    """A name of more bytes than an altname may have, with a slash, a colon or white space, is none."""
    (only,) = problems(f"[[interfaces]]\nname = {json.dumps(name)}")
    assert only.startswith("interfaces[0].name: expected an interface (1 to 15 bytes, an altname to 127) or shell")


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("any", 'for every interface write "*"'),
        ("eth0@if5", 'behind "@" is what it is paired with, or stands on: write "eth0"'),
        ("eth0.5@eth0", 'behind "@" is what it is paired with, or stands on: write "eth0.5"'),
        ("eth0:1", 'behind ":" is an address label: write "eth0"'),
        ("eth0,eth1", 'write each by itself: "eth0", "eth1"'),
        ("eth0, eth1", 'write each by itself: "eth0", "eth1"'),
        ("eth0 eth1", 'write each by itself: "eth0", "eth1"'),
        ("eth*,ens[1,2]", 'write each by itself: "eth*", "ens[1,2]"'),
    ],
)
def test_what_is_no_name_is_refused_with_its_likely_meaning(name: str, meaning: str) -> None:
    """What other commands take, or show, for an interface is refused with what to write, in rules too."""
    (only,) = problems(f"[[interfaces]]\nname = {json.dumps(name)}")
    assert only.endswith(f"({meaning})")
    rule = (
        f'[[limits.rules]]\nname = "a"\nprefixes = ["::/0"]\npackets_per_second = 1\ninterfaces = [{json.dumps(name)}]'
    )
    (only,) = problems(f"{ETH0}\n{rule}")
    assert only.startswith("limits.rules[0].interfaces[0]: ")
    assert only.endswith(f"({meaning})")


def test_what_means_nothing_has_no_hint() -> None:
    """Where there is nothing before a label, nothing is proposed."""
    (only,) = problems('[[interfaces]]\nname = ":1"')
    assert only.endswith('got ":1"')


@pytest.mark.parametrize(
    ("name", "is_name"),
    [("*" * 64, True), ("*" * 65, False), ("\udc80\udcff", True)]
    + [(code, False) for code in ("\ud800", "\udc00", "\udc7f", "\udd00", "\udfff")],
)
def test_names_at_the_edge(name: str, *, is_name: bool) -> None:
    """The longest pattern is one, and a surrogate is part of a name where it stands for a byte."""
    if is_name:
        assert config.for_interfaces([name]).interfaces == (config.Interface(name),)
        return
    with pytest.raises(ConfigError):
        config.for_interfaces([name])


def test_name_that_is_too_long_for_its_own_is_an_altname() -> None:
    """An interface's own name has 15 bytes at most; a longer one is another name of it, a pattern is neither."""
    assert [is_altname(name) for name in ("a" * 15, "a" * 16, "ä" * 8, "a" * 16 + "*")] == [False, True, True, False]


@pytest.mark.parametrize("name", ["ens[1,2]", "eth[@]0", "veth-0_1.2", 'q"x\\y', "-", "@if5", "a" * 127])
def test_odd_names_are_names(name: str) -> None:
    """What the kernel takes is taken, if it is not likely to mean another."""
    assert config.for_interfaces([name]).interfaces == (config.Interface(name),)


def test_raw_bytes_of_the_command_line_count_as_bytes() -> None:
    """A name that is not UTF-8 is taken from the command line as the kernel has it."""
    name = os.fsdecode(b"\xff" * 127)
    assert config.for_interfaces([name]).interfaces == (config.Interface(name),)
    with pytest.raises(ConfigError, match=r"configuration command line: interfaces\[0\].name") as caught:
        config.for_interfaces([name + "x"])
    assert str(caught.value).isascii()


def test_same_interface_twice_is_refused() -> None:
    """A NIC is configured once, even where its tables have other mistakes."""
    expected = 'interfaces[1].name: expected each interface once, got "eth0" again'
    assert problem(ETH0) == expected
    assert expected in problems(ETH0 + ETH0 + 'mode = ""')


@pytest.mark.parametrize("value", ["cnf.sock", "run/cnf.sock", "/", "/run/", "", "/" + "a" * 107, "/a\0"])
def test_socket_is_an_absolute_path_that_fits(value: str) -> None:
    """A path that bind(2) would refuse, or that depends on the working directory, is refused."""
    assert problem(f"[control]\nsocket = {json.dumps(value)}").startswith("control.socket: expected the absolute path")


def test_socket_of_107_bytes_fits() -> None:
    """The longest path of unix(7) is taken."""
    path = "/" + "a" * 106
    assert config.parse(f'{ETH0}[control]\nsocket = "{path}"', "test.toml").control.socket == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flows = 3", "flows: expected a table, got 3"),
        ('log = "debug"', 'log: expected a table, got "debug"'),
        ("[[metrics]]", "metrics: expected a table, got an array"),
        ("control = []", "control: expected a table, got an empty array"),
        ("[log]\nlevel = {}", "log.level: expected debug, info, warning or error, got a table"),
        ('[log]\nformat = "JSON"', 'log.format: expected auto, console or json, got "JSON"'),
        ('[control]\ngroup = "a:b"', 'control.group: expected the name of a group, or "" for none, got "a:b"'),
        ('[control]\ngroup = "a\\n"', 'control.group: expected the name of a group, or "" for none, got "a\\n"'),
    ],
)
def test_wrong_type_is_one_problem(text: str, expected: str) -> None:
    """A value of the wrong type gives one problem, which says what was there."""
    (only,) = problems(f"{text}\n{ETH0}")
    assert only == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[interfaces]\nname = "eth0"', "interfaces: expected [[interfaces]] tables, at least one, got a table"),
        ("interfaces = []", "interfaces: expected [[interfaces]] tables, at least one, got an empty array"),
        ('interfaces = ["eth0"]', 'interfaces[0]: expected a table, got "eth0"'),
    ],
)
def test_interfaces_are_an_array_of_tables(text: str, expected: str) -> None:
    """Single brackets and plain names are refused with what to write."""
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    "value",
    ['"\\u001b[31m\\u009b\\u202e"', f'"{"x" * 100_000}"', f"0x{'f' * 100_000}", '"\\"; x"'],
    ids=["control", "long", "huge", "quote"],
)
def test_input_is_quoted_safely(value: str) -> None:
    """What the user wrote cannot steer the terminal that shows the error, and does not fill it."""
    found = problem(f"[log]\nlevel = {value}")
    assert found.isascii()
    assert found.isprintable()
    assert len(found) < 200


# Files


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """A missing file is answered with the two ways out."""
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "none.toml")
    assert [str(problem) for problem in caught.value.problems] == ["No such file or directory"]
    assert caught.value.remedy == "use --interface NAME, or another file with --config FILE"


def test_directory_is_refused(tmp_path: Path) -> None:
    """A directory is no configuration."""
    assert refusal(tmp_path) == "Is a directory"


def test_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are found."""
    path = tmp_path / "latin1.toml"
    path.write_bytes(b'[log]\n# caf\xe9\nlevel = "info"\n')
    assert refusal(path) == "not UTF-8 (at line 2)"


@pytest.mark.parametrize("lines", ["\n", "\r\n"])
def test_a_byte_order_mark_is_passed_over(tmp_path: Path, lines: str) -> None:
    """A file that an editor has put a mark in front of, or ends lines in its own way, is read as any other."""
    path = tmp_path / "marked.toml"
    path.write_bytes(b"\xef\xbb\xbf" + ETH0.replace("\n", lines).encode())
    assert config.load(path) == config.for_interfaces(["eth0"])


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_named(tmp_path: Path, encoding: str, mark: str) -> None:
    """A file in the other common encoding is told from one with a stray byte, and how to convert it is said."""
    path = tmp_path / "wide.toml"
    path.write_bytes(f"{mark}{ETH0}".encode(encoding))
    assert refusal(path) == "UTF-16, and TOML is UTF-8"
    with pytest.raises(ConfigError, match=r"\(save it as UTF-8, or: iconv -f UTF-16 -t UTF-8\)$"):
        config.load(path)


def test_zero_bytes_are_told_with_their_line(tmp_path: Path) -> None:
    """Zero bytes, as a crash leaves them at the end of a file or all over it, are told where they are."""
    path = tmp_path / "torn.toml"
    for data, line in ((ETH0.encode() + bytes(512), 3), (bytes(512), 1)):
        path.write_bytes(data)
        assert refusal(path) == f"a zero byte (at line {line}): no text, or torn by a crash"


def test_a_file_full_of_mistakes_is_refused_in_a_line_that_can_be_read() -> None:
    """Of two thousand problems the first are named and the others counted; the details have them all."""
    rules = "".join(f'[[limits.rules]]\nname = "r{index}"\n' for index in range(2000))
    with pytest.raises(ConfigError) as caught:
        config.parse(ETH0 + rules, "test.toml")
    assert len(caught.value.problems) >= 2000
    assert len(str(caught.value)) < 4000
    assert str(caught.value).endswith(f"; and {len(caught.value.problems) - 20:,} more")
    assert len(caught.value.details.splitlines()) == len(caught.value.problems)


def test_bad_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    """A syntax error tells its line."""
    path = tmp_path / "bad\x1b.toml"
    path.write_text(ETH0 + "[flows\n")
    assert refusal(path).startswith("not TOML: ")
    with pytest.raises(ConfigError, match=r"bad\\x1b.toml: not TOML: .*at line 3"):
        config.load(path)


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, '"\x1b"', f"[{'k' * 5000}]\n" * 2])
def test_hostile_toml_is_refused(text: str) -> None:
    """What TOML's own parser breaks on is an error like any other."""
    (only,) = problems(text)
    assert only.isprintable()
    assert len(only) < 300


@pytest.mark.parametrize("size", [config.MAX_FILE_BYTES + 1, 50 << 20])
def test_large_file_is_refused(tmp_path: Path, size: int) -> None:
    """A file over 4 MiB is no configuration."""
    path = tmp_path / "large.toml"
    with path.open("wb") as file:
        file.truncate(size)
    assert refusal(path) == "larger than 4 MiB"


def test_endless_file_is_not_read_whole() -> None:
    """The size is not trusted to the file: one without an end is refused too."""
    assert refusal(Path("/dev/zero")) == "larger than 4 MiB"


def test_file_of_four_mebibytes_is_read(tmp_path: Path) -> None:
    """The limit is the last size that is taken."""
    path = tmp_path / "cnf.toml"
    path.write_text((ETH0 + "#").ljust(config.MAX_FILE_BYTES, "x"))
    assert config.load(path) == config.for_interfaces(["eth0"])


def test_unreadable_file_is_a_matter_of_privilege(tmp_path: Path) -> None:
    """A file that this user may not read exits 77 and says what to do."""
    path = tmp_path / "secret.toml"
    path.write_text(ETH0)
    path.chmod(0)
    with plain_user(), pytest.raises(PrivilegeError, match=r"secret.toml: Permission denied \(run as root") as caught:
        config.load(path)
    assert caught.value.exit_status == 77


# Anything at all

NAMES = st.sampled_from(
    [part.name for part in attrs.fields(config.Settings)]
    + [
        option.name
        for table in (config.Interface, config.Flows, config.Metrics, config.Control, config.Log, Limits, Rule)
        for option in attrs.fields(table)
    ]
)
SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["eth0", "auto", "5s", "[::1]:80", "info", "/run/s"])
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=4),
    max_leaves=12,
)


def toml(value: object) -> str:
    """Write ``value`` as an inline TOML value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
    return str(value)


def parsed(text: str) -> config.Settings | ConfigError:
    """Return what parse() returns or raises, if it is one of the two."""
    try:
        return config.parse(text, "test.toml")
    except ConfigError as error:
        return error


@given(st.dictionaries(NAMES | st.text(), VALUES, max_size=6))
def test_any_document_is_taken_or_refused(document: dict[str, object]) -> None:
    """Whatever TOML can hold gives settings or a ConfigError of one printable line."""
    text = "\n".join(f"{toml(key)} = {toml(value)}" for key, value in document.items())
    outcome = parsed(text)
    if isinstance(outcome, ConfigError):
        assert str(outcome).isprintable()
        assert not [found for found in outcome.problems if not found.path]  # the test has written TOML
    else:
        assert outcome.interfaces


@given(st.text())
def test_any_text_is_taken_or_refused(text: str) -> None:
    """Whatever a file holds gives settings or a ConfigError of one printable line."""
    assert str(parsed(text)).isprintable()


@pytest.mark.parametrize(("length", "text"), [(80, "a" * 80), (81, "a" * 40 + "..." + "a" * 40)])
def test_long_value_is_shown_by_its_ends(length: int, text: str) -> None:
    """A value of 80 characters is shown whole, and of a longer one the first and last 40."""
    assert problem(f'[log]\nlevel = "{"a" * length}"').endswith(f'got "{text}"')


@pytest.mark.parametrize(("length", "shown"), [(64, "a" * 64), (81, f'"{"a" * 40}...{"a" * 40}"')])
def test_long_key_is_shown_by_its_ends(length: int, shown: str) -> None:
    """A key that is no word of a usual length is shown in quotation marks, and by its ends."""
    assert problem(f"[log]\n{'a' * length} = 1") == f"log.{shown}: unknown key, expected level, format"


def test_an_error_is_one_line() -> None:
    """Line breaks of an argument, or of the kernel's words, are none in the message."""
    assert str(CnfError(" a\n b\t\r\nc ")) == "a b c"
