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

exec .venv/bin/python -m tests.soak "$@"
