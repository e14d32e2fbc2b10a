/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The flow tables, one a family: account_flow() adds a packet to its flow, making the flow if need be. A table is an
 * LRU hash shared by all CPUs: it never refuses a flow for being full, but lets the longest unused go.
 * Entries are cumulative: user space reads them, and deletes only those that have been idle or have ended.
 */
#ifndef CNF_FLOW_TABLE_H
#define CNF_FLOW_TABLE_H

#include "abi.h"
#include "counters.h"
#include "parse.h"

#define ENOMEM 12
#define EBUSY 16
#define EEXIST 17

BPF_TABLE("lru_hash", struct flow4_key, struct flow_value, flows4, CNF_MAX_ENTRIES);
#if CNF_IPV6
BPF_TABLE("lru_hash", struct flow6_key, struct flow_value, flows6, CNF_MAX_ENTRIES);
#endif

/*
 * Write all that follows the addresses, `src_port` and on, as words of 32 bits. The hash reads a key in such words; one
 * put together of narrower stores, it cannot have before they have all reached the cache: a third of a packet's time.
 */
static __always_inline void complete_key(__u16 *src_port, __u32 ifindex, __u16 vlan, struct transport *transport)
{
	__u32 *words = (void *)src_port;

	words[0] = transport->ports;
	words[1] = ifindex;
	words[2] = vlan | (__u32)transport->protocol << 16 | (__u32)transport->flow_flags << 24;
	words[3] = 0;
}

/* `table` is a constant wherever these are called, so that one branch remains of each. */
static __always_inline struct flow_value *flow_lookup(enum cnf_table table, void *key)
{
#if CNF_IPV6
	if (table == CNF_TABLE_IPV6)
		return flows6.lookup((struct flow6_key *)key);
#endif
	return flows4.lookup((struct flow4_key *)key);
}

static __always_inline long flow_insert(enum cnf_table table, void *key, struct flow_value *value)
{
#if CNF_IPV6
	if (table == CNF_TABLE_IPV6)
		return flows6.insert((struct flow6_key *)key, value);
#endif
	return flows4.insert((struct flow4_key *)key, value);
}

static __always_inline void flow_add(struct flow_value *value, __u64 bytes, __u8 tcp_flags, __u64 now)
{
	/* Several CPUs may hold the value at once: sums are atomic; of two times of the same tick either will do. */
	__sync_fetch_and_add(&value->packets, 1);
	__sync_fetch_and_add(&value->bytes, bytes);
	if (value->last_seen != now)
		value->last_seen = now;
	if ((value->tcp_flags | tcp_flags) != value->tcp_flags)
		__sync_fetch_and_or(&value->tcp_flags, (__u64)tcp_flags);
}

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

static __always_inline void account_flow(enum cnf_table table, void *key, __u64 bytes, __u8 tcp_flags)
{
	/* The one clock read of a packet; jiffies are inlined, and a tick is fine enough for first and last seen. */
	__u64 now = bpf_jiffies64();
	struct flow_value *value = flow_lookup(table, key);
	struct flow_value fresh;
	long error;

	if (value) {
		flow_add(value, bytes, tcp_flags, now);
		return;
	}
	fresh = (struct flow_value){
		.packets = 1, .bytes = bytes, .first_seen = now, .last_seen = now, .tcp_flags = tcp_flags};
	error = flow_insert(table, key, &fresh);
	if (!error) {
		count_insert(table, CNF_INSERT_DONE, bytes);
		return;
	}
	if (error == -EEXIST) { /* another CPU was first */
		value = flow_lookup(table, key);
		if (value) {
			flow_add(value, bytes, tcp_flags, now);
			return;
		}
	}
	count_insert(table, insert_error(error), bytes);
}

/* Add the packet to its flow; one that is dropped makes no flow, and only one that is there counts it. */
static __always_inline void account(enum cnf_table table, void *key, __u64 bytes, __u8 tcp_flags, int dropped)
{
	struct flow_value *value;

	if (!dropped) {
		account_flow(table, key, bytes, tcp_flags);
		return;
	}
	value = flow_lookup(table, key);
	if (!value)
		return;
	__sync_fetch_and_add(&value->dropped_packets, 1);
	__sync_fetch_and_add(&value->dropped_bytes, bytes);
}

#endif
