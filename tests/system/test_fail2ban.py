"""Debian's fail2ban bans and unbans through the action that is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import pytest

from tests.net.wait import wait_for
from tests.system.machine import HOME
from tests.system.service import FAR, NODE, Service

FAR6, NODE6 = "2001:db8::2", "2001:db8::1"
ADDRESSES: Final = {FAR: NODE, FAR6: NODE6}
LOG: Final = "/var/log/door.log"
FILES: Final = {
    "/etc/fail2ban/filter.d/door.local": "[Definition]\nfailregex = knock from <HOST>$\n",
    "/etc/fail2ban/jail.d/defaults-debian.conf": "",  # there is no sshd to log for
    "/etc/fail2ban/jail.d/cnf.local": f"""
[DEFAULT]
banaction = cnf
ignoreself = false
maxretry = 1
findtime = 1h
logpath = {LOG}
backend = polling
filter = door

[door]
enabled = true
bantime = 1h

[gate]
enabled = true
bantime = 2h
maxretry = 3
""",
}
ACTION: Final = "/etc/fail2ban/action.d/cnf.conf"
QUICK: Final = 0.3
"""Seconds that a ban may take."""


class Jails:
    """Fail2ban on the machine, with two jails that read one log."""

    def __init__(self, service: Service) -> None:
        """Have both it and the service run."""
        self.service, self.machine = service, service.machine
        self.machine.run("install", "-m", "644", f"{HOME}/deploy/fail2ban/cnf.conf", ACTION)
        self.machine.run("ln", "-sf", service.cnfctl_path, "/usr/local/bin/cnfctl")
        for path, text in FILES.items():
            self.machine.write(path, text)
        self.machine.run("sh", "-c", f": >{LOG}; : >/var/log/fail2ban.log; rm -f /var/lib/fail2ban/fail2ban.sqlite3")
        service.start()
        self.machine.run("systemctl", "restart", "fail2ban")
        # Not asked for it: a question about a jail that is not there yet has it log an ERROR, and no test allows one.
        wait_for(lambda: self.said("Jail 'gate' started"), "fail2ban")

    def close(self) -> None:
        """Stop it, and leave nothing of it."""
        self.machine.run("systemctl", "stop", "fail2ban")
        self.machine.run("rm", "-f", ACTION, "/usr/local/bin/cnfctl")

    def knock(self, *addresses: str, times: int = 1) -> None:
        """Have attempts written to the log."""
        now = self.machine.run("date", "+%Y-%m-%d %H:%M:%S").strip()
        lines = "".join(f"{now} door: knock from {address}\n" for address in addresses for _ in range(times))
        self.machine.run("sh", "-c", f'printf %s "$0" >>{LOG}', lines)

    def denied(self) -> dict[str, tuple[str | None, str | None]]:
        """Return reason and end of the entries of deny, by address."""
        entries = self.service.cnfctl("limits", "deny")
        return {each["prefix"].partition("/")[0]: (each["reason"], each["until"]) for each in entries}

    def banned(self) -> set[tuple[str, str]]:
        """Return addresses and jails of the bans in force."""
        return {(address, str(reason)) for address, (reason, _) in self.denied().items()}

    def said(self, words: str) -> list[str]:
        """Return the lines that fail2ban has logged with that in them."""
        return [line for line in self.machine.run("cat", "/var/log/fail2ban.log").splitlines() if words in line]

    def reach(self) -> set[str]:
        """Return from which addresses the node is reached."""
        ping = ("ip", "netns", "exec", "far", "python3", "-c", PING)
        return set(self.machine.run(*ping, *(word for pair in ADDRESSES.items() for word in pair)).split())


PING: Final = """
import socket, sys
for far, near in zip(sys.argv[1::2], sys.argv[2::2]):
    with socket.socket(socket.AF_INET6 if ":" in far else socket.AF_INET) as prober:
        prober.settimeout(1)
        try:
            prober.connect((near, 1))
        except ConnectionRefusedError:
            print(far)
        except TimeoutError:
            pass
"""
"""Prints from which addresses a connection to their node is refused, and not just left without an answer."""


@pytest.fixture
def jails(service: Service) -> Iterator[Jails]:
    """Give each test fail2ban without a ban."""
    service.machine.run("ip", "address", "replace", f"{NODE6}/64", "dev", "nic0", "nodad")
    service.machine.run("ip", "-n", "far", "address", "replace", f"{FAR6}/64", "dev", "nic0", "nodad")
    service.configure(service.example("nic0") + "\n[limits]\n")
    jails = Jails(service)
    yield jails
    jails.close()
    service.machine.run("sh", "-c", "rm -f /var/lib/cnf/limits.json")


def test_bans_and_unbans(jails: Jails) -> None:
    """What the log names is dropped in the kernel, in both families, until fail2ban takes it back."""
    assert jails.reach() == {*ADDRESSES}
    jails.knock(*ADDRESSES)
    both = {(address, "fail2ban door") for address in ADDRESSES}
    wait_for(lambda: jails.banned() == both, "the bans")
    assert jails.reach() == set()
    jails.machine.run("fail2ban-client", "set", "door", "unbanip", FAR)
    assert jails.banned() == {(FAR6, "fail2ban door")}
    assert jails.reach() == {FAR}


def test_twice_is_once(jails: Jails) -> None:
    """Of two jails the longer ban stands; what is not there any more, or never was, is no failure to unban."""
    jails.knock(FAR)
    wait_for(lambda: jails.banned() == {(FAR, "fail2ban door")}, "the ban")
    jails.knock(FAR, times=3)
    wait_for(lambda: jails.banned() == {(FAR, "fail2ban gate")}, "the longer ban")
    jails.machine.run("fail2ban-client", "set", "door", "unbanip", FAR)
    assert jails.banned() == {(FAR, "fail2ban gate")}
    jails.machine.run("cnfctl", "limits", "deny", "remove", FAR)
    jails.machine.run("fail2ban-client", "set", "gate", "unbanip", FAR)
    wait_for(lambda: jails.said(f"[gate] Unban {FAR}"), "the unban")
    assert jails.said("ERROR") == []


def test_what_is_denied_for_longer_is_left_alone(jails: Jails) -> None:
    """An administrator's own entry outlives ban and unban."""
    jails.machine.run("cnfctl", "limits", "deny", "add", FAR)
    jails.machine.run("fail2ban-client", "set", "door", "banip", FAR)
    jails.machine.run("fail2ban-client", "set", "door", "unbanip", FAR)
    wait_for(lambda: jails.said(f"[door] Unban {FAR}"), "the unban")
    assert jails.denied() == {FAR: (None, None)}
    assert jails.said("ERROR") == []


def test_restarts(jails: Jails) -> None:
    """A stop takes all bans back at once, a start restores them; without fail2ban they have an end all the same."""
    jails.knock(*ADDRESSES)
    both = {(address, "fail2ban door") for address in ADDRESSES}
    wait_for(lambda: jails.banned() == both, "the bans")
    jails.machine.run("systemctl", "stop", "fail2ban")
    assert jails.banned() == set()
    assert jails.reach() == {*ADDRESSES}
    jails.machine.run("systemctl", "start", "fail2ban")
    wait_for(lambda: jails.banned() == both, "the bans, restored")
    jails.machine.run("systemctl", "kill", "--signal=KILL", "fail2ban")
    jails.machine.run("systemctl", "restart", "cnfd")
    assert all(until for _, until in jails.denied().values())
    assert jails.reach() == set()


def test_without_the_daemon(jails: Jails) -> None:
    """Its log says that cnfd does not run, or not yet, and how to start it."""
    jails.machine.run("systemctl", "stop", "cnfd")
    jails.machine.run("fail2ban-client", "set", "door", "banip", FAR)
    wait_for(lambda: jails.said("cnfd is not running, or still starting"), "the reason in the log")
    assert jails.said("systemctl start cnfd")


def test_a_ban_is_quick(jails: Jails) -> None:
    """The command that bans takes less than QUICK, the shortest of ten."""
    ban = "cnfctl limits deny add 10.0.0.$each --for 1h >/dev/null"
    script = f"for each in 1 2 3 4 5 6 7 8 9 10; do date +%s.%N; {ban}; done; date +%s.%N"
    times = [float(line) for line in jails.machine.run("sh", "-c", script).split()]
    took = [later - earlier for earlier, later in pairwise(times)]
    assert min(took) < QUICK, took
