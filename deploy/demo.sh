#!/bin/sh
# Run cnfd on real traffic: on a veth pair between two network namespaces, away from this machine's own network.
#
#   sudo sh deploy/demo.sh                half a minute, then everything is gone again
#   sudo sh deploy/demo.sh --keep         leaves it running, and says how to look and how to stop
#   sudo sh deploy/demo.sh --stop NAME    stops what --keep has left running
#
# It fails if a single packet was not counted, or if anything is left behind.
set -eu

die() {
	status=$1
	shift
	echo "deploy/demo.sh: $*" >&2
	exit "$status"
}

heading() {
	if [ -t 1 ]; then printf '\n\033[1m== %s\033[m\n' "$1"; else printf '\n== %s\n' "$1"; fi
}

# Show a command as one would type it, and run it.
show() {
	printf '$ %s\n' "$1"
	eval "$1"
}

# The same, in a terminal of 80 columns where there is none that says how wide a table may be.
show_table() {
	if [ -t 1 ]; then
		show "$1"
	else
		printf '$ %s\n' "$1"
		COLUMNS=80 TERM=dumb script -qec "$1" /dev/null </dev/null | tr -d '\r'
	fi
}

use_name() {
	node=$1-node
	peer=$1-peer
	dir=/run/$1
	in_node="nsenter --net=/run/netns/$node"
	in_peer="nsenter --net=/run/netns/$peer"
	cnfctl=".venv/bin/cnfctl --socket $dir/cnf.sock"
	traffic=".venv/bin/python deploy/demo_traffic.py"
	url=http://127.0.0.1:9995/metrics # curl may be missing, Python is here
	scrape="$in_node .venv/bin/python -c 'import urllib.request as web; print(web.urlopen(\"$url\").read().decode())'"
}

# demo_traffic.py knows these addresses. The peer's end comes up last, when cnfd is there to see its very first frame.
make_network() {
	ip netns add "$node"
	ip netns add "$peer"
	ip -n "$node" link add nic0 address 02:00:00:00:00:01 type veth \
		peer name nic0 address 02:00:00:00:00:02 netns "$peer"
	ip -n "$node" address add 192.0.2.1/24 dev nic0
	ip -n "$node" address add 2001:db8::1/64 dev nic0 nodad
	ip -n "$node" link set lo up
	ip -n "$node" link set nic0 up
	ip -n "$peer" address add 192.0.2.2/24 dev nic0
	ip -n "$peer" address add 192.0.2.66/24 dev nic0
	ip -n "$peer" address add 2001:db8::2/64 dev nic0 nodad
}

start_daemon() {
	cat >"$dir/cnf.toml" <<-END
		[[interfaces]]
		name = "nic0"
		mode = "native"

		[flows]
		drain_interval = "1s"

		[control]
		socket = "$dir/cnf.sock"

		[log]
		format = "console"

		[history]
		folder = "$dir/history"

		[limits]
		mode = "shadow"
		state_file = "$dir/limits.json"

		[[limits.rules]]
		name = "default"
		prefixes = ["0.0.0.0/0", "::/0"]
		packets_per_second = 5000
		burst_packets = 5000
	END
	show "cat $dir/cnf.toml"
	echo
	echo "$ $in_node .venv/bin/cnfd --config $dir/cnf.toml &"
	# In a session of its own: Ctrl-C is for this script, which then ends the daemon.
	$in_node setsid .venv/bin/cnfd --config "$dir/cnf.toml" >"$dir/log" 2>&1 &
	children=$!
	for _ in $(seq 100); do
		if $cnfctl status >/dev/null 2>&1; then
			cat "$dir/log"
			return
		fi
		kill -0 $children 2>/dev/null || break
		sleep 0.1
	done
	die 1 "cnfd did not start: $(cat "$dir/log")"
}

start_traffic() {
	$in_peer setsid .venv/bin/python deploy/demo_traffic.py send "$node" "$@" >"$dir/sent" 2>>"$dir/log" &
	sender=$!
	children="$children $sender"
}

processes() {
	for namespace in "$node" "$peer"; do ip netns pids "$namespace" 2>/dev/null || true; done
}
program() { ip -n "$node" link show dev nic0 2>/dev/null | sed -n 's/.*prog\/xdp id \([0-9]*\).*/\1/p'; }

# What must be gone in the end; each succeeds as long as it is not.
processes_left() { [ -n "$(processes)" ]; }
program_attached() { [ -n "$(program)" ]; }
program_loaded() {
	/usr/bin/python3 -c 'import ctypes, sys
sys.exit(ctypes.CDLL("libbpf.so.1").bpf_prog_get_fd_by_id(int(sys.argv[1])) < 0)' "$1"
}
namespaces_left() { [ -e "/run/netns/$node" ] || [ -e "/run/netns/$peer" ]; }
files_left() { [ -e "$dir" ] || [ -e "$pins" ]; }

# Give a command that succeeds five seconds to fail.
await_end() {
	for _ in $(seq 50); do
		"$@" || return 0
		sleep 0.1
	done
	return 1
}

report() {
	what=$1
	shift
	if await_end "$@"; then
		echo "gone: $what"
	else
		echo "LEFT BEHIND: $what"
		left=yes
	fi
}

clean_up() {
	set +e
	heading "Everything is gone again"
	left=""
	id=$(program)
	pins=/sys/fs/bpf/cnf/netns-$(stat -Lc %i "/run/netns/$node" 2>/dev/null)
	# shellcheck disable=SC2046,SC2086 # one word a process
	kill $children $(processes) 2>/dev/null
	# shellcheck disable=SC2046
	await_end processes_left || kill -KILL $(processes) 2>/dev/null
	report "cnfd and the traffic" processes_left
	report "the program on nic0" program_attached
	ip -n "$node" link delete nic0 2>/dev/null
	ip netns delete "$node" 2>/dev/null
	ip netns delete "$peer" 2>/dev/null
	report "the namespaces $node and $peer, and nic0 in both" namespaces_left
	[ -z "$id" ] || report "that program in the kernel (id $id): nothing holds it any more" program_loaded "$id"
	rm -rf "$dir" "$pins" # cnfd removes its pins itself, unless it had to be killed
	rmdir /sys/fs/bpf/cnf 2>/dev/null
	report "$dir and $pins" files_left
	[ -z "$left" ]
}

# Clean up on every way out.
leave() {
	status=$?
	trap '' INT TERM HUP PIPE
	clean_up || [ "$status" -ne 0 ] || status=1
	trap - EXIT
	exit "$status"
}

keep=""
stop=""
case "$#:${1:-}:${2:-}" in
0:*) ;;
1:--keep:) keep=yes ;;
2:--stop:*/*) die 64 "not a demo's name: $2" ;;
2:--stop:cnf-demo-[0-9]*) stop=$2 ;;
*) die 64 "usage: sh deploy/demo.sh [--keep | --stop NAME]" ;;
esac
[ "$(id -u)" -eq 0 ] || die 77 "must run as root: sudo sh deploy/demo.sh"
cd "$(dirname "$0")/.."

children=""
if [ -n "$stop" ]; then
	use_name "$stop"
	[ -d "$dir" ] || die 69 "there is no $dir: nothing was left running under this name"
	clean_up
	exit
fi

heading "Set-up: packages, and .venv"
show "sh deploy/setup.sh"

use_name "cnf-demo-$$"
export CACHE_DIRECTORY="$dir/programs" # and not /var/cache/cnf
mkdir "$dir" # fails where a demo of this name was kept: before the trap, so that nothing happens to that
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'exit 141' PIPE
make_network

heading "cnfd on a network interface"
printf '%-36s%s\n' "namespace $node" "namespace $peer"
cat <<END
nic0  192.0.2.1                     nic0  192.0.2.2, 192.0.2.66
      2001:db8::1    <-- veth -->         2001:db8::2

END
start_daemon

heading "Five seconds of traffic: TCP, UDP and ping over IPv4 and IPv6, and frames in VLAN 42"
ip -n "$peer" link set nic0 up
echo "$ $in_peer $traffic send $node >$dir/sent &"
start_traffic
sleep 3 # so that there is something to see

heading "Who is talking?"
show_table "$cnfctl flows --top 8"
echo "The first line is one source that sends more than all others together."

heading "A filter, as in tcpdump"
show_table "$cnfctl flows --filter 'ip6 and (tcp or udp)'"

heading "Both directions of a connection in one row"
show_table "$cnfctl flows --pairs --filter tcp"

heading "One flow for a script: the one in VLAN 42"
show "$cnfctl flows -o json --filter 'udp and src port 53'"

wait "$sender" || die 1 "the traffic failed: $(tail -n 1 "$dir/log")"
heading "Is what was sent what was counted? To the packet"
show "$traffic check $dir/cnf.sock $peer <$dir/sent"

heading "Is the daemon well?"
show_table "$cnfctl status"

heading "The limit of 5,000 packets a second is in shadow: what would it drop, and whose?"
show_table "$cnfctl limits"
show_table "$cnfctl limits sources --top 3"

heading "In mode enforce, for a minute; without the second command, the previous rules come back"
show "$cnfctl limits mode enforce --confirm 60s"
show "$cnfctl limits confirm"

heading "Three seconds more of the one source: did the limit let through rate x time + burst?"
show "$in_peer $traffic flood $node $dir/cnf.sock"

heading "Why does 192.0.2.66 lose packets?"
show_table "$cnfctl limits explain 192.0.2.66 --protocol udp"

heading "A flood that is spread over ports and addresses: who is it, and who is attacked?"
$in_peer setsid .venv/bin/python deploy/demo_traffic.py spread 2>>"$dir/log" &
flood=$!
children="$children $flood"
sleep 4
show_table "$cnfctl flows --by src-net/24,dst --sort rate --top 3"

heading "Blocked until noon, by the kernel itself, even if no daemon runs then"
show "$cnfctl limits deny add 198.51.100.0/24 --until 12:00 --reason flood"
sleep 2
show_table "$cnfctl limits deny"

heading "Three of the packets that are dropped"
show "$cnfctl capture --dropped -c 3"

heading "Why does 198.51.100.77 get no answer?"
show_table "$cnfctl limits explain 198.51.100.77"
kill "$flood"

heading "What Prometheus scrapes"
show "$scrape | grep -E '^cnf_(received_packets|dropped_packets|limit_packets|ledger_packets)' | grep -v ' 0.0$'"

if [ -n "$keep" ]; then
	start_traffic --forever
	trap - EXIT INT TERM HUP PIPE
	heading "Left running, and so is the traffic"
	cat <<-END
		In $PWD, as root:
		the flows, live    $cnfctl flows --watch
		the log            tail -f $dir/log
		the metrics        $scrape
		stop all of it     sh deploy/demo.sh --stop cnf-demo-$$
	END
fi
