/* SPDX-License-Identifier: GPL-2.0-only */
/* Find a key's slot in a cache, or give it one. The functions are the same for all tables: see cache_shape(). */
#ifndef CNF_CACHE_FIND_H
#define CNF_CACHE_FIND_H

#include "cache.h"
#include "cache_tables.h"

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

/*
 * Write a key into the slot in two steps: first all but its last word, in place of which stands one that no key has,
 * then, once all else in the slot is the key's, that word. So no lookup that reads no tag takes the slot too early.
 */
static __always_inline void cache_write_key(enum cnf_table table, void *slot, void *key, int last)
{
	__u64 *words = cache_key(table, slot);
	int count = cache_shape(table).words;

	if (last) {
		WRITE_ONCE(words[count - 1], cache_word(key, count - 1));
		return;
	}
	WRITE_ONCE(words[count - 1], ~0ULL);
#pragma clang loop unroll(full)
	for (int index = 0; index < count - 1; index++)
		WRITE_ONCE(words[index], cache_word(key, index));
}

/* Take the key's home; return 0 if there is none, which does not happen. */
static __always_inline int cache_locate(enum cnf_table table, void *key, struct cache_place *place)
{
	place->hash = cache_hash(key, cache_shape(table).words);
	place->tag = cache_tag(place->hash);
	place->set = cache_home(place->hash, cache_shape(table).sets);
	place->head = place->home = cache_set(table, place->set);
	return !MISSING(flows4, place->head);
}

/* Look for the key in its home, first in its preferred slot; return whether it is there. */
static __always_inline int cache_look_home(enum cnf_table table, void *key, struct cache_place *place)
{
	__u64 matches;

	place->found = 1;
	place->way = cache_preferred(place->hash);
	if (cache_has(table, place, place->way, key))
		return 1;
	matches = cache_matches(READ_ONCE(place->head->tags), place->tag);
	place->way = cache_way(matches);
	return matches && cache_has(table, place, place->way, key);
}

/* Look for the key in the place's set. */
static __always_inline void cache_look_set(enum cnf_table table, void *key, struct cache_place *place)
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
}

/* Go over to the key's second set; return 0 if there is none, which does not happen. */
static __always_inline int cache_go_on(enum cnf_table table, struct cache_place *place)
{
	__u32 set = cache_second(place->hash, cache_shape(table).sets);
	struct cache_head *head = cache_set(table, set);

	if (MISSING(flows4, head))
		return 0;
	place->set = set;
	place->head = head;
	return 1;
}

/*
 * Look for the key in its home, and in its second set if it may be a guest there. If it has no slot, the place is its
 * home. How it was found the verifier is made to forget.
 */
static __always_inline void cache_look(enum cnf_table table, void *key, struct cache_place *place, __u64 now)
{
	__u64 zero, sequence;
	__u32 home = place->set;

	cache_look_set(table, key, place);
	sequence = place->sequence;
	zero = unknown_zero(sequence);
	if (!place->found && cache_has_guests(place->home, now) && cache_go_on(table, place)) {
		cache_look_set(table, key, place);
		if (!place->found) {
			place->head = place->home;
			place->set = home;
			place->sequence = sequence;
		}
	}
	place->found += zero;
	place->way += zero;
	place->set += zero;
}

/*
 * Choose a slot for a key that has none. Its home must be claimed, and is the place; afterwards the place is the set
 * that has the slot, claimed, too. Then cache_release_place() releases both.
 */
static __always_inline void cache_settle(enum cnf_table table, struct cache_place *place, __u64 now)
{
	struct cache_place guest;

	if (cache_choose(place, now) || *DIRECT_AT(cache_crowded, table))
		return;
	guest = *place;
	if (!cache_go_on(table, &guest))
		return;
	guest.sequence = READ_ONCE(guest.head->sequence);
	if (cache_choose(&guest, now) && cache_claim(&guest))
		*place = guest;
}

static __always_inline void cache_release_place(struct cache_place *place)
{
	cache_release(place->head);
	if (!place->found && place->head != place->home)
		cache_release(place->home);
}

#endif
