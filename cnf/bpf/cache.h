/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the caches of flows and of sources share: the hash, the tags of a set, the choice of the slot that makes room,
 * and the sequence by which a CPU claims a set.
 *
 * A key has a set, its home, and there a preferred slot, which it gets if it can. If all of the home is alive, the key
 * is a guest in a second set. The head of the home says until when there may be guests, so that only keys of such a
 * home are looked for twice. Only if the second set is full, too, does an entry of the home make room: it is evicted.
 *
 * A lookup reads the sequence before the tags. A CPU that claims the set by that same number knows that nothing has
 * changed since. Who gives a key a slot, as a guest too, claims its home: so no key gets two slots. A CPU that fails to
 * claim it looks again.
 */
#ifndef CNF_CACHE_H
#define CNF_CACHE_H

#include "abi.h"
#include "direct.h"
#include "once.h"
#include "verifier.h"

#define CACHE_MATCHES 2 /* slots of a set that can have the same tag */
#define CACHE_TRIES 2   /* to claim a set that another CPU claims, too */
#define CACHE_WAITS 8   /* reads of its sequence between two tries */
#define CACHE_EACH_BYTE 0x0101010101010101ULL
#define CACHE_OTHER_HASH 0x9e3779b97f4a7c15ULL /* 2^64 / the golden ratio */

DIRECT_ARRAY(cache_secrets, struct cache_secrets);
/* A table's element is 1 when so many slots are alive that second sets are full, too, and are not worth a look. */
DIRECT_ARRAY(cache_crowded, __u64);

/* Where a key's slot is, or would be. */
struct cache_place {
	struct cache_head *home;
	struct cache_head *head; /* of the set that has the slot: the home, or the second set */
	__u64 sequence;          /* of that set */
	__u64 hash;
	__u64 tag;
	__u64 found; /* 1 or 0 */
	__u32 set;
	__u32 way; /* where the key was found */
};

/* Read word `index` of a key, whatever its fields are. */
static __always_inline __u64 cache_word(const void *key, int index)
{
	__u64 word;

	__builtin_memcpy(&word, (const char *)key + index * sizeof(word), sizeof(word));
	return word;
}

/*
 * Hash a key of `words` 64-bit words: a sum of products with secret words, then mixed, since unmixed sums put
 * consecutive keys into few sets.
 */
static __always_inline __u64 cache_hash(const void *key, int words)
{
	const struct cache_secrets *secrets = DIRECT_AT(cache_secrets, 0);
	__u64 hash = 0;

#pragma clang loop unroll(full)
	for (int index = 0; index < words; index++) {
		__u64 word = cache_word(key, index);

		hash += (secrets->words[2 * index] + (__u32)word) * (secrets->words[2 * index + 1] + (word >> 32));
	}
	hash ^= hash >> 32;
	return hash * (secrets->words[CNF_SECRETS - 1] | 1);
}

/* Return the preferred slot. Other bits of the hash give the set, and the tag. */
static __always_inline __u32 cache_preferred(__u64 hash)
{
	return hash >> 28 & (CNF_WAYS - 1);
}

static __always_inline __u64 cache_tag(__u64 hash)
{
	__u64 tag = hash >> 20 & 0xff;

	return tag + !tag;
}

static __always_inline __u32 cache_home(__u64 hash, __u32 sets)
{
	return (hash >> 32) * sets >> 32;
}

/* Return the second set; rarely it is the home itself, which is claimed then, and has no room. */
static __always_inline __u32 cache_second(__u64 hash, __u32 sets)
{
	return (hash * CACHE_OTHER_HASH >> 32) * sets >> 32;
}

/* Return a mask of the slots with this tag: the highest bit of each one's byte. */
static __always_inline __u64 cache_matches(__u64 tags, __u64 tag)
{
	__u64 other = tags ^ tag * CACHE_EACH_BYTE, low = CACHE_EACH_BYTE * 0x7f;

	return ~(((other & low) + low) | other | low);
}

/* Return the slot of the lowest bit of a mask; of none, the first. */
static __always_inline __u32 cache_way(__u64 matches)
{
	__u64 lowest = matches & -matches;

	return ((lowest >> 7) * 0x0001020304050607ULL) >> 56 & (CNF_WAYS - 1);
}

/* Return the greater of two numbers below 2^63. A branch would be mispredicted half of the time. */
static __always_inline __u64 cache_greater(__u64 one, __u64 other)
{
	__s64 difference = (__s64)(one - other), sign = difference >> 63;

	WITHOUT_BRANCH(sign);
	return one - (difference & sign);
}

/* Return how long ago a stamp was, or, negative, how far ahead it is: less than 2^31 jiffies. */
static __always_inline __s32 cache_age(struct cache_head *head, __u32 way, __u64 now)
{
	return (__u32)now - READ_ONCE(head->stamps[way & (CNF_WAYS - 1)]);
}

/*
 * Choose a slot of the place's set for its key, and return whether it is free: empty or expired. The preferred one is
 * taken if it is empty, else another empty one, else the preferred one if it has expired, else the one that expires
 * first. If CACHE_MATCHES slots have the key's tag already, only they can be chosen, so that a lookup never has more of
 * them to compare.
 */
static __always_inline int cache_choose(struct cache_place *place, __u64 now)
{
	struct cache_head *head = place->head;
	__u64 tags = READ_ONCE(head->tags), oldest = 0, among = ~0ULL;
	__u64 same = cache_matches(tags, place->tag), empty = cache_matches(tags, 0);
	__u32 preferred = cache_preferred(place->hash);

	if (same & (same - 1)) {
		among = same;
	} else {
		place->way = preferred;
		if (empty) {
			if (!(empty >> (preferred * 8 + 7) & 1))
				place->way = cache_way(empty);
			return 1;
		}
		if (cache_age(head, preferred, now) >= 0)
			return 1;
	}
#pragma unroll
	for (int way = 0; way < CNF_WAYS; way++) {
		__u32 age = (__u32)cache_age(head, way, now) + (1U << 31);
		__u64 chosen = among >> (way * 8 + 7) & 1;

		oldest = cache_greater(oldest, ((__u64)age << 3 | way) & -chosen);
	}
	place->way = oldest & (CNF_WAYS - 1);
	return oldest >> 3 >= 1U << 31;
}

/* Return whether keys of this home may be guests elsewhere. */
static __always_inline int cache_has_guests(struct cache_head *home, __u64 now)
{
	__s64 left = home->guests_until - now; /* so the verifier draws no conclusions on `now` */

	return left > 0;
}

/* Note at which jiffy the place's entry expires. */
static __always_inline void cache_stamp(struct cache_place *place, __u64 jiffy)
{
	__u32 *known = &place->head->stamps[place->way & (CNF_WAYS - 1)];
	struct cache_head *home = place->home;

	if (READ_ONCE(*known) == (__u32)jiffy)
		return;
	WRITE_ONCE(*known, (__u32)jiffy);
	if (place->head == home)
		return;
#pragma unroll
	for (int tries = 0; tries < CACHE_TRIES; tries++) { /* the second changes nothing, if nobody came between */
		__u64 until = home->guests_until;

		__sync_val_compare_and_swap(&home->guests_until, until, cache_greater(until, jiffy));
	}
}

/* Claim the place's set if nobody has changed it since the lookup. */
static __always_inline int cache_claim(struct cache_place *place)
{
	__u64 sequence = place->sequence;

	return !(sequence & 1) &&
	       __sync_val_compare_and_swap(&place->head->sequence, sequence, sequence + 1) == sequence;
}

/* Give the CPU that has claimed the set the time to release it: some hundred nanoseconds. */
static __always_inline void cache_wait(struct cache_place *place)
{
#pragma unroll
	for (int waits = 0; waits < CACHE_WAITS; waits++)
		if (!(READ_ONCE(place->head->sequence) & 1))
			break;
}

/* Set the slot's tag; 0 hides the slot from lookups. The set must be claimed. */
static __always_inline void cache_set_tag(struct cache_place *place, __u64 tag)
{
	__u32 shift = place->way * 8;

	WRITE_ONCE(place->head->tags, (READ_ONCE(place->head->tags) & ~(0xffULL << shift)) | tag << shift);
}

static __always_inline void cache_release(struct cache_head *head)
{
	/* atomic, so that it is ordered behind all writes to the set */
	__sync_fetch_and_add(&head->sequence, 1);
}

#endif
