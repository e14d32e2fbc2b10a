/* SPDX-License-Identifier: GPL-2.0-only */
/* Per-CPU counters: exact, since the programs run with softirqs off or in one, so that none interrupts another. */
#ifndef CNF_COUNTERS_H
#define CNF_COUNTERS_H

#include "abi.h"
#include "direct.h"
#include "frame.h"
#include "once.h"
#include "verifier.h"

#define ENOMEM 12
#define EBUSY 16
#define EEXIST 17

/*
 * All interfaces that have a slot, by ifindex. An array has them again at the lowest bits of their ifindex: a lookup
 * there takes a nanosecond in place of 27. Of two interfaces with the same lowest bits, the hash has the second only.
 */
BPF_HASH(interfaces, __u32, struct interface, CNF_MAX_INTERFACES);
DIRECT_ARRAY(interfaces_direct, struct interface);
/* The extra last slot counts the packets of interfaces that have no slot. */
BPF_PERCPU_ARRAY(interface_counters, struct counter, (CNF_MAX_INTERFACES + 1) * CNF_INTERFACE_COUNTERS);
#if CNF_EGRESS
BPF_PERCPU_ARRAY(interface_sent, struct counter, (CNF_MAX_INTERFACES + 1) * CNF_OUTCOMES);
#endif
BPF_PERCPU_ARRAY(table_counters, struct counter, CNF_DIRECTIONS * CNF_TABLES * CNF_TABLE_COUNTERS);

/* Find what is known of an interface in the array; return whether it is there. */
static __always_inline int interface_find_direct(__u32 ifindex, struct interface *found)
{
	struct interface *interface = ELEMENT(interfaces_direct, ifindex & (CNF_COUNT_interfaces_direct - 1));
	__u64 word;

	if (MISSING(interfaces_direct, interface))
		return 0;
	word = READ_ONCE(*(__u64 *)interface); /* user space writes it whole */
	found->slot = word >> 32;
	found->counted_as = interface->counted_as;
	found->no_ethernet = interface->no_ethernet;
	return (__u32)word == ifindex;
}

/* The same, wherever it is: an interface that has no slot counts in the extra one, as itself. */
static __always_inline void interface_find(__u32 ifindex, struct interface *found)
{
	struct interface *interface;
	__u64 zero;

	if (interface_find_direct(ifindex, found))
		return;
	zero = unknown_zero(ifindex);
	interface = interfaces.lookup(&ifindex);
	*found = (struct interface){.slot = CNF_MAX_INTERFACES, .counted_as = ifindex};
	if (interface)
		*found = *interface;
	FORGET(found->slot, zero);
	FORGET(found->counted_as, zero);
	FORGET(found->no_ethernet, zero);
}

static __always_inline void counter_add(struct counter *counter, struct wire wire)
{
	if (counter) { /* always: indexes are below the arrays' sizes */
		counter->packets += wire.packets;
		counter->bytes += wire.bytes;
	}
}

/* Count what was received: `what` is an enum cnf_outcome, or CNF_OUTCOMES + an enum cnf_drop. */
static __always_inline void count_received(__u32 slot, __u32 what, struct wire wire)
{
	__u32 index = slot * CNF_INTERFACE_COUNTERS + what;

	counter_add(interface_counters.lookup(&index), wire);
}

static __always_inline void count_frame(const struct frame *frame, __u32 slot, enum cnf_outcome outcome,
					struct wire wire)
{
#if CNF_EGRESS
	if (frame->hook == CNF_HOOK_EGRESS) {
		__u32 index = slot * CNF_OUTCOMES + outcome;

		counter_add(interface_sent.lookup(&index), wire);
		return;
	}
#endif
	count_received(slot, outcome, wire);
}

/* Of a table of sources, all is ingress. */
static __always_inline void count_table(enum cnf_table table, enum cnf_direction direction, enum cnf_table_counter what,
					__u64 packets, __u64 bytes)
{
	__u32 index = (direction * CNF_TABLES + table) * CNF_TABLE_COUNTERS + what;

	counter_add(table_counters.lookup(&index), (struct wire){packets, bytes});
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
