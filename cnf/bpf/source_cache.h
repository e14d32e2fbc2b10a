/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A table of sources in a cache of the program's own: see cache.h. Nobody deletes sources. A slot's stamp says when its
 * bucket is full again, and the oldest makes room: once full, it equals the one that the source gets when it comes
 * back, so that nothing is given away; it counts as expired, and as evicted before.
 *
 * What a packet within its limit needs is a cache line of an IPv4 slot. Slots change hands, and decisions change, only
 * in a bucket that is claimed, so that a decision is never another source's.
 */
#ifndef CNF_SOURCE_CACHE_H
#define CNF_SOURCE_CACHE_H

#include "cache.h"

#define SOURCE_BUCKETS CACHE_BUCKETS(CNF_MAX_SOURCES)
#define SOURCE4_WORDS (sizeof(struct limit4_key) / sizeof(__u64))
#define SOURCE6_WORDS (sizeof(struct limit6_key) / sizeof(__u64))

struct limit4_bucket {
	struct cache_head head;
	struct limit4_slot slots[CNF_WAYS];
};

struct limit6_bucket {
	struct cache_head head;
	struct limit6_slot slots[CNF_WAYS];
};

BPF_F_TABLE("array", __u32, struct limit4_bucket, limit_sources4, SOURCE_BUCKETS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct limit_over, limit_over4, SOURCE_BUCKETS *CNF_WAYS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct limit6_bucket, limit_sources6, SOURCE_BUCKETS, BPF_F_MMAPABLE);
BPF_F_TABLE("array", __u32, struct limit_over, limit_over6, SOURCE_BUCKETS *CNF_WAYS, BPF_F_MMAPABLE);

struct source_place {
	struct cache_place cache;
};

static __always_inline struct cache_head *source_bucket(enum cnf_table table, __u32 bucket)
{
	if (table == CNF_TABLE_IPV6)
		return (void *)limit_sources6.lookup(&bucket);
	return (void *)limit_sources4.lookup(&bucket);
}

/* A slot begins like a limit_source, up to over_packets. */
static __always_inline struct limit_source *source_slot(enum cnf_table table, struct cache_place *place, __u32 way)
{
	way &= CNF_WAYS - 1; /* as the verifier wants to see it */
	if (table == CNF_TABLE_IPV6)
		return (void *)&((struct limit6_bucket *)place->head)->slots[way];
	return (void *)&((struct limit4_bucket *)place->head)->slots[way];
}

/* Return the source that was found; NULL if there is none. */
static __always_inline struct limit_source *source_found(enum cnf_table table, struct source_place *place)
{
	return place->cache.found ? source_slot(table, &place->cache, place->cache.way) : 0;
}

/* Return where the source counts what was over the limit. */
static __always_inline struct limit_over *source_over(enum cnf_table table, struct source_place *place)
{
	__u32 index = place->cache.bucket * CNF_WAYS + place->cache.way;

	if (table == CNF_TABLE_IPV6)
		return limit_over6.lookup(&index);
	return limit_over4.lookup(&index);
}

static __always_inline volatile __u64 *source_key(enum cnf_table table, struct limit_source *source)
{
	return table == CNF_TABLE_IPV6 ? (void *)&((struct limit6_slot *)source)->key
				       : (void *)&((struct limit4_slot *)source)->key;
}

static __always_inline int source_words(enum cnf_table table)
{
	return table == CNF_TABLE_IPV6 ? SOURCE6_WORDS : SOURCE4_WORDS;
}

static __always_inline int source_has(enum cnf_table table, struct cache_place *place, __u32 way, void *key)
{
	volatile __u64 *known = source_key(table, source_slot(table, place, way));
	__u64 difference = 0;

#pragma clang loop unroll(full)
	for (int index = 0; index < source_words(table); index++)
		difference |= known[index] ^ cache_word(key, index);
	WITHOUT_BRANCH(difference);
	return !difference;
}

/* Look in the place's bucket. */
static __always_inline void source_look(enum cnf_table table, void *key, struct cache_place *place)
{
	__u64 matches;

	place->sequence = READ_ONCE(place->head->sequence);
	matches = cache_matches(READ_ONCE(place->head->tags), place->tag);
	place->way = cache_way(matches);
	place->found = matches && source_has(table, place, place->way, key);
	matches &= matches - 1;
	if (!place->found && matches) {
		place->way = cache_way(matches);
		place->found = source_has(table, place, place->way, key);
	}
	place->found += unknown_zero(place->sequence);
}

static __always_inline void source_find(enum cnf_table table, void *key, struct source_place *place)
{
	cache_place(&place->cache, cache_hash(key, source_words(table)), SOURCE_BUCKETS);
	place->cache.head = source_bucket(table, place->cache.bucket);
	place->cache.found = 0;
	if (place->cache.head) /* always: the bucket is below the array's size */
		source_look(table, key, &place->cache);
}

/* Let the bucket be full. */
static __always_inline void source_refill(struct limit_source *source)
{
	*(volatile __u64 *)&source->bucket.last_used = 0;
	*(volatile __u64 *)&source->bucket.packet_time = 0;
	*(volatile __u64 *)&source->bucket.byte_time = 0;
}

/* Change the decision on the source that was found in the claimed bucket; another rule's bucket starts full. */
static __always_inline void source_redecide(enum cnf_table table, struct cache_place *place, __u64 decision, __u64 now)
{
	struct limit_source *source = source_slot(table, place, place->way);
	__u64 before = source->decision;

	*(volatile __u64 *)&source->decision = decision;
	if (!decision_differs(before, decision))
		return;
	source_refill(source);
	cache_stamp(place->head, place->way, now);
}

/* Give a slot of the claimed bucket to the key's source, whose first packet this is. */
static __always_inline void source_begin(enum cnf_table table, void *key, struct source_place *place, __u64 decision,
					 __u64 now)
{
	struct cache_place *cache = &place->cache;
	enum cnf_table sources = source_table(table);
	struct limit_source *source;
	volatile __u64 *words;

	cache->way = cache_victim(cache, now);
	source = source_slot(table, cache, cache->way);
	if (source->decision) {
		__s32 full_since = (__u32)now - *(volatile __u32 *)&cache->head->stamps[cache->way];

		count_table(sources, full_since < 0 ? CNF_EVICTED_FLOWS : CNF_EXPIRED_FLOWS, 1, 0);
	}
	cache_tag(cache, 0); /* nobody finds it while the key is written */
	/* The decision before the bucket, since bucket_debit() relies on it. */
	*(volatile __u64 *)&source->decision = decision;
	source_refill(source);
	if (source->over_packets) {
		struct limit_over *over = source_over(table, place);

		source->over_packets = 0;
		if (over)
			*over = (struct limit_over){};
	}
	source->packets = 0;
	source->bytes = 0;
	words = source_key(table, source);
#pragma clang loop unroll(full)
	for (int index = 0; index < source_words(table); index++)
		words[index] = cache_word(key, index);
	cache_stamp(cache->head, cache->way, now);
	cache_tag(cache, cache->tag);
	cache->found = 1;
	count_table(sources, CNF_INSERT_DONE, 1, 0);
}

/*
 * Have the source that was looked for stand there with this decision; return 0 if the bucket could not be had for it,
 * which counts.
 */
static __always_inline int source_remember(enum cnf_table table, void *key, struct source_place *place, __u64 decision,
					   __u64 now)
{
	struct cache_place *cache = &place->cache;
	struct limit_source *source;

	if (!cache->head)
		return 0; /* never */
#pragma unroll
	for (int tries = 0; tries < CACHE_TRIES; tries++) {
		if (tries) {
			cache_wait(cache);
			source_look(table, key, cache);
			source = source_slot(table, cache, cache->way);
			if (cache->found && *(volatile __u64 *)&source->decision == decision)
				return 1; /* by another CPU */
		}
		if (cache_claim(cache))
			goto claimed;
	}
	count_table(source_table(table), CNF_INSERT_BUSY, 1, 0);
	return 0;
claimed: /* once, however many tries: it is long */
	if (cache->found)
		source_redecide(table, cache, decision, now);
	else
		source_begin(table, key, place, decision, now);
	cache_release(cache);
	return 1;
}

static __always_inline void source_seen(struct source_place *place, __u64 now)
{
}

/* Note by which jiffy the slot's bucket is full, whatever its words say, and the slot free to go. */
static __always_inline void source_full(struct source_place *place, __u64 jiffy)
{
	cache_stamp(place->cache.head, place->cache.way, jiffy);
}

#endif
