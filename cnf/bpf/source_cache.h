/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A table of sources in a cache of the program's own: see cache.h. Nobody deletes sources. A slot's stamp says when its
 * token bucket is full again, and the slot with the oldest stamp makes room. A source whose bucket is full loses
 * nothing by that, since it gets a full bucket when it comes back: it counts as expired. One that makes room earlier is
 * evicted.
 *
 * A packet within its limit reads and writes one cache line of an IPv4 slot. Slots change hands, and decisions change,
 * only in a claimed set.
 */
#ifndef CNF_SOURCE_CACHE_H
#define CNF_SOURCE_CACHE_H

#include "cache_find.h"

#define SOURCE_STAYS 256 /* jiffies */

struct source_place {
	struct cache_place cache;
};

/* Return the source in the place's slot; a slot begins like a limit_source, up to over_packets. */
static __always_inline struct limit_source *source_at(enum cnf_table table, struct cache_place *place)
{
	return cache_slot(source_table(table), place, place->way);
}

/* Return the source that was found; NULL if there is none. */
static __always_inline struct limit_source *source_found(enum cnf_table table, struct source_place *place)
{
	return place->cache.found ? source_at(table, &place->cache) : NULL;
}

/* Return where the source counts what was over the limit. */
static __always_inline struct limit_over *source_over(enum cnf_table table, struct source_place *place)
{
	return cache_aside(source_table(table), cache_index(&place->cache));
}

static __always_inline void source_find(enum cnf_table table, void *key, struct source_place *place, __u64 now)
{
	place->cache.found = 0;
	if (cache_locate(source_table(table), key, &place->cache))
		cache_look(source_table(table), key, &place->cache, now);
}

/* Fill the token bucket. */
static __always_inline void source_refill(struct limit_source *source)
{
	WRITE_ONCE(source->bucket.last_used, 0);
	WRITE_ONCE(source->bucket.packet_time, 0);
	WRITE_ONCE(source->bucket.byte_time, 0);
}

/* Change the decision on the source that was found in the claimed set; the bucket of another rule begins full. */
static __always_inline void source_redecide(enum cnf_table table, struct cache_place *place, __u64 decision, __u64 now)
{
	struct limit_source *source = source_at(table, place);
	__u64 before = source->decision;

	WRITE_ONCE(source->decision, decision);
	if (!decision_differs(before, decision))
		return;
	source_refill(source);
	cache_stamp(place, now);
}

/* Give a slot of the claimed set to the key's source, whose first packet this is. */
static __always_inline void source_begin(enum cnf_table table, void *key, struct source_place *place, __u64 decision,
					 __u64 now)
{
	struct cache_place *cache = &place->cache;
	enum cnf_table sources = source_table(table);
	struct limit_source *source;

	cache_settle(sources, cache, now);
	source = source_at(table, cache);
	if (source->decision) {
		int debited = source->bucket.last_used && cache_age(cache->head, cache->way, now) < 0;

		count_table(sources, CNF_DIRECTION_INGRESS, debited ? CNF_EVICTED_FLOWS : CNF_EXPIRED_FLOWS, 1, 0);
	}
	cache_set_tag(cache, 0);
	cache_write_key(sources, source, key, 0);
	/* The decision before the bucket, since bucket_debit() relies on it. */
	WRITE_ONCE(source->decision, decision);
	source_refill(source);
	if (source->over_packets) {
		struct limit_over *over = source_over(table, place);

		source->over_packets = 0;
		if (over)
			*over = (struct limit_over){};
	}
	source->packets = 0;
	source->bytes = 0;
	cache_write_key(sources, source, key, 1);
	cache_stamp(cache, now);
	cache_set_tag(cache, cache->tag);
	count_table(sources, CNF_DIRECTION_INGRESS, CNF_INSERT_DONE, 1, 0);
}

/*
 * Give the source that was looked for a slot with this decision. Return 0 if the set could not be claimed for it, which
 * is counted.
 */
static __always_inline int source_remember(enum cnf_table table, void *key, struct source_place *place, __u64 decision,
					   __u64 now)
{
	struct cache_place *cache = &place->cache;
	struct limit_source *source;

	if (!cache->head)
		return 0; /* does not happen */
#pragma unroll
	for (int tries = 0; tries < CACHE_TRIES; tries++) {
		if (tries) {
			cache_wait(cache);
			cache_look(source_table(table), key, cache, now);
			source = source_at(table, cache);
			if (cache->found && READ_ONCE(source->decision) == decision)
				return 1; /* by another CPU */
		}
		if (cache_claim(cache))
			goto claimed;
	}
	count_table(source_table(table), CNF_DIRECTION_INGRESS, CNF_INSERT_BUSY, 1, 0);
	return 0;
claimed: /* one copy for all tries: it is long */
	if (cache->found)
		source_redecide(table, cache, decision, now);
	else
		source_begin(table, key, place, decision, now);
	cache_release_place(cache);
	cache->found = 1;
	return 1;
}

static __always_inline void source_seen(struct source_place *place, __u64 now)
{
}

/* Stamp the slot with the jiffy at which its token bucket is full, whatever its words say. */
static __always_inline void source_full(struct source_place *place, __u64 jiffy)
{
	cache_stamp(&place->cache, jiffy);
}

/* Keep the slot of a source that has no bucket here for as long as its packets follow each other soon. */
static __always_inline void source_in_use(struct source_place *place, __u64 now)
{
	cache_stamp(&place->cache, now + SOURCE_STAYS);
}

#endif
