/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A flow table in a cache of the program's own: see cache.h. Nobody deletes flows. One that has expired starts anew
 * when its next packet comes, or makes room for another; both are counted, and so are those that make room earlier.
 *
 * A packet that finds its flow just while another CPU gives the slot away is counted in the flow that comes: sums stay
 * exact.
 */
#ifndef CNF_FLOW_CACHE_H
#define CNF_FLOW_CACHE_H

#include "cache.h"

#define FLOW_ENDED 0x05 /* FIN or RST */
#define FLOW_BUCKETS CACHE_BUCKETS(CNF_MAX_ENTRIES)
#define FLOW4_WORDS (sizeof(struct flow4_key) / sizeof(__u64))
#define FLOW6_WORDS (sizeof(struct flow6_key) / sizeof(__u64))

struct flow4_bucket {
	struct cache_head head;
	struct flow4_slot slots[CNF_WAYS];
};

struct flow6_bucket {
	struct cache_head head;
	struct flow6_slot slots[CNF_WAYS];
};

BPF_ARRAY(flow_settings, struct flow_settings, 1);
BPF_F_TABLE("array", __u32, struct flow4_bucket, flows4, FLOW_BUCKETS, BPF_F_MMAPABLE);
#if CNF_IPV6
BPF_F_TABLE("array", __u32, struct flow6_bucket, flows6, FLOW_BUCKETS, BPF_F_MMAPABLE);
#endif
#if CNF_LIMITER
BPF_F_TABLE("array", __u32, struct flow_drops, flow_drops4, FLOW_BUCKETS *CNF_WAYS, BPF_F_MMAPABLE);
#if CNF_IPV6
BPF_F_TABLE("array", __u32, struct flow_drops, flow_drops6, FLOW_BUCKETS *CNF_WAYS, BPF_F_MMAPABLE);
#endif
#endif

struct flow_place {
	struct cache_place cache;
};

/* `table` is a constant wherever these are called, so that one branch remains of each. */
static __always_inline struct cache_head *flow_bucket(enum cnf_table table, __u32 bucket)
{
#if CNF_IPV6
	if (table == CNF_TABLE_IPV6)
		return (void *)flows6.lookup(&bucket);
#endif
	return (void *)flows4.lookup(&bucket);
}

/* A slot begins like a flow_value. */
static __always_inline struct flow_value *flow_slot(enum cnf_table table, struct cache_place *place, __u32 way)
{
	way &= CNF_WAYS - 1; /* as the verifier wants to see it */
	if (table == CNF_TABLE_IPV6)
		return (void *)&((struct flow6_bucket *)place->head)->slots[way];
	return (void *)&((struct flow4_bucket *)place->head)->slots[way];
}

static __always_inline volatile __u64 *flow_key(enum cnf_table table, struct flow_value *flow)
{
	return table == CNF_TABLE_IPV6 ? (void *)&((struct flow6_slot *)flow)->key
				       : (void *)&((struct flow4_slot *)flow)->key;
}

static __always_inline int flow_words(enum cnf_table table)
{
	return table == CNF_TABLE_IPV6 ? FLOW6_WORDS : FLOW4_WORDS;
}

static __always_inline int flow_has(enum cnf_table table, struct cache_place *place, __u32 way, void *key)
{
	volatile __u64 *known = flow_key(table, flow_slot(table, place, way));
	__u64 difference = 0;

#pragma clang loop unroll(full)
	for (int index = 0; index < flow_words(table); index++)
		difference |= known[index] ^ cache_word(key, index);
	WITHOUT_BRANCH(difference);
	return !difference;
}

/* Look in the place's bucket. */
static __always_inline void flow_look(enum cnf_table table, void *key, struct cache_place *place)
{
	__u64 matches;

	place->sequence = READ_ONCE(place->head->sequence);
	matches = cache_matches(READ_ONCE(place->head->tags), place->tag);
	place->way = cache_way(matches);
	place->found = matches && flow_has(table, place, place->way, key);
	matches &= matches - 1;
	if (!place->found && matches) {
		place->way = cache_way(matches);
		place->found = flow_has(table, place, place->way, key);
	}
	place->found += unknown_zero(place->sequence);
}

static __always_inline void flow_find(enum cnf_table table, void *key, struct flow_place *place)
{
	cache_place(&place->cache, cache_hash(key, flow_words(table)), FLOW_BUCKETS);
	place->cache.head = flow_bucket(table, place->cache.bucket);
	place->cache.found = 0;
	if (place->cache.head) /* always: the bucket is below the array's size */
		flow_look(table, key, &place->cache);
}

/* Return whether the flow has been idle or ended for so long that it is over. */
static __always_inline int flow_over(struct flow_value *flow, __u64 now)
{
	/* Signed: another CPU may have written a later jiffy than this one read. */
	__s64 age = now - *(volatile __u64 *)&flow->last_seen;
	struct flow_settings *settings;
	__u32 zero = 0;

	if (age <= 0)
		return 0;
	settings = flow_settings.lookup(&zero);
	if (!settings)
		return 0; /* never */
	return (age > (__s64)settings->idle) | (!!(flow->tcp_flags & FLOW_ENDED) & (age > (__s64)settings->ended));
}

/* Return what was dropped of the flow in a slot; NULL where nothing can be. */
static __always_inline struct flow_drops *flow_drops(enum cnf_table table, __u32 index)
{
#if CNF_LIMITER
#if CNF_IPV6
	if (table == CNF_TABLE_IPV6)
		return flow_drops6.lookup(&index);
#endif
	return flow_drops4.lookup(&index);
#else
	return NULL;
#endif
}

/* Begin the event of a flow that makes room, with its key, before that is written over. */
static __always_inline struct event *flow_note(enum cnf_table table, volatile __u64 *words, __u64 now)
{
#if CNF_EVICTED_RECORDS
	struct event *event = event_begin(CNF_EVENT_FLOW_EVICTED, table, now);

	if (!event)
		return NULL;
#pragma clang loop unroll(full)
	for (int index = 0; index < flow_words(table); index++)
		event->key[index] = words[index];
	return event;
#else
	return NULL;
#endif
}

/* Tell what a flow that makes room has counted in the end. */
static __always_inline void flow_tell(struct event *event, struct flow_value *flow, struct flow_drops *drops,
				      __u64 packets, __u64 bytes)
{
#if CNF_EVICTED_RECORDS
	if (!event)
		return;
	event->value = (struct flow_value){
		.packets = packets,
		.bytes = bytes,
		.first_seen = flow->first_seen,
		.last_seen = flow->last_seen,
		.tcp_flags = (__u8)flow->tcp_flags,
		.dropped_packets = drops ? drops->packets : 0,
		.dropped_bytes = drops ? drops->bytes : 0,
	};
	event_send(event);
#endif
}

/* Give a slot of the claimed bucket to the key's flow, whose first packet this is; book what was in it. */
static __always_inline void flow_begin(enum cnf_table table, void *key, struct cache_place *cache, __u64 bytes,
				       __u8 tcp_flags, __u64 now)
{
	struct flow_value *flow;
	volatile __u64 *words;
	__u64 packets, before;
	struct flow_drops *drops = NULL;
	struct event *event = NULL;
	int over;

	if (!cache->found)
		cache->way = cache_victim(cache, now);
	flow = flow_slot(table, cache, cache->way);
	over = flow_over(flow, now);
	words = flow_key(table, flow);
	if (!over && READ_ONCE(flow->packets))
		event = flow_note(table, words, now);
	cache_tag(cache, 0); /* nobody finds it while the key is written */
#pragma clang loop unroll(full)
	for (int index = 0; index < flow_words(table); index++)
		words[index] = cache_word(key, index);
	packets = __sync_lock_test_and_set(&flow->packets, 1);
	before = __sync_lock_test_and_set(&flow->bytes, bytes);
	if (packets) {
		count_table(table, over ? CNF_EXPIRED : CNF_EVICTED, packets, before);
		count_table(table, over ? CNF_EXPIRED_FLOWS : CNF_EVICTED_FLOWS, 1, 0);
	}
	if (flow->tcp_flags & CNF_SLOT_DROPS)
		drops = flow_drops(table, cache->bucket * CNF_WAYS + cache->way);
	flow_tell(event, flow, drops, packets, before);
	if (drops)
		*drops = (struct flow_drops){};
	flow->first_seen = now;
	flow->last_seen = now;
	flow->tcp_flags = tcp_flags;
	cache_stamp(cache->head, cache->way, now);
	cache_tag(cache, cache->tag);
	count_table(table, CNF_INSERT_DONE, 1, bytes);
}

static __always_inline void account_flow(enum cnf_table table, void *key, struct flow_place *place, __u64 bytes,
					 __u8 tcp_flags)
{
	struct cache_place *cache = &place->cache;
	__u64 now = bpf_jiffies64();

	if (!cache->head)
		return; /* never */
#pragma unroll
	for (int tries = 0; tries < CACHE_TRIES; tries++) {
		struct flow_value *flow;

		if (tries) {
			cache_wait(cache);
			flow_look(table, key, cache);
		}
		flow = flow_slot(table, cache, cache->way);
		if (cache->found && !flow_over(flow, now)) {
			flow_add(flow, bytes, tcp_flags, now);
			cache_stamp(cache->head, cache->way, now);
			return;
		}
		if (cache_claim(cache))
			goto claimed;
	}
	count_table(table, CNF_INSERT_BUSY, 1, bytes);
	return;
claimed: /* once, however many tries: it is long */
	flow_begin(table, key, cache, bytes, tcp_flags, now);
	cache_release(cache);
}

static __always_inline void account_drop(enum cnf_table table, void *key, struct flow_place *place, __u64 bytes)
{
#if CNF_LIMITER
	struct flow_value *flow;
	struct flow_drops *drops;

	if (!place->cache.head || !place->cache.found)
		return;
	flow = flow_slot(table, &place->cache, place->cache.way);
	drops = flow_drops(table, place->cache.bucket * CNF_WAYS + place->cache.way);
	if (!drops)
		return; /* never */
	if (!(flow->tcp_flags & CNF_SLOT_DROPS))
		__sync_fetch_and_or(&flow->tcp_flags, (__u64)CNF_SLOT_DROPS);
	__sync_fetch_and_add(&drops->packets, 1);
	__sync_fetch_and_add(&drops->bytes, bytes);
#endif
}

#endif
