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

DIRECT_ARRAY(flows4, struct flow4_set);
#if CNF_IPV6
DIRECT_ARRAY(flows6, struct flow6_set);
#endif
#if CNF_FLOW_RECORDS
DIRECT_ARRAY(flow_recorded4, struct flow_recorded);
DIRECT_ARRAY(flow_until4, __u64); /* apart, since a drain reads all of it */
#if CNF_IPV6
DIRECT_ARRAY(flow_recorded6, struct flow_recorded);
DIRECT_ARRAY(flow_until6, __u64);
#endif
#endif
/* A table's second array has what few of its slots need. */
#if CNF_FLOW_DROPS
DIRECT_ARRAY(flow_drops4, struct flow_drops);
#if CNF_IPV6
DIRECT_ARRAY(flow_drops6, struct flow_drops);
#endif
#endif
#if CNF_LIMITER
DIRECT_ARRAY(limit_sources4, struct limit4_set);
DIRECT_ARRAY(limit_sources6, struct limit6_set);
DIRECT_ARRAY(limit_over4, struct limit_over);
DIRECT_ARRAY(limit_over6, struct limit_over);
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
		return CACHE_SHAPE(CNF_COUNT_flows4, flow4_slot);
	case CNF_TABLE_IPV6:
		return CACHE_SHAPE(CNF_COUNT_flows4, flow6_slot);
#if CNF_LIMITER
	case CNF_TABLE_SOURCES4:
		return CACHE_SHAPE(CNF_COUNT_limit_sources4, limit4_slot);
	case CNF_TABLE_SOURCES6:
		return CACHE_SHAPE(CNF_COUNT_limit_sources4, limit6_slot);
#endif
	default:
		return (struct cache_shape){};
	}
}

/* Return a set of a table, by a number below cache_shape().sets. */
static __always_inline struct cache_head *cache_set(enum cnf_table table, __u32 set)
{
	switch (table) {
	case CNF_TABLE_IPV4:
		return (void *)ELEMENT(flows4, set);
#if CNF_IPV6
	case CNF_TABLE_IPV6:
		return (void *)ELEMENT(flows6, set);
#endif
#if CNF_LIMITER
	case CNF_TABLE_SOURCES4:
		return (void *)ELEMENT(limit_sources4, set);
	case CNF_TABLE_SOURCES6:
		return (void *)ELEMENT(limit_sources6, set);
#endif
	default:
		return NULL;
	}
}

/* Return what a slot has in the second array: a flow_drops or a limit_over; NULL where there are no limits. */
static __always_inline void *cache_aside(enum cnf_table table, __u32 index)
{
	switch (table) {
#if CNF_FLOW_DROPS
	case CNF_TABLE_IPV4:
		return CHECKED_ELEMENT(flow_drops4, index);
#if CNF_IPV6
	case CNF_TABLE_IPV6:
		return CHECKED_ELEMENT(flow_drops6, index);
#endif
#endif
#if CNF_LIMITER
	case CNF_TABLE_SOURCES4:
		return CHECKED_ELEMENT(limit_over4, index);
	case CNF_TABLE_SOURCES6:
		return CHECKED_ELEMENT(limit_over6, index);
#endif
	default:
		return NULL;
	}
}

#endif
