#!/bin/sh
# PID 1 of a virtual machine, with its root in place: run the command of the folder $1, say its exit status, power off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export CNF_SLOWNESS=20 # for tests that wait
mkdir -p /usr/lib/modules
ln -sfn "$(cat "$1/modules")" "/usr/lib/modules/$(uname -r)"
ip link set lo up
exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw
sh "$1/command"
echo "exit status $?"
busybox poweroff -f
