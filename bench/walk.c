/* SPDX-License-Identifier: Apache-2.0 */
/* The least that reading a table takes: batches into the same two buffers, and nothing done with them. */
#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

long walk(int fd, uint32_t batch, void *keys, void *values)
{
	uint64_t cursor = 0;
	union bpf_attr attr;
	long entries = 0;
	int status;

	memset(&attr, 0, sizeof(attr));
	attr.batch.map_fd = fd;
	attr.batch.out_batch = (uintptr_t)&cursor;
	attr.batch.keys = (uintptr_t)keys;
	attr.batch.values = (uintptr_t)values;
	do {
		attr.batch.count = batch;
		status = syscall(SYS_bpf, BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr));
		if (status && errno != ENOENT)
			return -errno;
		entries += attr.batch.count;
		attr.batch.in_batch = (uintptr_t)&cursor;
	} while (!status);
	return entries;
}
