/* SPDX-License-Identifier: GPL-2.0-only */
/* The token bucket of a source, or of all that share one: see struct limit_rule for what its words mean. */
#ifndef CNF_TOKEN_BUCKET_H
#define CNF_TOKEN_BUCKET_H

#include "abi.h"
#include "frame.h"
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

/* One limit of a bucket, packets or bytes, as a packet finds it. */
struct bucket_meter {
	__u64 *word; /* the theoretical arrival time */
	__u64 seen;  /* as it was read */
	__u64 now;
	__u64 cost; /* of the frame */
	__u64 burst;
	__u64 most;  /* how far the word can be ahead of now */
	__u64 ahead; /* how far it is */
};

/*
 * Return how far a word, read as `seen`, is ahead of now. A word that is ahead by more than `most`, or behind, says
 * that the bucket is full. Too far ahead is a word in the units of another rule: a CPU that still had the previous
 * rules has written it after this rule's bucket began.
 */
static __always_inline __u64 bucket_ahead(__u64 seen, __u64 now, __u64 most)
{
	__u64 ahead = seen - now;

	return ahead > most ? 0 : ahead;
}

/* Read the limit of `cost`, `rate` and `burst`, as in struct limit_rule. */
static __always_inline void bucket_read(struct bucket_meter *meter, __u64 clock, __u64 fine, __u64 rate, __u64 burst,
					int full)
{
	meter->now = clock * rate;
	meter->burst = burst;
	/* A second more than the burst, for CPUs that have read an earlier time: 2^30 ns, or 256 jiffies. */
	meter->most = burst + (rate << (fine ? 30 : 8));
	meter->ahead = full ? 0 : bucket_ahead(meter->seen, meter->now, meter->most);
}

static __always_inline int bucket_holds(struct bucket_meter *meter)
{
	return meter->ahead + meter->cost <= meter->burst;
}

/*
 * Try to debit a bucket that held the cost when its word was read; return whether it still does. If the bucket has
 * become another rule's meanwhile, the packet passes and the bucket stays as it is: a time in this rule's units would
 * give tokens to the other.
 */
static __always_inline int bucket_debit(struct limit_source *source, __u64 decision, struct bucket_meter *meter)
{
	__u64 was;

#pragma unroll
	for (int attempt = 0; attempt < BUCKET_TRIES; attempt++) {
		was = __sync_val_compare_and_swap(meter->word, meter->seen, meter->now + meter->ahead + meter->cost);
		if (was == meter->seen || decision_differs(READ_ONCE(source->decision), decision))
			return 1;
		meter->seen = was;
		meter->ahead = bucket_ahead(was, meter->now, meter->most);
		if (!bucket_holds(meter))
			return 0;
	}
	was = __sync_fetch_and_add(meter->word, meter->cost);
	meter->ahead = bucket_ahead(was, meter->now, meter->most);
	if (bucket_holds(meter))
		return 1;
	__sync_fetch_and_add(meter->word, -meter->cost);
	return 0;
}

/* Return whether the frame is within both rates, of the rule of `decision`; one that is not costs nothing. Of a frame
 * that is many packets all pass or none does: it costs as much as all of them. */
static __always_inline int bucket_admit(struct limit_source *source, __u64 decision, struct limit_rule *rule,
					struct wire wire, __u64 jiffies)
{
	struct limit_bucket *bucket = &source->bucket;
	__u64 clock = rule->fine ? bpf_ktime_get_ns() : jiffies;
	/* The words before the time of their last use, which is written before a word is: so a word that is seen
	 * debited is never taken for unused. */
	__u64 packet_time = READ_ONCE(bucket->packet_time), byte_time = READ_ONCE(bucket->byte_time);
	__u64 last_used = READ_ONCE(bucket->last_used);
	/* Signed: another CPU may have written a later jiffy than this one read. */
	int full = (__s64)(jiffies - last_used) > (__s64)rule->full_after;
	struct bucket_meter packets = {}, octets = {};
	/* 0 = no such limit. What the frame costs is not compared with 0: the verifier would have to know where each
	 * number that it is made of comes from, and follow all that is behind for each way to parse a frame. */
	__u64 packet_cost = rule->packet_cost, byte_cost = rule->byte_cost;

	packets.word = &bucket->packet_time;
	packets.seen = packet_time;
	octets.word = &bucket->byte_time;
	octets.seen = byte_time;

	/* Both are looked at before anything is written: a refused packet leaves the bucket as it is, and last_used
	 * too, so that words of another rule's units heal by full_after. */
	if (packet_cost) {
		packets.cost = packet_cost * wire.packets;
		bucket_read(&packets, clock, rule->fine, rule->packet_rate, rule->packet_burst, full);
		if (!bucket_holds(&packets))
			return 0;
	}
	if (byte_cost) {
		octets.cost = byte_cost * wire.bytes;
		bucket_read(&octets, clock, rule->fine, rule->byte_rate, rule->byte_burst, full);
		if (!bucket_holds(&octets))
			return 0;
	}
	if (last_used != jiffies)
		WRITE_ONCE(bucket->last_used, jiffies);
	if (packet_cost && !bucket_debit(source, decision, &packets))
		return 0;
	if (byte_cost && !bucket_debit(source, decision, &octets)) {
		if (packet_cost)
			__sync_fetch_and_add(packets.word, -packets.cost);
		return 0;
	}
	return 1;
}

#endif
