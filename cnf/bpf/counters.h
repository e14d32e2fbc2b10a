/* SPDX-License-Identifier: GPL-2.0-only */
/* Per-CPU counters: exact, since XDP is not interrupted by XDP on its own CPU. */
#ifndef CNF_COUNTERS_H
#define CNF_COUNTERS_H

#include "abi.h"

#define ENOMEM 12
#define EBUSY 16
#define EEXIST 17

/* One slot more than there are is for interfaces that user space gave none: nothing is lost, and it shows. */
BPF_ARRAY(interface_slots, __u32, CNF_INTERFACE_SLOTS);
BPF_PERCPU_ARRAY(interface_counters, struct counter, (CNF_INTERFACE_SLOTS + 1) * CNF_INTERFACE_COUNTERS);
BPF_PERCPU_ARRAY(table_counters, struct counter, CNF_TABLES *CNF_TABLE_COUNTERS);

static __always_inline __u32 interface_slot(__u32 ifindex)
{
#pragma unroll
	for (int probe = 0; probe < CNF_SLOT_PROBES; probe++) {
		__u32 slot = (ifindex + probe) % CNF_INTERFACE_SLOTS, *owner = interface_slots.lookup(&slot);

		if (owner && *owner == ifindex)
			return slot;
	}
	return CNF_INTERFACE_SLOTS;
}

/* `what` is an enum cnf_outcome, or CNF_OUTCOMES + an enum cnf_drop. */
static __always_inline void count_packet(__u32 slot, __u32 what, __u64 bytes)
{
	__u32 place = slot * CNF_INTERFACE_COUNTERS + what;
	struct counter *counter = interface_counters.lookup(&place);

	if (counter) { /* always: the place is below the array's size */
		counter->packets += 1;
		counter->bytes += bytes;
	}
}

static __always_inline void count_table(enum cnf_table table, enum cnf_table_counter what, __u64 packets, __u64 bytes)
{
	__u32 place = table * CNF_TABLE_COUNTERS + what;
	struct counter *counter = table_counters.lookup(&place);

	if (counter) { /* always */
		counter->packets += packets;
		counter->bytes += bytes;
	}
}

/* Return what an insert into a hash map that failed counts as. */
static __always_inline enum cnf_table_counter insert_error(long error)
{
	switch (error) {
	case -ENOMEM:
		return CNF_INSERT_NO_MEMORY;
	case -EBUSY:
		return CNF_INSERT_BUSY;
	case -EEXIST:
		return CNF_INSERT_RACED;
	default:
		return CNF_INSERT_OTHER;
	}
}

#endif
