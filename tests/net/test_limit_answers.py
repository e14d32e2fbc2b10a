"""What the control socket answers about the limits: sources and explanations after real traffic, and wrong requests."""

from __future__ import annotations

import csv
import http.client
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.rations import QUICK, SIZE, enforce, packet, ration
from tests.net.users import Stage, as_user

LIMITS: Final = enforce(
    ration("default", 10),
    ration("lab", 20, ["10.0.0.0/8"], bucket="prefix", mode="shadow"),
    ration("dns", 15, ["192.0.2.0/24"], protocols=["udp"], interfaces=["n*"]),
    allow=["198.51.100.0/24"],
    deny=["203.0.113.0/24"],
)
STAY: Final = ("prefix", "origin", "packets", "bytes")
"""What no drain changes of a denied prefix."""
SENT: Final = {
    "192.0.2.1": 40,
    "192.0.2.2": 12,
    "10.0.0.1": 17,
    "10.0.0.2": 17,
    "198.51.100.1": 20,
    "203.0.113.1": 20,
    "2001:db8::1": 30,
    "172.16.0.1": 5,
    "fe80::8": 12,
    "fe80::9": 9,
}


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    """Have one daemon for these tests, with traffic; each must leave its limits as they were."""
    with ExitStack() as stack:
        node = Node(stack)
        wire = node.wire("n0")
        daemon = node.daemon("n0", limits=LIMITS, flows=QUICK | {"idle_timeout": "1h"}).start()
        wire.send(packet(source) for source, count in SENT.items() for _ in range(count))
        daemon.settle(sum(SENT.values()))
        yield daemon
        daemon.drain()


@pytest.fixture
def daemon(served: Daemon) -> Iterator[Daemon]:
    """Check after each test that nothing of the limits has changed."""
    before = _standing(served)
    yield served
    assert _standing(served) == before
    assert served.events("control request failed") == []
    assert served.events("limits changed") == []


def test_sources_are_listed_by_what_was_held_back(daemon: Daemon) -> None:
    """``limits sources`` has who was held back, the most first, with what was sent; ``--all`` has the others, too."""
    sources = daemon.limited_sources("--all")

    names = ("source", "rule", "packets", "dropped_packets", "would_drop_packets")
    shown = [tuple(each[name] for name in names) for each in sources]
    assert shown[:5] == [
        ("192.0.2.1", "dns", 15, 25, 0),
        ("2001:db8::/64", "default", 10, 20, 0),
        ("203.0.113.0/24", None, 0, 20, 0),
        ("10.0.0.0/8", "lab", 20, 0, 14),
        ("fe80::8", "default", 10, 2, 0),
    ]
    others = [("172.16.0.1", "default", 5, 0, 0), ("192.0.2.2", "dns", 12, 0, 0), ("fe80::9", "default", 9, 0, 0)]
    assert sorted(shown[5:]) == others
    modes, shared = ("enforce", "enforce", None, "shadow"), (False, False, False, True)
    for source, mode, is_shared in zip(sources, modes, shared, strict=False):
        assert (source["mode"], source["shared"]) == (mode, is_shared)
        for kind in ("", "dropped_", "would_drop_"):
            assert source[f"{kind}bytes"] == source[f"{kind}packets"] * SIZE
        assert source["tokens_packets"] is None
        assert source["tokens_bytes"] is None if mode is None else 0 <= source["tokens_bytes"] < SIZE
        age = datetime.now(UTC) - datetime.fromisoformat(source["last_over"])
        assert 0 <= age.total_seconds() < 60
        assert source["last_drop"] == (source["last_over"] if mode != "shadow" else None)
    assert all(source["last_drop"] is None is source["last_over"] for source in sources[5:])
    assert [source["source"] for source in daemon.limited_sources()] == [row[0] for row in shown[:5]]


def test_what_is_denied_is_counted_by_prefix(daemon: Daemon) -> None:
    """Every view of the limits, and that of flows, says what became of denied packets, and when they came."""
    dropped = {"packets": 20, "bytes": 20 * SIZE}
    limits = daemon.limits()
    assert limits["denied"] == {"prefixes": 1} | dropped
    (entry,) = limits["deny"]
    assert entry | dropped | {"prefix": "203.0.113.0/24", "origin": "file"} == entry
    seen = [datetime.fromisoformat(entry[name]) for name in ("first_seen", "last_seen")]
    assert seen[0] <= seen[1] < datetime.now(UTC)
    (shown,) = json.loads(daemon.ctl("limits", "deny", "-o", "json").stdout)
    assert {name: shown[name] for name in STAY} == {name: entry[name] for name in STAY}
    assert [line.split()[:3] for line in daemon.ctl("limits", "deny").stdout.splitlines()[1:]] == [
        ["203.0.113.0/24", "file", "20"]
    ]
    (case,) = daemon.limits("explain", "203.0.113.1")["cases"]
    assert {name: case["entry"][name] for name in STAY} == {name: entry[name] for name in STAY}
    assert json.loads(daemon.control("/v1/flows").body)["dropped"] == {"packets": 67, "bytes": 67 * SIZE}
    line = f"denied so far: 20 packets dropped ({20 * SIZE / 1000:.1f} kB) (by prefix: cnfctl limits deny)"
    assert line in daemon.ctl("limits").stdout
    explained = daemon.ctl("limits", "explain", "203.0.113.1").stdout
    assert "its packets are dropped, as 203.0.113.0/24 is denied" in explained
    assert "20 packets dropped" in explained
    none = daemon.ctl("flows", "--filter", "src host 203.0.113.1").stdout
    assert none.endswith("; limits have dropped 67 packets, which make no flow (cnfctl limits)\n")


def test_sources_can_be_sorted_cut_and_printed(daemon: Daemon) -> None:
    """Every order, number and output of ``limits sources`` has the same sources in it."""
    by_packets = daemon.limited_sources("--sort", "packets", "--top", "2")
    assert [(each["source"], each["packets"]) for each in by_packets] == [("10.0.0.0/8", 20), ("192.0.2.1", 15)]
    assert [each["source"] for each in daemon.limited_sources("--sort", "bytes")[:1]] == ["10.0.0.0/8"]

    whole = daemon.limited_sources()
    lines = daemon.ctl("limits", "sources", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["source"] for line in lines] == [each["source"] for each in whole]
    rows = csv.DictReader(io.StringIO(daemon.ctl("limits", "sources", "-o", "csv").stdout))
    assert [row["source"] for row in rows] == [each["source"] for each in whole]
    assert daemon.ctl("limits", "sources").stdout.count("\n") >= len(whole)


def test_what_is_held_back_now_is_told_from_what_was(daemon: Daemon) -> None:
    """A source that sends no more is shown as ``passed`` after a drain, with what it has lost before."""
    daemon.drain()
    assert {source["verdict"] for source in daemon.limited_sources("--all")} == {"passed", "denied"}
    assert {source["bits_per_second"] for source in daemon.limited_sources("--all")} == {0}
    assert not daemon.limits()["deny"][0]["sending"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ("192.0.2.1", "--protocol", "udp"),
            {"verdict": "limited", "prefix": "192.0.2.0/24", "origin": "file", "rule": "dns", "bucket": (15, 25, 0)},
            id="limited",
        ),
        pytest.param(
            ("192.0.2.1", "--protocol", "tcp", "--interface", "n0"),
            {"verdict": "limited", "prefix": "0.0.0.0/0", "origin": "file", "rule": "default", "bucket": None},
            id="limited, but has not sent that",
        ),
        pytest.param(
            ("10.0.0.2",),
            {"verdict": "limited", "prefix": "10.0.0.0/8", "origin": "file", "rule": "lab", "bucket": (20, 0, 14)},
            id="shared bucket",
        ),
        pytest.param(
            ("2001:db8::9", "--protocol", "icmpv6"),
            {"verdict": "limited", "prefix": "::/0", "origin": "file", "rule": "default", "bucket": (10, 20, 0)},
            id="another address of a /64",
        ),
        pytest.param(
            ("fe80::8",),
            {"verdict": "limited", "prefix": "::/0", "origin": "file", "rule": "default", "bucket": (10, 2, 0)},
            id="link-local, a source of its own",
        ),
        pytest.param(
            ("198.51.100.1",),
            {"verdict": "allowed", "prefix": "198.51.100.0/24", "origin": "file", "rule": None, "bucket": None},
            id="allowed",
        ),
        pytest.param(
            ("203.0.113.1",),
            {"verdict": "denied", "prefix": "203.0.113.0/24", "origin": "file", "rule": None, "bucket": None},
            id="denied",
        ),
    ],
)
def test_an_address_is_explained(daemon: Daemon, arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    """``limits explain`` names what decides on an address, and its bucket as it is now."""
    (case,) = daemon.limits("explain", *arguments)["cases"]

    counts = ("packets", "dropped_packets", "would_drop_packets")
    bucket = case["bucket"] and tuple(case["bucket"][name] for name in counts)
    rule = case["rule"] and case["rule"]["name"]
    assert {**{key: case[key] for key in ("verdict", "prefix", "origin")}, "rule": rule, "bucket": bucket} == expected
    assert case["reason"]


def test_an_explanation_has_a_case_for_each_rule_and_the_flows(daemon: Daemon) -> None:
    """Without a protocol, every rule that may decide is a case; the address's flows follow, with their drops."""
    explained = daemon.limits("explain", "192.0.2.1")

    assert {case["rule"]["name"]: case["protocols"] for case in explained["cases"]} == {
        "default": ["tcp", "tcp_syn", "icmp", "other"],
        "dns": ["udp"],
    }
    assert {tuple(case["interfaces"]) for case in explained["cases"]} == {("n0",)}
    (flow,) = explained["flows"]
    assert (flow["src_addr"], flow["packets"], flow["dropped_packets"]) == ("192.0.2.1", 15, 25)
    assert explained["dropped"] == {"packets": 25, "bytes": 25 * SIZE}
    assert daemon.limits("explain", "203.0.113.1")["flows"] == []


def test_a_zone_is_the_interface_that_is_asked_about(daemon: Daemon) -> None:
    """As in ping and ip: fe80::1%n0 is that address on n0. A link-local source is named as the one address it is."""
    explained = daemon.limits("explain", "fe80::1%n0")

    assert explained == daemon.limits("explain", "fe80::1", "--interface", "n0")
    assert (explained["address"], explained["interface"]) == ("fe80::1", "n0")


def test_a_mapped_address_is_the_ipv4_address(daemon: Daemon) -> None:
    """Whoever asks by it is told of that one, and it is shown."""
    explained = daemon.limits("explain", "::ffff:192.0.2.1")
    assert (explained["address"], explained["dropped"]["packets"]) == ("192.0.2.1", 25)
    (flow,) = daemon.flows("--filter", "src host ::ffff:192.0.2.1")
    assert (flow["src_addr"], flow["packets"]) == ("192.0.2.1", 15)
    of_net = daemon.flows("--filter", "src net ::ffff:192.0.2.0/120")
    assert {each["src_addr"] for each in of_net} == {"192.0.2.1", "192.0.2.2"}


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/limits?colour=red", "GET"),
        ("/v1/limits?colour=red", "POST"),
        ("/v1/limits", "PUT"),
        ("/v1/limits", "DELETE"),
        ("/v1/limits/sources", "POST"),
        ("/v1/limits/explain?address=10.0.0.1", "POST"),
        ("/v1/limits/sources?sort=beauty", "GET"),
        ("/v1/limits/sources?top=-1", "GET"),
        ("/v1/limits/sources?top=many", "GET"),
        ("/v1/limits/sources?format=xml", "GET"),
        ("/v1/limits/sources?address=10.0.0.1", "GET"),
        ("/v1/limits/explain", "GET"),
        ("/v1/limits/explain?address=10.0.0.0/8", "GET"),
        ("/v1/limits/explain?address=%ff%fe", "GET"),
        ("/v1/limits/explain?address=" + "1" * 5000, "GET"),
        ("/v1/limits/explain?address=10.0.0.1&protocol=icmpv6", "GET"),
        ("/v1/limits/explain?address=10.0.0.1&protocol=carrier%20pigeon", "GET"),
        ("/v1/limits/explain?address=10.0.0.1&interface=eth9", "GET"),
        ("/v1/limits/explain?address=fe80::1%25n0&interface=%00", "GET"),
        ("/v1/limits/explain?address=fe80::1%25n0&interface=n1", "GET"),
        ("/v1/limits/explain?address=fe80::1%25eth9", "GET"),
        ("/v1/limits/explain?address=%25n0", "GET"),
    ],
)
def test_a_wrong_request_is_refused(daemon: Daemon, path: str, method: str) -> None:
    """A method, parameter or value that means nothing is an error of one line."""
    _refused(daemon, path, method, None)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="half"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="number"),
        pytest.param(b'"reset"', id="text"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'[{"op": "reset"}]', id="list of one"),
        pytest.param(b"[" * 60_000, id="deep list"),
        pytest.param(b'{"op": ' * 8_000, id="deep object"),
        pytest.param(b'{"op": "mode", "mode": ' + b"[" * 900 + b"]" * 900 + b"}", id="deep value"),
        pytest.param(b"{}", id="no op"),
        pytest.param(b'{"op": "fly"}', id="unknown op"),
        pytest.param(b'{"op": null}', id="null op"),
        pytest.param(b'{"op": ["reset"]}', id="op of the wrong type"),
        pytest.param(b'{"op": "reset", "colour": "red"}', id="unknown key"),
        pytest.param(b'{"op": "mode"}', id="no mode"),
        pytest.param(b'{"op": "mode", "mode": "fast"}', id="unknown mode"),
        pytest.param(b'{"op": "mode", "mode": ["off"]}', id="mode of the wrong type"),
        pytest.param(b'{"op": "remove", "name": "nobody"}', id="no such rule"),
        pytest.param(b'{"op": "remove", "name": {"a": 1}}', id="name of the wrong type"),
        pytest.param(b'{"op": "deny_add", "prefix": "10.0.0.1/8"}', id="host bits"),
        pytest.param(b'{"op": "deny_add", "prefix": 167772161}', id="prefix of the wrong type"),
        pytest.param(b'{"op": "deny_add", "prefix": "203.0.113.0/24"}', id="already denied"),
        pytest.param(b'{"op": "allow_remove", "prefix": "10.0.0.0/8"}', id="not allowed"),
        pytest.param(b'{"op": "confirm"}', id="nothing to confirm"),
        pytest.param(b'{"op": "confirm", "confirm": 5}', id="confirmation of a confirmation"),
        pytest.param(b'{"op": "set"}', id="no rule"),
        pytest.param(b'{"op": "set", "rule": []}', id="rule of the wrong type"),
        pytest.param(b'{"op": "set", "rule": {"packets_per_second": 1}}', id="no name"),
        pytest.param(b'{"op": "set", "rule": {"name": "default"}}', id="nothing to set"),
        pytest.param(b'{"op": "set", "rule": {"name": "default", "colour": 1}}', id="unknown key of a rule"),
        pytest.param(b'{"op": "set", "rule": {"name": "new", "packets_per_second": 1}}', id="half a rule"),
        pytest.param(b'{"op": "set", "rule": {"name": "default", "packets_per_second": true}}', id="true"),
        pytest.param(b'{"op": "set", "rule": {"name": "default", "packets_per_second": 0}}', id="zero"),
        pytest.param(b'{"op": "set", "rule": {"name": "default", "packets_per_second": -1}}', id="negative"),
        pytest.param(b'{"op": "set", "rule": {"name": "default", "packets_per_second": 1e400}}', id="infinity"),
        pytest.param(b'{"op": "set", "rule": {"name": "default", "packets_per_second": NaN}}', id="NaN"),
        pytest.param(b'{"op": "set", "rule": {"name": "default", "burst_bytes": %d}}' % 2**64, id="2^64"),
        pytest.param(b'{"op": "set", "rule": {"name": "default", "burst_bytes": 1%s}}' % (b"0" * 5000), id="10^5000"),
        pytest.param(b'{"op": "reset", "confirm": "60s"}', id="confirm of the wrong type"),
        pytest.param(b'{"op": "reset", "confirm": 0}', id="no time to confirm"),
        pytest.param(b'{"op": "reset", "confirm": 1e18}', id="ages to confirm"),
        pytest.param(b'{"op": "reset", "confirm": true}', id="confirm of true"),
        pytest.param(b'{"op": "reset", "confirm": NaN}', id="confirm of NaN"),
        pytest.param(b'{"op": "reset", "ssh_connection": "10.0.0.1"}', id="half an SSH connection"),
        pytest.param(b'{"op": "reset", "ssh_connection": {"a": []}}', id="SSH connection of the wrong type"),
    ],
)
def test_a_wrong_change_is_refused(daemon: Daemon, body: bytes) -> None:
    """What is no change that can be made is an error of one line, and the limits stay as they are."""
    _refused(daemon, "/v1/limits", "POST", body)


def test_another_user_may_not_change_the_limits(daemon: Daemon, stage: Stage) -> None:
    """Even where the socket's mode lets everybody in, a user who is not root gets status 77 and changes nothing."""
    daemon.socket.chmod(0o666)
    try:
        refused = daemon.ctl("limits", "mode", "off", command=stage.command("cnf.cli", *as_user()))
    finally:
        daemon.socket.chmod(0o600)

    assert (refused.returncode, refused.stdout) == (77, "")
    assert "user 65534 may not use this socket" in refused.stderr
    assert refused.stderr.count("\n") == 1


def _standing(daemon: Daemon) -> dict[str, Any]:
    """Return the limits without rates."""
    limits = daemon.limits()
    return limits | {"deny": [{name: entry[name] for name in STAY} for entry in limits["deny"]]}


def _refused(daemon: Daemon, path: str, method: str, body: bytes | None) -> None:
    answer = daemon.control(path, method=method, body=body)
    assert answer.status in {http.client.BAD_REQUEST, http.client.METHOD_NOT_ALLOWED}, answer
    reply = json.loads(answer.body)
    assert reply.keys() == {"error", "exit_status"}
    assert reply["exit_status"] == 64
    assert reply["error"].isprintable()
    assert len(reply["error"]) < 1000
