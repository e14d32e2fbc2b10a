#!/bin/sh
# Build the Debian package of this checkout for the release that this machine runs: dist/cnf_VERSION_ARCHITECTURE.deb.
#
#   sudo sh deploy/package.sh        prints the file's name
#
# The package holds a .venv of its own, whose Python is the release's: each release needs its own package.
# DEBFULLNAME and DEBEMAIL name the maintainer, as for Debian's own tools.
set -eu
umask 022

die() {
	status=$1
	shift
	echo "deploy/package.sh: $*" >&2
	exit "$status"
}

# The version sorts by the commit's time, and a later release of Debian upgrades an earlier one's package.
describe() {
	version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' cnf/__init__.py)
	commit=""
	if [ -e .git ] && command -v git >/dev/null; then
		git="git -c safe.directory=$PWD"
		commit=$($git describe --always --dirty --exclude '*')
		SOURCE_DATE_EPOCH=$($git log -1 --format=%ct)
		version=$version+$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$(echo "$commit" | tr - .)
	fi
	export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(date +%s)}"
	# shellcheck source=/dev/null
	version=$version~$(. /etc/os-release && echo "$ID$VERSION_ID")
	architecture=$(dpkg --print-architecture)
	maintainer="${DEBFULLNAME:-cnf} <${DEBEMAIL:-nobody@cnf.invalid}>"
}

# What runs, without what builds: the locked packages, and cnf as a wheel.
make_venv() {
	/usr/bin/python3 -m venv --without-pip --system-site-packages "$home"
	mkdir "$work/source"
	cp -R cnf LICENSES LICENSE README.md pyproject.toml "$work/source"
	sed -i "s/^__commit__ = .*/__commit__ = \"$commit\"/" "$work/source/cnf/__init__.py"
	pip="$PWD/.venv/bin/pip -q --disable-pip-version-check"
	$pip wheel --no-deps --no-build-isolation --wheel-dir "$work" "$work/source"
	pip="$pip --python $home/bin/python install --no-compile"
	$pip --ignore-installed --require-hashes --only-binary :all: --requirement requirements.lock
	$pip --no-deps "$work"/cnf-*.whl
	find "$home/bin" -type f ! -name cnfd ! -name cnfctl -delete
	find "$home" -name '*.so*' -exec chmod 644 {} +
	# PyYAML reads without its copy of libyaml, too, and cnf has it do so.
	find "$home" -depth \( -name '_yaml*' -o -name tests -o -name __pycache__ -o -name '*.a' -o -name direct_url.json -o -name .gitignore \) -exec rm -r {} +
	sed -i '1s,.*,#!/usr/lib/cnf/bin/python,' "$home/bin/cnfd" "$home/bin/cnfctl"
	sed -i "s,$root,," "$home/pyvenv.cfg"
}

# Put a file in place, with what the package has elsewhere than deploy/install.sh.
place() {
	mkdir -p "$root/${2%/*}"
	sed 's,/opt/cnf/current/.venv/bin/,/usr/lib/cnf/bin/,; s,/opt/cnf/current/docs,/usr/share/doc/cnf/docs,' "$1" >"$root/$2"
}

place_files() {
	place systemd/cnfd.service usr/lib/systemd/system/cnfd.service
	place systemd/cnfd-detach.service usr/lib/systemd/system/cnfd-detach.service
	place systemd/cnfd.socket usr/lib/systemd/system/cnfd.socket
	place systemd/cnf.sysusers usr/lib/sysusers.d/cnf.conf
	place deploy/cnf.toml etc/cnf/cnf.toml
	place deploy/fail2ban/cnf.conf etc/fail2ban/action.d/cnf.conf
	mkdir -p "$root/usr/bin" "$root/usr/sbin" "$doc"
	ln -s ../lib/cnf/bin/cnfctl "$root/usr/bin/cnfctl"
	ln -s ../lib/cnf/bin/cnfd "$root/usr/sbin/cnfd"
	# In folders as here, so that links between them lead where they should.
	cp -R docs README.md CHANGELOG.md "$doc"
	for file in deploy/cnf.toml deploy/prometheus/*.yml deploy/prometheus/tests/*.yml deploy/grafana/*.json; do
		place "$file" "usr/share/doc/cnf/$file"
	done
	place deploy/debian/copyright usr/share/doc/cnf/copyright
	place deploy/debian/lintian-overrides usr/share/lintian/overrides/cnf

	.venv/bin/python deploy/completions.py "$root/usr/share"
	mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
	.venv/bin/python deploy/man_pages.py "$work/man"
	for page in "$work"/man/*/*; do place "$page" "usr/share${page#"$work"}"; done
	{
		printf 'cnf (%s) unstable; urgency=medium\n\n  * %s\n\n' "$version" "What is new stands in CHANGELOG.md."
		printf ' -- %s  %s\n' "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
	} >"$doc/changelog"
	gzip -9n "$root"/usr/share/man/*/* "$doc/changelog"
}

make_control() {
	python=$(/usr/bin/python3 -c 'import sys; print("%d.%d %d.%d" % (*sys.version_info[:2], 3, sys.version_info[1] + 1))')
	mkdir "$root/DEBIAN"
	sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@MAINTAINER@/$maintainer/
		s/@SIZE@/$(du -sk "$root" | cut -f 1)/
		s/@PYTHON@/${python% *}/; s/@NEXT_PYTHON@/${python#* }/" deploy/debian/control >"$root/DEBIAN/control"
	(cd "$root" && find etc -type f -printf '/%p\n') >"$root/DEBIAN/conffiles"
	(cd "$root" && find usr -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"
	for script in preinst postinst prerm postrm; do install -m 755 "deploy/debian/$script" "$root/DEBIAN/$script"; done
}

[ $# -eq 0 ] || die 64 "usage: sh deploy/package.sh"
cd "$(dirname "$0")/.."
sh deploy/setup.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
home=$root/usr/lib/cnf
doc=$root/usr/share/doc/cnf
describe
make_venv
place_files
make_control
mkdir -p dist
package=dist/cnf_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
echo "$package"
