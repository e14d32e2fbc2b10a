/* SPDX-License-Identifier: GPL-2.0-only */
/* Find a key's slot in its set of a cache. The functions are the same for all tables: see cache_shape(). */
#ifndef CNF_CACHE_FIND_H
#define CNF_CACHE_FIND_H

#include "cache.h"

/* What the slots of a table look like. */
struct cache_shape {
	__u32 slot_bytes;
	__u32 key_at; /* bytes of the slot before its key */
	__u32 words;  /* of 64 bits, of a key */
};

#define CACHE_SHAPE(slot)                                                                                              \
	((struct cache_shape){sizeof(struct slot), __builtin_offsetof(struct slot, key),                               \
			      sizeof(((struct slot *)0)->key) / sizeof(__u64)})

/* `table` is a constant wherever this is called, so that nothing of it remains in the program. */
static __always_inline struct cache_shape cache_shape(enum cnf_table table)
{
	switch (table) {
	case CNF_TABLE_IPV4:
		return CACHE_SHAPE(flow4_slot);
	case CNF_TABLE_IPV6:
		return CACHE_SHAPE(flow6_slot);
	case CNF_TABLE_SOURCES4:
		return CACHE_SHAPE(limit4_slot);
	default:
		return CACHE_SHAPE(limit6_slot);
	}
}

/* Return a slot of the place's set. */
static __always_inline void *cache_slot(enum cnf_table table, struct cache_place *place, __u32 way)
{
	way &= CNF_WAYS - 1; /* for the verifier */
	return (void *)(place->head + 1) + way * cache_shape(table).slot_bytes;
}

/* Return the index of the place's slot among all of the table. */
static __always_inline __u32 cache_index(struct cache_place *place)
{
	return place->set * CNF_WAYS + place->way;
}

static __always_inline __u64 *cache_key(enum cnf_table table, void *slot)
{
	return slot + cache_shape(table).key_at;
}

static __always_inline int cache_has(enum cnf_table table, struct cache_place *place, __u32 way, void *key)
{
	__u64 *words = cache_key(table, cache_slot(table, place, way)), difference = 0;

#pragma clang loop unroll(full)
	for (int index = 0; index < cache_shape(table).words; index++)
		difference |= READ_ONCE(words[index]) ^ cache_word(key, index);
	WITHOUT_BRANCH(difference);
	return !difference;
}

/* Write a key into the slot, whose tag must be hidden. */
static __always_inline void cache_write_key(enum cnf_table table, void *slot, void *key)
{
	__u64 *words = cache_key(table, slot);

#pragma clang loop unroll(full)
	for (int index = 0; index < cache_shape(table).words; index++)
		WRITE_ONCE(words[index], cache_word(key, index));
}

/* Look for the key in the place's set, unless another key has the same tag there; return whether it was found. */
static __always_inline int cache_look_once(enum cnf_table table, void *key, struct cache_place *place)
{
	__u64 matches = cache_matches(READ_ONCE(place->head->tags), place->tag);

	place->way = cache_way(matches);
	return matches && cache_has(table, place, place->way, key);
}

/* Look for the key in the place's set. */
static __always_inline void cache_look(enum cnf_table table, void *key, struct cache_place *place)
{
	__u64 matches;

	place->sequence = READ_ONCE(place->head->sequence);
	matches = cache_matches(READ_ONCE(place->head->tags), place->tag);
	place->way = cache_way(matches);
	place->found = matches && cache_has(table, place, place->way, key);
	matches &= matches - 1;
	if (!place->found && matches) {
		place->way = cache_way(matches);
		place->found = cache_has(table, place, place->way, key);
	}
	place->found += unknown_zero(place->sequence);
}

#endif
