#!/bin/sh
# Run the daemon under load and trouble for hours, and print each minute what it holds, and whether every packet counts.
#
#   sudo sh tests/soak/run.sh           two hours
#   sudo sh tests/soak/run.sh 10m       another length
set -eu

if [ "$(id -u)" -ne 0 ]; then
	echo "tests/soak/run.sh: must run as root: sudo sh tests/soak/run.sh" >&2
	exit 77
fi
cd "$(dirname "$0")/../.."
sh deploy/setup.sh --dev

# systemd mounts bpffs, where the daemon pins its program; in a container it may be missing: then the soak has its own.
if grep -q ' /sys/fs/bpf bpf ' /proc/self/mounts; then
	exec .venv/bin/python -m tests.soak "$@"
fi
exec unshare --mount sh -c 'mount -t bpf bpf /sys/fs/bpf; exec .venv/bin/python -m tests.soak "$@"' sh "$@"
