#!/bin/sh
# Install this checkout on this Debian or Ubuntu machine as the service cnfd, or bring what is installed up to it.
#
#   sudo sh deploy/install.sh                       install or upgrade; a service that runs goes on with what it has
#   sudo sh deploy/install.sh --restart             the same, and start the service with it
#   sudo sh deploy/install.sh --uninstall           remove everything but the configuration and the state
#   sudo sh deploy/install.sh --uninstall --purge   remove those, too
#
# Safe to repeat. Each version has a folder of its own, made by deploy/setup.sh, and is switched to by one rename:
# /opt/cnf/current is the one in use, /opt/cnf/previous the previous one. To go back, run that one's install.sh.
set -eu
umask 022

home=/opt/cnf
units=/usr/local/lib/systemd/system # /etc is the administrator's, for systemctl edit
unit=$units/cnfd.service
user=/usr/local/lib/sysusers.d/cnf.conf
config=/etc/cnf/cnf.toml
state=/var/lib/cnf
cache=/var/cache/cnf
actions=/etc/fail2ban/action.d
contents="cnf deploy docs systemd LICENSES LICENSE README.md CHANGELOG.md
pyproject.toml requirements.lock requirements-build.lock requirements-dev.lock"

say() { echo "deploy/install.sh: $*"; }

die() {
	status=$1
	shift
	say "$*" >&2
	exit "$status"
}

systemd_runs() { [ -d /run/systemd/system ]; }
is_running() { systemd_runs && systemctl -q is-active cnfd; }

# Put a file in place as a whole, if it is not there yet.
place() {
	cmp -s "$1" "$2" || { install -D -m 644 "$1" "$2.new" && mv "$2.new" "$2"; }
}

# Make a symbolic link, or have it point elsewhere, in one step.
point() {
	ln -sfn "$2" "$1.new"
	mv -T "$1.new" "$1"
}

release_of() { readlink "$home/$1" || true; } # releases/NAME

# A version's name: its number, and a digest of all that it consists of.
name_release() {
	case $PWD in "$home"/releases/*) echo "${PWD##*/}" && return ;; esac
	number=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' cnf/__init__.py)
	# shellcheck disable=SC2086 # one word a file or folder
	digest=$(find $contents -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
	echo "$number-$(echo "$digest" | cut -c-8)"
}

# The commit of this checkout, marked if files have changed since. Nothing where git does not know.
commit() {
	[ ! -e .git ] || git -c safe.directory="$PWD" describe --always --dirty --exclude '*' 2>/dev/null || true
}

run() { (cd "$home/$release" && .venv/bin/python "$@"); }

make_release() {
	if [ ! -d "$home/$release" ]; then
		rm -rf "$home/$release.new"
		mkdir -p "$home/$release.new"
		# shellcheck disable=SC2086 # one word a file or folder
		cp -R $contents "$home/$release.new"
		chmod -R u=rwX,go=rX "$home/$release.new" # whatever it is for the owner of the checkout
		sed -i "s/^__commit__ = .*/__commit__ = \"$(commit)\"/" "$home/$release.new/cnf/__init__.py"
		mv "$home/$release.new" "$home/$release"
	fi
	sh "$home/$release/deploy/setup.sh" # where it is to stay: .venv cannot move
	# The service may not write there, and would compile them at each start.
	run -m compileall -q cnf || die 71 "$home/$release: not compiled"
	if [ ! -d "$home/$release/share" ]; then
		rm -rf "$home/$release/share.new"
		run deploy/completions.py "$home/$release/share.new"
		run deploy/man_pages.py "$home/$release/share.new/man"
		mv "$home/$release/share.new" "$home/$release/share"
	fi
}

switch_to_release() {
	before=$(release_of current)
	[ "$before" != "$release" ] || return 0
	[ -z "$before" ] || point "$home/previous" "$before"
	point "$home/current" "$release"
}

# Remove the versions that are neither current nor previous, unless a process still runs one.
remove_old_releases() {
	for folder in "$home"/releases/*; do
		case releases/${folder##*/} in
		"$(release_of current)" | "$(release_of previous)") continue ;;
		esac
		grep -qsF "$folder/" /proc/[0-9]*/cmdline || rm -rf "$folder"
	done
}

# Have /usr/local/$2 lead to $1 of the version in use. Somebody else's file is not replaced.
place_link() {
	case $(readlink "/usr/local/$2" || true) in
	"$home"/*) ;;
	*) mkdir -p "$(dirname "/usr/local/$2")" && ln -s "$home/current/$1" "/usr/local/$2" ;;
	esac
}

place_system_files() {
	place systemd/cnfd.service "$unit"
	place systemd/cnfd-detach.service "$units/cnfd-detach.service"
	place systemd/cnfd.socket "$units/cnfd.socket"
	place systemd/cnf.sysusers "$user"
	systemd-sysusers "$user"
	place deploy/cnf.toml "$config.example"
	[ -e "$config" ] || place deploy/cnf.toml "$config"
	[ ! -d "$actions" ] || place deploy/fail2ban/cnf.conf "$actions/cnf.conf"
	for command in cnfd cnfctl; do place_link ".venv/bin/$command" "bin/$command"; done
	for file in $(cd "$home/current" && find share -type f); do place_link "$file" "$file"; done
	if systemd_runs; then systemctl daemon-reload; fi
	if [ -e /etc/systemd/system/cnfd.service ]; then
		say "/etc/systemd/system/cnfd.service is in use, and not $unit: remove it, unless it is meant to be" >&2
	fi
}

restart_service() {
	systemd_runs || die 69 "systemd does not run here: nothing to restart"
	# The service that runs is worth more than one that would not start.
	/usr/local/bin/cnfd --check-config --config "$config" >/dev/null || die 78 "installed, but not restarted"
	systemctl restart cnfd || die 69 "cnfd did not start: see systemctl status cnfd$back"
	say "cnfd runs ${release#releases/}"
}

install_all() {
	release=releases/$(name_release)
	make_release
	switch_to_release
	place_system_files
	remove_old_releases
	back=""
	[ ! -e "$home/previous" ] || back="; to go back: sudo sh $home/previous/deploy/install.sh --restart"
	say "${release#releases/} is installed$back"
	if [ -n "$restart" ]; then
		restart_service
	elif is_running; then
		say "cnfd still runs what it was started with; next: systemctl restart cnfd"
	else
		say "next: edit $config, then: cnfctl doctor, then: systemctl enable --now cnfd"
	fi
}

# What a crash, or on_exit = "keep", has left on the interfaces, and the pins by which it is known.
detach_all() {
	cnfctl=$home/current/.venv/bin/cnfctl
	[ ! -x "$cnfctl" ] || "$cnfctl" detach || die 71 "not uninstalled: programs would stay on their interfaces"
}

uninstall() {
	if [ -e "$unit" ]; then
		systemctl -q disable --now cnfd.socket 2>/dev/null || true # it may be of an older version, and not there
		systemctl -q disable --now cnfd || die 71 "not uninstalled: cnfd was not stopped"
		systemctl -q reset-failed cnfd 2>/dev/null || true # nothing to reset
	fi
	detach_all
	rm -rf "$unit" "$units/cnfd-detach.service" "$units/cnfd.socket" "$user" "$home" /run/cnf "$cache" "$actions/cnf.conf"
	find /usr/local/bin /usr/local/share -lname "$home/*" -delete
	(cd /usr/local/share/man && rmdir man1 man5 man8 2>/dev/null) || true # not empty: others' pages
	for folder in share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d \
		lib/systemd/system lib/sysusers.d; do
		(cd "/usr/local/${folder%%/*}" && rmdir -p "${folder#*/}" 2>/dev/null) || true
	done
	if systemd_runs; then systemctl daemon-reload; fi
	if [ -n "$purge" ]; then
		rm -rf "${config%/*}" "$state" /etc/systemd/system/cnfd.service.d /etc/systemd/system/cnfd.socket.d
	else
		rm -f "$config.example"
		# The next user of that number is somebody else.
		[ ! -d "$state" ] || chown -R root: "$state"
	fi
	# Only the user that was made here.
	if getent passwd cnf | grep -q ':XDP flow tracker:'; then userdel cnf; fi
	say "uninstalled${purge:+, with configuration and state}"
	[ -n "$purge" ] || say "kept, where there was any: ${config%/*}, $state (--uninstall --purge removes them)"
}

restart="" purge="" action=install_all
case "$*" in
"") ;;
--restart) restart=yes ;;
--uninstall) action=uninstall ;;
"--uninstall --purge") action=uninstall purge=yes ;;
*) die 64 "usage: sh deploy/install.sh [--restart | --uninstall [--purge]]" ;;
esac
[ "$(id -u)" -eq 0 ] || die 77 "must run as root: sudo sh deploy/install.sh${*:+ $*}"
[ ! -e /usr/lib/systemd/system/cnfd.service ] ||
	die 69 "the Debian package has installed it already: apt remove cnf, which keeps the configuration"
command -v systemctl >/dev/null || die 69 "needs systemd, and this machine has no systemctl"

cd "$(dirname "$0")/.."
cd "$(pwd -P)" # /opt/cnf/previous is about to become another one
mkdir -p "$home"
exec 8<"$home"
flock 8 # one at a time
$action
