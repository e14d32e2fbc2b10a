#!/bin/sh
# Measure the datapath, the drain, the scrape and the daemon, and print the figures beside what they must reach.
#
#   sudo sh bench/run.sh                  four minutes, on a machine with nothing else to do, and 4 GB for tables
#   sudo sh bench/run.sh --quick          fewer rounds and sections: less than a minute
#   sudo sh bench/run.sh --json FILE      the figures as JSON as well
set -eu

if [ "$(id -u)" -ne 0 ]; then
	echo "bench/run.sh: must run as root: sudo sh bench/run.sh" >&2
	exit 77
fi
root=$(dirname "$0")/..
sh "$root/deploy/setup.sh"
exec "$root/.venv/bin/python" -m bench "$@"
