/* SPDX-License-Identifier: GPL-2.0-only */
/* Per-CPU counters of the interfaces: exact, since XDP is not interrupted by XDP on its own CPU. */
#ifndef CNF_COUNTERS_H
#define CNF_COUNTERS_H

#include "abi.h"
#include "parse.h"

/* The last slot counts for interfaces that user space gave none: nothing is lost, and it shows. */
BPF_PERCPU_ARRAY(interface_counters, struct interface_counters, CNF_INTERFACE_SLOTS + 1);

static __always_inline struct interface_counters *counters_of(__u32 ifindex)
{
	__u32 slot;

#pragma unroll
	for (int probe = 0; probe < CNF_SLOT_PROBES; probe++) {
		struct interface_counters *counters;

		slot = (ifindex + probe) % CNF_INTERFACE_SLOTS;
		counters = interface_counters.lookup(&slot);
		if (counters && counters->ifindex == ifindex)
			return counters;
	}
	slot = CNF_INTERFACE_SLOTS;
	return interface_counters.lookup(&slot);
}

/* Count one packet as what the parser took it for: a protocol, or UNPARSED(reason). */
static __always_inline void count(struct interface_counters *counters, int outcome, __u64 bytes)
{
	__u32 label = outcome;

	if (outcome < 0) {
		__u32 reason = UNPARSED_REASON(outcome);

		label = CNF_MALFORMED;
		if (reason < CNF_UNPARSED_REASONS) /* always; the verifier wants to see it */
			counters->unparsed[reason] += 1;
	}
	if (label < CNF_PROTOCOLS) { /* always, too */
		counters->packets[label] += 1;
		counters->bytes[label] += bytes;
	}
}

#endif
