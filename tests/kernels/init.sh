#!/bin/sh
# PID 1 of a virtual machine's first moments, in its initial RAM disk. The root that it goes on with is the files of the
# machine around it, read by 9p; what is changed lies over them in memory, and ends with the virtual machine.
set -e
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /modules/*; do
	insmod "$module"
done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose files /files
mount -t tmpfs -o size=1g changes /changes
mkdir /changes/files /changes/work
mount -t overlay -o lowerdir=/files,upperdir=/changes/files,workdir=/changes/work root /root

mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mount -t tmpfs run /root/run
mount -t bpf -o mode=700 bpf /root/sys/fs/bpf
mount -t cgroup2 cgroup /root/sys/fs/cgroup
mount -t securityfs security /root/sys/kernel/security
mount -t tracefs tracing /root/sys/kernel/tracing
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts pts /root/dev/pts
mount -t tmpfs shm /root/dev/shm

folder=$(sed -n 's/.*cnf\.folder=\([^ ]*\).*/\1/p' /proc/cmdline)
exec switch_root /root /bin/sh "$folder/inside.sh" "$folder"
