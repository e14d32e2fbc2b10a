#!/bin/sh
# Install what cnf needs on a Debian or Ubuntu machine: distribution packages, and .venv with the project in it.
#
#   sudo sh deploy/setup.sh          what cnfd and cnfctl need
#   sudo sh deploy/setup.sh --dev    the tools of tests/run.sh and .ci/run as well
#
# Safe to repeat: it does what is missing, and where nothing is, it says nothing and takes a moment.
set -eu
umask 022

python=/usr/bin/python3 # the distribution's own: BCC's module is built for no other

# python3-venv: Python and its virtual environments     iproute2: ip, for namespaces and veth pairs of demo and tests
# python3-bpfcc: BCC, which PyPI does not have          iputils-ping: ping, the ICMP traffic of the demo
# libbpf1: how the daemon reads maps
packages="python3-venv python3-bpfcc libbpf1 iproute2 iputils-ping"
# The new machines of tests/system: what makes them, what Debian signs with, what runs them.
# The kernels of tests/kernels: what emulates a machine, what makes its initial RAM disk.
# What looks at the package of deploy/package.sh. What makes certificates for tests.
dev_packages="debootstrap debian-archive-keyring systemd-container qemu-system-x86 busybox-static kmod lintian openssl"

die() {
	status=$1
	shift
	echo "deploy/setup.sh: $*" >&2
	exit "$status"
}

# Run a command with its output held back, and show that only if it fails.
quietly() {
	output=$("$@" 2>&1) && return
	printf '%s\n' "$output" >&2
	die 69 "failed: $*"
}

install_packages() {
	missing=""
	for package in "$@"; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
		installed*) ;; # once an architecture
		*) missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0
	echo "installing$missing" >&2
	export DEBIAN_FRONTEND=noninteractive
	quietly apt-get -q update
	# A machine that has just booted may be at its own updates: wait for them.
	# shellcheck disable=SC2086 # one word a package
	quietly apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $missing
}

# What .venv depends on: the locks, the project's entry points, Python's version, and where it stands (it cannot move).
fingerprint() {
	{
		cat pyproject.toml requirements*.lock deploy/setup.sh
		$python -V
		pwd
	} | sha256sum
}

make_venv() {
	fingerprint=$(fingerprint)
	if [ "$(cat .venv/.setup 2>/dev/null)" != "$fingerprint" ]; then
		echo "making .venv" >&2
		quietly $python -m venv --clear --system-site-packages .venv
		install_locked requirements.lock
		install_locked requirements-build.lock
		# Editable: .venv/bin/cnfd runs this checkout. The build backend is the locked one.
		quietly .venv/bin/pip install -q --no-deps --no-build-isolation --editable .
		echo "$fingerprint" >.venv/.setup
	fi
	if [ -n "$dev" ] && [ "$(cat .venv/.setup-dev 2>/dev/null)" != "$fingerprint" ]; then
		echo "adding the development tools to .venv" >&2
		install_locked requirements-dev.lock
		add_prometheus
		add_collectors
		echo "$fingerprint" >.venv/.setup-dev
	fi
}

# --ignore-installed: what the distribution has installed does not stand in for what is locked.
install_locked() {
	quietly .venv/bin/pip install -q --ignore-installed --require-hashes --only-binary :all: --requirement "$1"
}

# prometheus and promtool test deploy/prometheus and deploy/grafana; they and the node exporter test web configurations.
# Only these programs of their packages, of which two would start a server. Where there is no package promtool
# (Debian 12), the first one has it.
add_prometheus() {
	quietly apt-get -q update
	folder=$(mktemp -d)
	for package in $(apt-cache search --names-only '^(prometheus|promtool|prometheus-node-exporter)$' | cut -d ' ' -f 1); do
		(cd "$folder" && quietly apt-get -q -o APT::Sandbox::User=root download "$package")
		quietly dpkg-deb --extract "$folder/${package}"_*.deb "$folder"
	done
	mv "$folder/usr/bin/prometheus" "$folder/usr/bin/promtool" "$folder/usr/bin/prometheus-node-exporter" .venv/bin/
	rm -r "$folder"
}

# Collectors of flow records, and a firewall, for tests/collectors. Installed, some would start as services: they are
# unpacked only.
add_collectors() {
	folder=$(mktemp -d)
	mkdir "$folder/partial"
	quietly apt-get -q -y -o Dir::Cache::archives="$folder" -o APT::Sandbox::User=root \
		install --download-only --no-install-recommends nfdump pmacct tshark nftables
	rm -rf .venv/collectors
	for archive in "$folder"/*.deb; do
		[ ! -e "$archive" ] || quietly dpkg-deb --extract "$archive" .venv/collectors
	done
	rm -r "$folder"
}

dev=""
case "$#:${1:-}" in
0:) ;;
1:--dev) dev=yes ;;
*) die 64 "usage: sh deploy/setup.sh [--dev]" ;;
esac
[ "$(id -u)" -eq 0 ] || die 77 "must run as root: sudo sh deploy/setup.sh"
command -v apt-get >/dev/null || die 69 "knows Debian and Ubuntu only, and this machine has no apt-get"

cd "$(dirname "$0")/.."
exec 9<deploy/setup.sh
flock 9 # one set-up at a time: the second finds all done
# shellcheck disable=SC2086 # one word a package
install_packages $packages ${dev:+$dev_packages}
$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	die 69 "needs Python 3.11 or newer, and $python is $($python -V): use Debian 12, Ubuntu 24.04 or later"
make_venv
