/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow tables, one a family, shared by all CPUs. flow_find() looks for a packet's flow before the limiter decides,
 * so that its memory is on the way. account() adds the packet to the flow, or begins one. A full table lets the longest
 * unused flow go for a new one. Counts of a flow only grow.
 *
 * CNF_CACHE chooses what a table is made of: flow_cache.h or flow_hash.h. Both define struct flow_place, flow_find(),
 * account_flow() and account_drop().
 */
#ifndef CNF_FLOW_TABLE_H
#define CNF_FLOW_TABLE_H

#include "abi.h"
#include "counters.h"
#include "events.h"
#include "parse.h"

/*
 * Write all that follows the addresses, from `src_port` on, in words of 32 bits, as the hash reads them. After narrower
 * stores a read of the whole word waits until all have reached the cache: a third of a packet's time.
 */
static __always_inline void complete_key(__u16 *src_port, __u32 ifindex, __u16 vlan, struct transport *transport)
{
	__u32 *words = (void *)src_port;

	words[0] = transport->ports;
	words[1] = ifindex;
	words[2] = vlan | (__u32)transport->protocol << 16 | (__u32)transport->flow_flags << 24;
	words[3] = 0;
}

/* Return the flags of a packet as a flow has them: as its own, and as those of the part that is not recorded yet. */
static __always_inline __u64 flow_flags(__u64 tcp_flags)
{
	return CNF_FLOW_RECORDS ? tcp_flags | tcp_flags << CNF_PART_FLAGS_SHIFT : tcp_flags;
}

static __always_inline void flow_add(struct flow_value *value, struct wire wire, __u8 tcp_flags, __u64 now)
{
	__u64 seen = flow_flags(tcp_flags);

	/* Several CPUs may write at once. Sums are atomic; of two times that are written, either will do. */
	__sync_fetch_and_add(&value->packets, wire.packets);
	__sync_fetch_and_add(&value->bytes, wire.bytes);
	if (value->last_seen != now)
		value->last_seen = now;
	if ((value->tcp_flags | seen) != value->tcp_flags)
		__sync_fetch_and_or(&value->tcp_flags, seen);
}

/* Return what a flow begins with, by its first packet. SYN, unless ACK is set, is moved to the bit. */
static __always_inline __u64 flow_first_flags(struct transport *transport)
{
	__u64 tcp_flags = transport->tcp_flags, opens = tcp_flags & ~(tcp_flags / (TCP_ACK / TCP_SYN)) & TCP_SYN;

	tcp_flags = flow_flags(tcp_flags) | opens * (CNF_FLOW_OPENED / TCP_SYN);
	return CNF_FLOW_RECORDS ? tcp_flags | (__u64)transport->link_bytes << CNF_LINK_BYTES_SHIFT : tcp_flags;
}

/* Return the direction of the flow that has a key of this table. */
static __always_inline enum cnf_direction flow_direction(enum cnf_table table, const void *key)
{
	__u8 flags = table == CNF_TABLE_IPV6 ? ((struct flow6_key *)key)->flags : ((struct flow4_key *)key)->flags;

	return CNF_EGRESS && flags & CNF_FLOW_EGRESS ? CNF_DIRECTION_EGRESS : CNF_DIRECTION_INGRESS;
}

#if CNF_CACHE
#include "flow_cache.h"
#else
#include "flow_hash.h"
#endif

/* Add the packet to its flow; one that is dropped makes no flow, and only one that is there counts it. */
static __always_inline void account(enum cnf_table table, void *key, struct flow_place *place, struct wire wire,
				    struct transport *transport, int dropped)
{
	if (!dropped)
		account_flow(table, key, place, wire, transport);
	else if (flow_is_alive(table, place))
		account_drop(table, key, place, wire);
}

#endif
