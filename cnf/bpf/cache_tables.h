/* SPDX-License-Identifier: GPL-2.0-only */
/* The caches that there are: two tables of flows and, with limits, two of sources, each an array of sets. */
#ifndef CNF_CACHE_TABLES_H
#define CNF_CACHE_TABLES_H

#include "abi.h"
#include "cache.h"

#define CACHE_SET(slot)                                                                                                \
	struct slot##_set {                                                                                            \
		struct cache_head head;                                                                                \
		struct slot##_slot slots[CNF_WAYS];                                                                    \
	}

CACHE_SET(flow4);
CACHE_SET(flow6);
CACHE_SET(limit4);
CACHE_SET(limit6);

/* Larger ones than the verifier lets a program address are looked up by number. A table's second array has what few of
 * its slots need. */
#if CNF_DIRECT_TABLES
#define CACHE_ARRAY(name, type, count) DIRECT_ARRAY(name, type)
#else
#define CACHE_ARRAY(name, type, count) BPF_F_TABLE("array", __u32, type, name, count, BPF_F_MMAPABLE)
#endif

CACHE_ARRAY(flows4, struct flow4_set, CNF_FLOW_SETS);
#if CNF_IPV6
CACHE_ARRAY(flows6, struct flow6_set, CNF_FLOW_SETS);
#endif
#if CNF_LIMITER
CACHE_ARRAY(flow_drops4, struct flow_drops, CNF_FLOW_SETS *CNF_WAYS);
#if CNF_IPV6
CACHE_ARRAY(flow_drops6, struct flow_drops, CNF_FLOW_SETS *CNF_WAYS);
#endif
CACHE_ARRAY(limit_sources4, struct limit4_set, CNF_SOURCE_SETS);
CACHE_ARRAY(limit_sources6, struct limit6_set, CNF_SOURCE_SETS);
CACHE_ARRAY(limit_over4, struct limit_over, CNF_SOURCE_SETS *CNF_WAYS);
CACHE_ARRAY(limit_over6, struct limit_over, CNF_SOURCE_SETS *CNF_WAYS);
#endif

/* What a table looks like. */
struct cache_shape {
	__u32 sets;
	__u32 slot_bytes;
	__u32 key_at; /* bytes of the slot before its key */
	__u32 words;  /* of 64 bits, of a key */
};

#define CACHE_SHAPE(sets, slot)                                                                                        \
	((struct cache_shape){sets, sizeof(struct slot), __builtin_offsetof(struct slot, key),                         \
			      sizeof(((struct slot *)0)->key) / sizeof(__u64)})

/* `table` is a constant wherever these are called, so that one branch remains of each. */
static __always_inline struct cache_shape cache_shape(enum cnf_table table)
{
	switch (table) {
	case CNF_TABLE_IPV4:
		return CACHE_SHAPE(CNF_FLOW_SETS, flow4_slot);
	case CNF_TABLE_IPV6:
		return CACHE_SHAPE(CNF_FLOW_SETS, flow6_slot);
#if CNF_LIMITER
	case CNF_TABLE_SOURCES4:
		return CACHE_SHAPE(CNF_SOURCE_SETS, limit4_slot);
	case CNF_TABLE_SOURCES6:
		return CACHE_SHAPE(CNF_SOURCE_SETS, limit6_slot);
#endif
	default:
		return (struct cache_shape){};
	}
}

/* Return a set of a table, by a number below cache_shape().sets. */
static __always_inline struct cache_head *cache_set(enum cnf_table table, __u32 set)
{
	switch (table) {
#if CNF_DIRECT_TABLES
	case CNF_TABLE_IPV4:
		return &DIRECT_AT(flows4, set)->head;
#if CNF_IPV6
	case CNF_TABLE_IPV6:
		return &DIRECT_AT(flows6, set)->head;
#endif
#if CNF_LIMITER
	case CNF_TABLE_SOURCES4:
		return &DIRECT_AT(limit_sources4, set)->head;
	case CNF_TABLE_SOURCES6:
		return &DIRECT_AT(limit_sources6, set)->head;
#endif
#else
	case CNF_TABLE_IPV4:
		return (void *)flows4.lookup(&set);
#if CNF_IPV6
	case CNF_TABLE_IPV6:
		return (void *)flows6.lookup(&set);
#endif
#if CNF_LIMITER
	case CNF_TABLE_SOURCES4:
		return (void *)limit_sources4.lookup(&set);
	case CNF_TABLE_SOURCES6:
		return (void *)limit_sources6.lookup(&set);
#endif
#endif
	default:
		return NULL;
	}
}

/* Return what a slot has in the second array: a flow_drops or a limit_over; NULL where there are no limits. */
static __always_inline void *cache_aside(enum cnf_table table, __u32 index)
{
#if CNF_LIMITER
	__u64 number = index;

	WITHOUT_BRANCH(number);
	if (number >= cache_shape(table).sets * CNF_WAYS)
		return NULL; /* does not happen */
	index = number;
	switch (table) {
#if CNF_DIRECT_TABLES
	case CNF_TABLE_IPV4:
		return DIRECT_AT(flow_drops4, number);
#if CNF_IPV6
	case CNF_TABLE_IPV6:
		return DIRECT_AT(flow_drops6, number);
#endif
	case CNF_TABLE_SOURCES4:
		return DIRECT_AT(limit_over4, number);
	case CNF_TABLE_SOURCES6:
		return DIRECT_AT(limit_over6, number);
#else
	case CNF_TABLE_IPV4:
		return flow_drops4.lookup(&index);
#if CNF_IPV6
	case CNF_TABLE_IPV6:
		return flow_drops6.lookup(&index);
#endif
	case CNF_TABLE_SOURCES4:
		return limit_over4.lookup(&index);
	case CNF_TABLE_SOURCES6:
		return limit_over6.lookup(&index);
#endif
	default:
		return NULL;
	}
#else
	return NULL;
#endif
}

#endif
