#!/bin/sh
# Run every test tier that this machine can run.
#
#   sudo sh tests/run.sh                       all of them
#   sudo sh tests/run.sh -x -k vlan            with arguments for pytest
#   sudo sh tests/run.sh tests/bpf             only these paths
#
# A tier is a folder: unit needs nothing, bpf the kernel's BPF, net also network namespaces and veth pairs, collectors
# also those of flow records, system a new Debian machine to start, and kernels a virtual machine for other kernels. With
# CI=true, a test that skips what this machine could have run fails: CNF_STRICT=1.
set -eu

say() { echo "tests/run.sh: $*"; }

# The probes: can this machine do it?
can_load_xdp() {
	# libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_XDP): 1 = yes, 0 = no, less = not to be found out
	/usr/bin/python3 -c 'import ctypes, sys
sys.exit(ctypes.CDLL("libbpf.so.1").libbpf_probe_bpf_prog_type(6, None) != 1)' 2>/dev/null
}
can_make_veth() { unshare --net ip link add type veth 2>/dev/null; }

# Print what this machine lacks for a tier: nothing, if it can run it.
lack() {
	case $1 in
	bpf) can_load_xdp || echo "the kernel, or the container around this, refuses to load XDP programs" ;;
	net) { can_load_xdp && can_make_veth; } || echo "no XDP programs, or no network namespace with a veth pair" ;;
	collectors)
		lack net
		.venv/bin/python -c 'from tests.collectors import programs; print(programs.lacking())'
		;;
	kernels) .venv/bin/python -c 'from tests.kernels import virtual; print(virtual.lacking())' ;;
	system) .venv/bin/python -c 'from tests.system import machine; print(machine.lacking())' ;;
	esac
}

cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
	say "must run as root: sudo sh tests/run.sh" >&2
	exit 77
fi
sh deploy/setup.sh --dev
[ "${CI:-}" != true ] || export CNF_STRICT=1

paths=""
for argument in "$@"; do
	if [ -e "${argument%%::*}" ]; then paths=given; fi
done
if [ -z "$paths" ]; then
	for tier in unit bpf net collectors system kernels; do
		lacking=$(lack $tier)
		if [ -n "$lacking" ]; then
			say "tier $tier is not run:" "$lacking"
		elif [ -z "$(find tests/$tier -name 'test_*.py' 2>/dev/null)" ]; then
			say "tier $tier has no tests"
		else
			set -- "$@" tests/$tier
			paths=found
		fi
	done
	set -- -n 3 "$@" # tests/streams.py
	if [ -z "$paths" ]; then
		say "nothing to run" >&2
		exit 1
	fi
fi

exec .venv/bin/python -m pytest "$@"
