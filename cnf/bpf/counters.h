/* SPDX-License-Identifier: GPL-2.0-only */
/* Per-CPU counters: exact, since XDP is not interrupted by XDP on its own CPU. */
#ifndef CNF_COUNTERS_H
#define CNF_COUNTERS_H

#include "abi.h"
#include "once.h"

#define ENOMEM 12
#define EBUSY 16
#define EEXIST 17

/*
 * All interfaces that have a slot, by ifindex. An array has them again at the lowest bits of their ifindex: a lookup
 * there takes a nanosecond in place of 27. Of two interfaces with the same lowest bits, the hash has the second only.
 */
BPF_HASH(interfaces, __u32, struct interface, CNF_MAX_INTERFACES);
BPF_ARRAY(interfaces_direct, struct interface, CNF_INTERFACE_PLACES);
/* The extra last slot counts the packets of interfaces that have no slot. */
BPF_PERCPU_ARRAY(interface_counters, struct counter, (CNF_MAX_INTERFACES + 1) * CNF_INTERFACE_COUNTERS);
BPF_PERCPU_ARRAY(table_counters, struct counter, CNF_TABLES *CNF_TABLE_COUNTERS);

/* Find the slot of an interface, and what its flows are counted as, in the array; return whether it is there. */
static __always_inline int interface_find_direct(__u32 ifindex, __u32 *slot, __u32 *counted_as)
{
	__u32 index = ifindex & (CNF_INTERFACE_PLACES - 1);
	struct interface *interface = interfaces_direct.lookup(&index);
	__u64 word;

	if (!interface)
		return 0; /* never */
	word = READ_ONCE(*(__u64 *)interface); /* user space writes it whole */
	*slot = word >> 32;
	*counted_as = interface->counted_as;
	return (__u32)word == ifindex;
}

/* The same, wherever it is: an interface that has no slot counts in the extra one, as itself. */
static __always_inline void interface_find(__u32 ifindex, __u32 *slot, __u32 *counted_as)
{
	struct interface *interface;

	if (interface_find_direct(ifindex, slot, counted_as))
		return;
	interface = interfaces.lookup(&ifindex);
	*slot = interface ? interface->slot : CNF_MAX_INTERFACES;
	*counted_as = interface ? interface->counted_as : ifindex;
}

/* `what` is an enum cnf_outcome, or CNF_OUTCOMES + an enum cnf_drop. */
static __always_inline void count_packet(__u32 slot, __u32 what, __u64 bytes)
{
	__u32 index = slot * CNF_INTERFACE_COUNTERS + what;
	struct counter *counter = interface_counters.lookup(&index);

	if (counter) { /* always: the index is below the array's size */
		counter->packets += 1;
		counter->bytes += bytes;
	}
}

static __always_inline void count_table(enum cnf_table table, enum cnf_table_counter what, __u64 packets, __u64 bytes)
{
	__u32 index = table * CNF_TABLE_COUNTERS + what;
	struct counter *counter = table_counters.lookup(&index);

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
