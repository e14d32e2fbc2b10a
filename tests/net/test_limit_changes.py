"""Changes of the limits at run time by the real cnfctl: what they do, how long they last, and who made them."""

from __future__ import annotations

import http.client
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from signal import SIGHUP, SIGKILL
from threading import Event
from typing import Any, Final

import pytest

from cnf.abi import VERDICTS
from tests.net.arrivals import arrivals
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.rations import QUICK, SIZE, enforce, limits_of, packet, ration, verdicts

SHOWN: Final = ("mode", "packets", "dropped_packets", "would_drop_packets")
FILE: Final = enforce(ration("default", 10), ration("lab", 20, ["10.0.0.0/8"]), allow=["192.0.2.0/24"])

REFUSES_TO_UNDO: Final = """
import os, sys
from cnf.cnfd import main
from cnf.daemon.reload import Reload
from cnf.limiter.limiter import Limiter

change, reload, kept = Limiter.change, Reload.run, []

def change_and_break(self, *arguments):
    changed = change(self, *arguments)
    table, nothing = self._datapath.maps["limit_policies"], os.open(os.devnull, os.O_RDONLY)
    kept.append((os.dup(table), table))
    os.dup2(nothing, table)
    return changed

def mend_and_reload(self):
    os.dup2(*kept.pop())
    return reload(self)

Limiter.change, Reload.run = change_and_break, mend_and_reload
sys.exit(main())
"""
"""A cnfd that after a change, and until a reload, has no descriptor of a map that every change is written to."""


def test_changes_are_shown_outlive_a_restart_and_are_taken_back(node: Node) -> None:
    """Every kind of change is in force with its origin, also after a restart, until ``reset`` returns to the file."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    as_in_the_file = _settings(daemon)

    daemon.limits("set", "default", "--packets-per-second", "100", "--burst-packets", "20")
    daemon.limits("set", "dns", "--prefix", "0.0.0.0/0", "--protocol", "udp", "--bits-per-second", "1M")
    daemon.limits("remove", "lab")
    daemon.limits("allow", "add", "198.51.100.7")
    daemon.limits("allow", "remove", "192.0.2.0/24")
    daemon.limits("deny", "add", "2001:db8::/32")
    daemon.limits("deny", "add", "203.0.113.0/24")
    daemon.limits("deny", "remove", "203.0.113.0/24")
    changed = daemon.limits("mode", "shadow")

    assert changed["changes"] == ["mode shadow"]
    assert changed["generation"] == daemon.limits()["generation"] == 10
    limits = _settings(daemon)
    assert (limits["mode"], limits["mode_origin"], limits["removed"]) == ("shadow", "runtime", ["lab"])
    assert [(each["prefix"], each["origin"]) for each in limits["allow"]] == [("198.51.100.7/32", "runtime")]
    assert [(each["prefix"], each["origin"]) for each in limits["deny"]] == [("2001:db8::/32", "runtime")]
    assert {rule["name"]: rule["origin"] for rule in limits["rules"]} == {"default": "runtime", "dns": "runtime"}
    default = limits_of(limits, "default")
    assert (default["packets_per_second"], default["burst_packets"], default["bits_per_second"]) == (100, 20, 8)
    assert limits_of(limits, "dns")["protocols"] == ["udp"]

    daemon.stop()
    daemon.start()
    assert _settings(daemon) == limits

    assert daemon.limits("reset")["changes"] == ["reset"]
    assert _settings(daemon) == as_in_the_file
    daemon.stop()
    daemon.start()
    assert _settings(daemon) == as_in_the_file


def test_a_changed_rule_counts_on(node: Node) -> None:
    """What a rule has counted stays when it is changed; its bucket does, too, unless its rate or burst is another."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    frames = [packet("203.0.113.1")] * 15

    for sent, change, expected in (
        (15, (), (10, 5, 0)),
        (30, ("set", "default", "--burst-bytes", f"{12 * SIZE}"), (22, 8, 0)),
        (45, ("deny", "add", "198.51.100.0/24"), (22, 23, 0)),
        (60, ("mode", "shadow"), (22, 23, 15)),
        (75, ("remove", "lab"), (22, 23, 30)),
    ):
        if change:
            daemon.limits(*change)
        wire.send(frames)
        daemon.settle(sent)
        assert verdicts(daemon.limits(), "default") == expected
    assert daemon.scrape().total("cnf_limit_packets_total", rule="default") == 75


def test_what_shadow_let_pass_is_told_from_what_was_dropped(node: Node) -> None:
    """From shadow to enforce and on to deny, every view has each packet where it went: passed, spared or dropped."""
    wire = node.wire("n0")
    limits = enforce(ration("default", 10)) | {"mode": "shadow"}
    daemon = node.daemon("n0", limits=limits, flows=QUICK).start()
    flood = packet("203.0.113.1")

    def sent(number: int, sum_of_all: int) -> dict[str, Any]:
        wire.send([flood] * number)
        dropped = daemon.settle(sum_of_all)["ledger"]["packets"]["dropped"]
        source = next(source for source in daemon.limited_sources("--all") if source["rule"])
        return {name: source[name] for name in SHOWN} | {"ledger": dropped}

    assert sent(30, 30) == dict(zip((*SHOWN, "ledger"), ("shadow", 10, 0, 20, 0), strict=True))
    daemon.limits("mode", "enforce")
    assert sent(5, 35) == dict(zip((*SHOWN, "ledger"), ("enforce", 10, 5, 20, 5), strict=True))
    explained = daemon.ctl("limits", "explain", "203.0.113.1").stdout
    assert ", 5 packets dropped (1.0 kB), the latest " in explained
    assert ", 20 packets would have been dropped (4.0 kB)." in explained
    scrape = daemon.scrape()
    counted = [scrape.total("cnf_limit_packets_total", rule="default", verdict=verdict) for verdict in VERDICTS]
    assert counted == [10, 5, 20]

    daemon.limits("deny", "add", "203.0.113.1")
    assert sent(7, 42) == dict(zip((*SHOWN, "ledger"), ("enforce", 10, 5, 20, 12), strict=True))
    assert [(source["verdict"], source["dropped_packets"]) for source in daemon.limited_sources()] == [
        ("denied", 5),
        ("denied", 7),
    ]
    (case,) = daemon.limits("explain", "203.0.113.1")["cases"]
    assert case["entry"]["packets"] == 7


def test_every_change_is_logged_with_who_made_it(node: Node) -> None:
    """The log has a line for each change: what, and the user and process that asked for it."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()

    _post(daemon, op="set", rule={"name": "default", "packets_per_second": 7}, confirm=60)
    _post(daemon, op="confirm")

    changed, confirmed = daemon.events("limits changed")
    assert changed["changes"] == ["set default packets_per_second=7"]
    assert confirmed["changes"] == ["confirm set default packets_per_second=7"]
    assert changed["unless_confirmed_within"] == 60
    for event in (changed, confirmed):
        assert (event["uid"], event["pid"]) == (os.geteuid(), os.getpid())


def test_what_nobody_confirms_is_undone(node: Node) -> None:
    """A lock-out heals itself: if nobody confirms it in time, rules and traffic are as before."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    before = _settings(daemon)

    with arrivals(node.inside, "n0") as through:
        wire.send([packet("192.0.2.1")] * 5)
        reply = daemon.limits("deny", "add", "192.0.2.1", "--confirm", "1s")
        assert 0 < reply["pending"][0]["seconds_left"] <= 1
        wire.send([packet("192.0.2.1")] * 7)
        undone = daemon.wait_for_event("limits rolled back, nobody confirmed in time")
        wire.send([packet("192.0.2.1")] * 9)
        status = daemon.settle(21)
        assert through.by_source(14) == {"192.0.2.1": 14}

    assert undone["changes"] == ["deny add 192.0.2.1/32"]
    assert _settings(daemon) == before
    assert not daemon.state_file.exists()
    assert (status["ledger"]["packets"]["dropped"], status["ledger"]["packets"]["difference"]) == (7, 0)
    (flow,) = daemon.flows()
    assert (flow["packets"], flow["dropped_packets"]) == (14, 7)
    refused = daemon.ctl("limits", "confirm")
    assert (refused.returncode, refused.stderr.count("\n")) == (64, 1)
    assert "nothing waits" in refused.stderr


def test_an_undoing_that_the_kernel_refuses_is_tried_again(node: Node) -> None:
    """While the kernel refuses the rules from before, the change stays whole, with a line a try; then they are back."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK)
    daemon.command = (sys.executable, "-P", "-c", REFUSES_TO_UNDO)
    daemon.start()
    before = _settings(daemon)

    with arrivals(node.inside, "n0") as through:
        daemon.limits("deny", "add", "192.0.2.1", "--confirm", "1s")
        errors = [daemon.wait_for_event("limits not rolled back, trying again", times) for times in (1, 2)]
        for error in errors:
            assert error["error"] == "mapping map limit_policies: Permission denied"
        wire.send([packet("192.0.2.1")] * 7)
        assert daemon.settle(7)["ledger"]["packets"]["dropped"] == 7
        assert [each["change"] for each in daemon.limits()["pending"]] == ["deny add 192.0.2.1/32"]
        daemon.signal(SIGHUP)  # which has nothing to change, and tells that the kernel may take it again

        daemon.wait_for_event("limits rolled back, nobody confirmed in time")
        wire.send([packet("192.0.2.1")] * 9)
        status = daemon.settle(16)
        assert through.by_source(9) == {"192.0.2.1": 9}
    assert _settings(daemon) == before
    assert (status["ledger"]["packets"]["dropped"], status["ledger"]["packets"]["difference"]) == (7, 0)


def test_each_change_waits_for_itself(node: Node) -> None:
    """A plain one in between stays, whatever becomes of the others; what waits is not in the state file."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()

    daemon.limits("deny", "add", "10.0.0.1", "--confirm", "60s")
    assert not daemon.state_file.exists()
    plain = daemon.limits("deny", "add", "10.0.0.2")
    assert [each["change"] for each in plain["pending"]] == ["deny add 10.0.0.1/32"]
    waiting = daemon.limits("mode", "shadow", "--confirm", "2s")["pending"]
    assert daemon.status()["limiter"]["pending"][1]["change"] == "mode shadow"
    assert [each["change"] for each in waiting] == ["deny add 10.0.0.1/32", "mode shadow"]
    assert _kept(daemon) == (["10.0.0.2/32"], None)
    undone = daemon.wait_for_event("limits rolled back, nobody confirmed in time")
    assert undone["changes"] == ["mode shadow"]
    assert _denied(daemon) == ["10.0.0.1/32", "10.0.0.2/32"]

    confirmed = daemon.limits("confirm", str(waiting[0]["number"]))

    assert (confirmed["pending"], confirmed["changes"]) == ([], ["confirm deny add 10.0.0.1/32"])
    assert _kept(daemon) == (["10.0.0.1/32", "10.0.0.2/32"], None)
    assert "no change 1 waits" in daemon.ctl("limits", "confirm", "1").stderr


def test_what_waits_ends_with_the_daemon(node: Node) -> None:
    """What was changed meanwhile does not, even if the daemon is killed."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    daemon.limits("deny", "add", "10.0.0.1", "--confirm", "60s")
    daemon.limits("deny", "add", "10.0.0.2")
    daemon.signal(SIGKILL)
    daemon.ended()
    daemon.start()
    assert _denied(daemon) == ["10.0.0.2/32"]


def _denied(daemon: Daemon) -> list[str]:
    return [each["prefix"] for each in daemon.limits()["deny"]]


def _kept(daemon: Daemon) -> tuple[list[str], str | None]:
    """Return what the state file adds to deny, and its mode."""
    kept = json.loads(daemon.state_file.read_text(encoding="utf-8"))
    return kept["deny_added"], kept.get("mode")


def test_what_was_built_on_an_undone_change_is_undone(node: Node) -> None:
    """The log names it; what was kept before stays."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    daemon.limits("allow", "add", "10.0.0.9")
    kept = _settings(daemon)

    _post(daemon, op="set", rule={"name": "new", "prefixes": ["10.0.0.1"], "packets_per_second": 7}, confirm=0.5)
    _post(daemon, op="remove", name="new")
    undone = daemon.wait_for_event("limits rolled back, nobody confirmed in time")

    names = ["set new prefixes=10.0.0.1/32 packets_per_second=7"]
    assert (undone["changes"], undone["built_on_them"]) == (names, ["remove new"])
    assert _settings(daemon) == kept


def test_a_kill_before_the_confirmation_undoes_the_change(node: Node) -> None:
    """After a ``kill -9`` in between, the next daemon begins with the limits from before."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    daemon.limits("allow", "add", "10.0.0.9")
    kept = _settings(daemon)
    daemon.limits("deny", "add", "192.0.2.1", "--confirm", "1h")

    daemon.signal(SIGKILL)
    daemon.ended()
    daemon.start()

    assert _settings(daemon) == kept
    wire.send([packet("192.0.2.1")] * 5)
    assert daemon.settle(5)["ledger"]["packets"]["dropped"] == 0


@pytest.mark.parametrize(
    ("state_file", "status", "words"),
    [
        pytest.param("{folder}/taken/limits.json", 69, "File exists", id="below a file"),
        pytest.param("/sys/kernel/cnf/limits.json", 77, "Operation not permitted", id="where nobody may write"),
    ],
)
def test_a_change_that_cannot_be_kept_is_refused(node: Node, state_file: str, status: int, words: str) -> None:
    """If the state file cannot be written, the change is refused in one line and the limits are as before."""
    node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK)
    path = state_file.format(folder=daemon.config.parent)
    daemon.configure([{"name": "n0"}], limits=FILE | {"state_file": path}, flows=QUICK)
    daemon.start()
    (daemon.config.parent / "taken").touch()
    before = _settings(daemon)

    refused = daemon.ctl("limits", "mode", "off")

    assert (refused.returncode, refused.stdout) == (status, "")
    assert refused.stderr.startswith(f"cnfctl: limits.state_file: {path.rpartition('/')[0]}")
    assert words in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert _settings(daemon) == before
    assert daemon.events("limits changed") == []


def test_rubbish_in_the_state_file_keeps_the_daemon_from_starting(node: Node) -> None:
    """A state file that cannot be read ends cnfd with status 78 and one line that names it and every problem."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FILE)
    daemon.state_file.parent.mkdir()
    for text, problems in (
        ("rubbish", ["not JSON"]),
        ('{"mode": "fast", "deny_added": ["10.0.0.1/8"], "x": 1}', ["mode", "deny_added[0]", "x"]),
    ):
        daemon.state_file.write_text(text, encoding="utf-8")
        status, line = daemon.refused()
        assert status == 78
        assert str(daemon.state_file) in line
        assert [problem for problem in problems if problem not in line] == []
        assert "move the file away" in line
    assert node.inside.programs() == {}


def test_many_clients_change_at_once(node: Node) -> None:
    """Changes from eight clients come one after the other: each answer is its own, and the last is what stays."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    generation = daemon.limits()["generation"]
    rates = range(1, 25)

    def change(rate: int) -> dict[str, Any]:
        return _post(daemon, op="set", rule={"name": "default", "packets_per_second": rate})

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(change, rates))

    for rate, reply in zip(rates, replies, strict=True):
        assert reply["changes"] == [f"set default packets_per_second={rate}"]
    assert sorted(reply["generation"] for reply in replies) == [generation + 1 + n for n in range(len(rates))]
    last = max(replies, key=lambda reply: int(reply["generation"]))
    limits = daemon.limits()
    assert limits["generation"] == last["generation"]
    assert last["changes"] == [f"set default packets_per_second={limits_of(limits, 'default')['packets_per_second']}"]


def test_readers_see_one_rule_set_while_others_change_it(node: Node) -> None:
    """While rules come and go, every answer about them and every scrape is whole."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    done = Event()

    def read(path: str) -> int:
        for turn in count(1):
            assert daemon.control(path).status == http.client.OK
            assert daemon.scrape().total("cnf_collector_success", collector="limiter") == 1
            if done.is_set():
                return turn
        return 0

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, path) for path in ("/v1/limits", "/v1/limits/explain?address=10.0.0.1")]
        for _ in range(6):
            _post(daemon, op="remove", name="lab")
            _post(daemon, op="set", rule=ration("lab", 20, ["10.0.0.0/8"]))
        done.set()
        assert all(reader.result() > 1 for reader in readers)
    assert daemon.events("collector failed") == []
    assert daemon.events("control request failed") == []


def _settings(daemon: Daemon) -> dict[str, Any]:
    """Return what ``cnfctl limits`` shows of the limits, without what has been counted."""
    limits = daemon.limits()
    of_rules, counted = {"passed", "limited", "would_limit"}, {"generation", "sources", "denied"}
    rules = [{key: value for key, value in rule.items() if key not in of_rules} for rule in limits["rules"]]
    return {key: value for key, value in limits.items() if key not in counted} | {"rules": rules}


def _post(daemon: Daemon, **body: object) -> dict[str, Any]:
    """Ask for a change by the control socket, from this process."""
    answer = daemon.control("/v1/limits", method="POST", body=json.dumps(body).encode())
    assert answer.status == http.client.OK, answer
    reply: dict[str, Any] = json.loads(answer.body)
    return reply
