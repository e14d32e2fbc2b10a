/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the caches of flows and of sources share: the hash, the tags of a set, the choice of the slot that makes room,
 * and the sequence by which a CPU claims a set. A lookup reads one cache line of the set's head and one of the slot. A
 * hash map of the kernel takes a call, a longer hash and a chain.
 *
 * A lookup reads the sequence before the tags. A CPU that claims the set by that same number knows that nothing has
 * changed since, so that no key gets two slots. A CPU that fails to claim it looks again.
 */
#ifndef CNF_CACHE_H
#define CNF_CACHE_H

#include "abi.h"
#include "once.h"
#include "verifier.h"

/* Twice as many slots as entries, so that few sets are full before the table is. */
#define CACHE_SETS(entries) (((entries) * 2 + CNF_WAYS - 1) / CNF_WAYS)
#define CACHE_MATCHES 2 /* slots of a set that can have the same tag */
#define CACHE_TRIES 2   /* to claim a set that another CPU claims, too */
#define CACHE_WAITS 8   /* reads of its sequence between two tries */
#define CACHE_EACH_BYTE 0x0101010101010101ULL

BPF_ARRAY(cache_secrets, struct cache_secrets, 1);

/* Where a key's slot is, or would be. */
struct cache_place {
	struct cache_head *head;
	__u64 sequence;
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

/* Return the secrets; NULL does not happen. */
static __always_inline struct cache_secrets *cache_secrets_read(void)
{
	__u32 zero = 0;

	return cache_secrets.lookup(&zero);
}

/*
 * Hash a key of `words` 64-bit words: a sum of products with secret words, then mixed, since unmixed sums put
 * consecutive keys into few sets.
 */
static __always_inline __u64 cache_hash(const struct cache_secrets *secrets, const void *key, int words)
{
	__u64 hash = 0;

#pragma clang loop unroll(full)
	for (int index = 0; index < words; index++) {
		__u64 word = cache_word(key, index);

		hash += (secrets->words[2 * index] + (__u32)word) * (secrets->words[2 * index + 1] + (word >> 32));
	}
	hash ^= hash >> 32;
	return hash * (secrets->words[CNF_SECRETS - 1] | 1);
}

/* Take the set from the upper half of the hash, and the tag from its lower. */
static __always_inline void cache_place(struct cache_place *place, __u64 hash, __u32 sets)
{
	__u64 tag = hash >> 20 & 0xff;

	place->set = (hash >> 32) * sets >> 32;
	place->tag = tag + !tag;
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

/*
 * Return the slot for the key of the place: an empty one, else the one with the oldest stamp. Stamps are less than 2^31
 * jiffies before or after now. If CACHE_MATCHES slots have its tag already, return the older of those, so that a lookup
 * never has more of them to compare.
 */
static __always_inline __u32 cache_victim(struct cache_place *place, __u64 now)
{
	struct cache_head *head = place->head;
	__u64 tags = READ_ONCE(head->tags), oldest = 0, among = ~0ULL;
	__u64 same = cache_matches(tags, place->tag), empty = cache_matches(tags, 0);

	if (same & (same - 1))
		among = same;
	else if (empty)
		return cache_way(empty);
#pragma unroll
	for (int way = 0; way < CNF_WAYS; way++) {
		__u32 age = (__u32)now + (1U << 31) - READ_ONCE(head->stamps[way]);
		__u64 chosen = among >> (way * 8 + 7) & 1;

		oldest = cache_greater(oldest, ((__u64)age << 3 | way) & -chosen);
	}
	return oldest & (CNF_WAYS - 1);
}

static __always_inline void cache_stamp(struct cache_head *head, __u32 way, __u64 stamp)
{
	__u32 *known = &head->stamps[way & (CNF_WAYS - 1)];

	if (READ_ONCE(*known) != (__u32)stamp)
		WRITE_ONCE(*known, (__u32)stamp);
}

/* Claim the set if nobody has changed it since the lookup. */
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
static __always_inline void cache_tag(struct cache_place *place, __u64 tag)
{
	__u32 shift = place->way * 8;

	WRITE_ONCE(place->head->tags, (READ_ONCE(place->head->tags) & ~(0xffULL << shift)) | tag << shift);
}

static __always_inline void cache_release(struct cache_place *place)
{
	__sync_fetch_and_add(&place->head->sequence,
			     1); /* atomic, so that it is ordered behind all writes to the set */
}

#endif
