/* SPDX-License-Identifier: GPL-2.0-only */
/* A flow table in an LRU hash of the kernel. User space deletes the flows that have expired. */
#ifndef CNF_FLOW_HASH_H
#define CNF_FLOW_HASH_H

BPF_TABLE("lru_hash", struct flow4_key, struct flow_value, flows4, CNF_MAX_ENTRIES);
#if CNF_IPV6
BPF_TABLE("lru_hash", struct flow6_key, struct flow_value, flows6, CNF_MAX_ENTRIES);
#endif

/* An element may go to another flow as soon as it is looked up: it is looked up where it is needed. */
struct flow_place {};

static __always_inline void flow_find(enum cnf_table table, void *key, struct flow_place *place)
{
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

static __always_inline void account_flow(enum cnf_table table, void *key, struct flow_place *place, struct wire wire,
					 struct transport *transport)
{
	/* Jiffies are inlined, and a tick is fine enough for first and last seen. */
	__u64 now = bpf_jiffies64();
	struct flow_value *value = flow_lookup(table, key);
	struct flow_value fresh;
	long error;

	if (value) {
		flow_add(value, wire, transport->tcp_flags, now);
		return;
	}
	fresh = (struct flow_value){.packets = wire.packets,
				    .bytes = wire.bytes,
				    .first_seen = now,
				    .last_seen = now,
				    .tcp_flags = flow_first_flags(transport)};
	error = flow_insert(table, key, &fresh);
	if (!error) {
		count_table(table, flow_direction(table, key), CNF_INSERT_DONE, 1, wire.bytes);
		return;
	}
	if (error == -EEXIST) { /* another CPU was first */
		value = flow_lookup(table, key);
		if (value) {
			flow_add(value, wire, transport->tcp_flags, now);
			return;
		}
	}
	count_table(table, flow_direction(table, key), insert_error(error), wire.packets, wire.bytes);
}

/* User space deletes what has expired. */
static __always_inline int flow_is_alive(enum cnf_table table, struct flow_place *place)
{
	return 1;
}

static __always_inline void account_drop(enum cnf_table table, void *key, struct flow_place *place, struct wire wire)
{
	struct flow_value *value = flow_lookup(table, key);

	if (!value)
		return;
	__sync_fetch_and_add(&value->dropped_packets, wire.packets);
	__sync_fetch_and_add(&value->dropped_bytes, wire.bytes);
}

#endif
