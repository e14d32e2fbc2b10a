/* SPDX-License-Identifier: GPL-2.0-only */
/* The token bucket of a source, or of all that share one: see struct limit_rule for what its words mean. */
#ifndef CNF_TOKEN_BUCKET_H
#define CNF_TOKEN_BUCKET_H

#include "abi.h"
#include "once.h"

#define BUCKET_TRIES 4 /* compare-and-swaps, before a bucket that so many CPUs debit at once is debited blindly */

#define DECISION(generation, home, rule) ((generation) << 32 | (__u64)(home) << 24 | (rule))
#define DECISION_GENERATION(decision) ((decision) >> 32)
#define DECISION_HOME(decision) ((decision) >> 24 & 0xff)
#define DECISION_RULE(decision) ((decision) & 0xffffff)

/* Return whether two decisions are about different rules. A rule has one bucket in both modes. */
static __always_inline int decision_differs(__u64 before, __u64 decision)
{
	return ((before ^ decision) & (DECISION_RULE(~0ULL) & ~CNF_ENFORCE)) != 0;
}

/*
 * Return the arrival time read as `seen`, but at least `now`. `full` says that the word was unused for so long that it
 * may have wrapped. A word that is ahead of now by more than `most` is in the units of another rule: a CPU that still
 * had the previous rules has written it after this rule's bucket began. Both mean a full bucket.
 */
static __always_inline __u64 bucket_base(__u64 seen, __u64 now, __u64 most, int full)
{
	return full || seen - now > most ? now : seen;
}

/* Return how far a word may be ahead of now: by the burst, and a second for CPUs that have read an earlier time. */
static __always_inline __u64 bucket_most(struct limit_rule *rule, __u64 rate, __u64 burst)
{
	return burst + (rate << (rule->fine ? 30 : 8)); /* 2^30 ns, 256 jiffies; below 2^63 */
}

static __always_inline int bucket_holds(__u64 seen, __u64 now, __u64 cost, __u64 burst, __u64 most, int full)
{
	return bucket_base(seen, now, most, full) - now + cost <= burst;
}

/*
 * Try to debit a word, last read as `seen`, by `cost`. Return whether the bucket held that much. If the bucket has
 * become another rule's meanwhile, the packet passes and the bucket stays as it is: a time in this rule's units would
 * give tokens to the other.
 */
static __always_inline int bucket_debit(struct limit_source *source, __u64 decision, __u64 *word, __u64 seen, __u64 now,
					__u64 cost, __u64 burst, __u64 most, int full)
{
	__u64 base, was;

#pragma unroll
	for (int attempt = 0; attempt < BUCKET_TRIES; attempt++) {
		if (!bucket_holds(seen, now, cost, burst, most, full))
			return 0;
		base = bucket_base(seen, now, most, full);
		was = __sync_val_compare_and_swap(word, seen, base + cost);
		if (was == seen || decision_differs(READ_ONCE(source->decision), decision))
			return 1;
		seen = was; /* as another CPU has left it: in use */
		full = 0;
	}
	was = __sync_fetch_and_add(word, cost);
	if (bucket_holds(was, now, cost, burst, most, 0))
		return 1;
	__sync_fetch_and_add(word, -cost);
	return 0;
}

/* Return whether the packet is within both rates, of the rule of `decision`; one that is not costs nothing. */
static __always_inline int bucket_admit(struct limit_source *source, __u64 decision, struct limit_rule *rule,
					__u64 bytes, __u64 jiffies)
{
	struct limit_bucket *bucket = &source->bucket;
	__u64 clock = rule->fine ? bpf_ktime_get_ns() : jiffies;
	__u64 packet_now = clock * rule->packet_rate, byte_now = clock * rule->byte_rate;
	__u64 packet_cost = rule->packet_cost, byte_cost = bytes * rule->byte_cost;
	__u64 packet_most = bucket_most(rule, rule->packet_rate, rule->packet_burst);
	__u64 byte_most = bucket_most(rule, rule->byte_rate, rule->byte_burst);
	/* The words before the time of their last use, which is written before a word is: so a word that is seen
	 * debited is never taken for unused. */
	__u64 packet_seen = READ_ONCE(bucket->packet_time);
	__u64 byte_seen = READ_ONCE(bucket->byte_time);
	__u64 last_used = READ_ONCE(bucket->last_used);
	/* Signed: another CPU may have written a later jiffy than this one read. */
	int full = (__s64)(jiffies - last_used) > (__s64)rule->full_after;

	/* Both are looked at before anything is written: a refused packet leaves the bucket as it is, and last_used
	 * too, so that words of another rule's units heal by full_after. */
	if (packet_cost && !bucket_holds(packet_seen, packet_now, packet_cost, rule->packet_burst, packet_most, full))
		return 0;
	if (byte_cost && !bucket_holds(byte_seen, byte_now, byte_cost, rule->byte_burst, byte_most, full))
		return 0;
	if (last_used != jiffies)
		WRITE_ONCE(bucket->last_used, jiffies);
	if (packet_cost && !bucket_debit(source, decision, &bucket->packet_time, packet_seen, packet_now, packet_cost,
					 rule->packet_burst, packet_most, full))
		return 0;
	if (byte_cost && !bucket_debit(source, decision, &bucket->byte_time, byte_seen, byte_now, byte_cost,
				       rule->byte_burst, byte_most, full)) {
		if (packet_cost)
			__sync_fetch_and_add(&bucket->packet_time, -packet_cost);
		return 0;
	}
	return 1;
}

#endif
