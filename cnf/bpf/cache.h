/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the caches of flows and of sources have in common: the hash, a bucket's tags, which slot makes room, and the
 * bucket's sequence, by which a CPU has it to itself. A cache finds a key by one cache line of its own and one of the
 * slot, where a hash map of the kernel takes a call, a longer hash and a chain.
 *
 * The sequence is read before the tags. Whoever claims the bucket by that very number knows that what it saw still
 * holds, so that no key gets two slots; whoever does not, looks again.
 */
#ifndef CNF_CACHE_H
#define CNF_CACHE_H

#include "abi.h"
#include "once.h"
#include "verifier.h"

#define CACHE_BUCKETS(entries)                                                                                         \
	(((entries) * 2 + CNF_WAYS - 1) / CNF_WAYS) /* with twice the slots, hardly any evicts                         \
						     */
#define CACHE_MATCHES 2 /* slots of a bucket that can have the same tag */
#define CACHE_TRIES 2   /* to have a bucket that another CPU claims, too */
#define CACHE_WAITS 8   /* looks at its sequence between them */
#define CACHE_EACH_BYTE 0x0101010101010101ULL

BPF_ARRAY(cache_secrets, struct cache_secrets, 1);

/* Where a key's slot is, or would be. */
struct cache_place {
	struct cache_head *head;
	__u64 sequence;
	__u64 tag;
	__u64 found; /* 1 or 0 */
	__u32 bucket;
	__u32 way; /* where it was found */
};

/* Read word `index` of a key, of whatever fields it is made. */
static __always_inline __u64 cache_word(const void *key, int index)
{
	__u64 word;

	__builtin_memcpy(&word, (const char *)key + index * sizeof(word), sizeof(word));
	return word;
}

/*
 * Hash a key of `words` 64-bit words: sums of products with secret words, then mixed, since without that keys in a row
 * share buckets. Return 0 if there are no secrets, which is never.
 */
static __always_inline __u64 cache_hash(const void *key, int words)
{
	__u32 zero = 0;
	struct cache_secrets *secrets = cache_secrets.lookup(&zero);
	__u64 hash = 0;

	if (!secrets)
		return 0;
#pragma clang loop unroll(full)
	for (int index = 0; index < words; index++) {
		__u64 word = cache_word(key, index);

		hash += (secrets->words[2 * index] + (__u32)word) * (secrets->words[2 * index + 1] + (word >> 32));
	}
	hash ^= hash >> 32;
	return hash * (secrets->words[CNF_SECRETS - 1] | 1);
}

/* Take bucket and tag from the hash: the bucket from its upper half, the tag from its lower. */
static __always_inline void cache_place(struct cache_place *place, __u64 hash, __u32 buckets)
{
	__u64 tag = hash >> 20 & 0xff;

	place->bucket = (hash >> 32) * buckets >> 32;
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

/* Return 1 for 0, and 0 for all else, without a branch: the verifier would follow both, with all that comes behind. */
static __always_inline __u64 cache_is_zero(__u64 number)
{
	__u64 sign = number | -number;

	WITHOUT_BRANCH(sign);
	return ~sign >> 63;
}

/* Return one or the other, by a choice of 1 or 0. */
static __always_inline __u64 cache_choose(__u64 choice, __u64 one, __u64 other)
{
	return other ^ ((one ^ other) & -choice);
}

/* Return the greater of two numbers below 2^63, without a branch: it would be taken or not at random. */
static __always_inline __u64 cache_greater(__u64 one, __u64 other)
{
	__s64 difference = (__s64)(one - other), sign = difference >> 63;

	WITHOUT_BRANCH(sign);
	return one - (difference & sign);
}

/*
 * Return the slot that the place's key is to have: an empty one, or else the one with the oldest stamp, before or after
 * now by less than 2^31 jiffies. But where CACHE_MATCHES have its tag, the older of those, so that no more need be
 * looked at.
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
	volatile __u32 *known = &head->stamps[way & (CNF_WAYS - 1)];

	if (*known != (__u32)stamp)
		*known = stamp;
}

/* Take the bucket, if nobody has changed it since the place was looked for. */
static __always_inline int cache_claim(struct cache_place *place)
{
	__u64 sequence = place->sequence;

	return !(sequence & 1) &&
	       __sync_val_compare_and_swap(&place->head->sequence, sequence, sequence + 1) == sequence;
}

/* Give the CPU that has claimed the bucket the time to release it: some hundred nanoseconds. */
static __always_inline void cache_wait(struct cache_place *place)
{
#pragma unroll
	for (int waits = 0; waits < CACHE_WAITS; waits++)
		if (!(READ_ONCE(place->head->sequence) & 1))
			break;
}

/* Have the claimed bucket's slot found by nobody, or by the place's tag. */
static __always_inline void cache_tag(struct cache_place *place, __u64 tag)
{
	volatile __u64 *tags = &place->head->tags;
	__u32 shift = place->way * 8;

	*tags = (*tags & ~(0xffULL << shift)) | tag << shift;
}

static __always_inline void cache_release(struct cache_place *place)
{
	__sync_fetch_and_add(&place->head->sequence, 1); /* atomic to be ordered behind all that was written */
}

#endif
