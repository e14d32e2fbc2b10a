/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The limiter: limit() says whether a packet passes. A source's slot remembers its rule and the rule set's generation,
 * so that the longest prefix is looked for once a source and rule set, and not once a packet.
 */
#ifndef CNF_LIMITER_H
#define CNF_LIMITER_H

#include "abi.h"
#include "counters.h"
#include "events.h"
#include "flow_table.h"
#include "parse.h"

enum cnf_limit { CNF_LIMIT_PASS, CNF_LIMIT_DROP, CNF_LIMIT_DENY };

#if CNF_LIMITER

#define BUCKET_TRIES 4 /* compare-and-swaps, before a bucket that so many CPUs debit at once is debited blindly */

/* In force, or 0; the latest, whether it limits anything or not; the latest that an event has told of. */
BPF_ARRAY(limit_generation, __u64, 3);
BPF_ARRAY(limit_settings, struct limit_settings, 2);
BPF_ARRAY(limit_groups, __u32, 2 * (CNF_INTERFACE_SLOTS + 1) * CNF_TRAFFIC_CLASSES);
BPF_ARRAY(limit_policies, struct limit_policy, 2 * CNF_MAX_POLICIES * CNF_LIMIT_GROUPS);
BPF_ARRAY(limit_rules, struct limit_rule, CNF_MAX_RULES);
BPF_ARRAY(limit_shared, struct limit_source, CNF_MAX_RULES);
BPF_PERCPU_ARRAY(limit_counters, struct counter, CNF_MAX_RULES *CNF_VERDICTS);
BPF_F_TABLE("lpm_trie", struct limit4_prefix, struct limit_match, limit_prefixes4, 2 * CNF_MAX_PREFIXES,
	    BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct limit4_key, struct limit_source, limit_sources4, CNF_MAX_SOURCES);
#if CNF_IPV6
BPF_F_TABLE("lpm_trie", struct limit6_prefix, struct limit_match, limit_prefixes6, 2 * CNF_MAX_PREFIXES,
	    BPF_F_NO_PREALLOC);
BPF_TABLE("lru_hash", struct limit6_key, struct limit_source, limit_sources6, CNF_MAX_SOURCES);
#endif

/* `table` is a constant wherever these are called, so that one branch remains of each. `key` is a limit4_key or
 * limit6_key. */
static __always_inline struct limit_source *source_lookup(enum cnf_table table, void *key)
{
#if CNF_IPV6
	if (table == CNF_TABLE_IPV6)
		return limit_sources6.lookup((struct limit6_key *)key);
#endif
	return limit_sources4.lookup((struct limit4_key *)key);
}

static __always_inline long source_insert(enum cnf_table table, void *key, struct limit_source *source)
{
#if CNF_IPV6
	if (table == CNF_TABLE_IPV6)
		return limit_sources6.insert((struct limit6_key *)key, source);
#endif
	return limit_sources4.insert((struct limit4_key *)key, source);
}

static __always_inline void key_set_group(enum cnf_table table, void *key, __u32 group)
{
	if (table == CNF_TABLE_IPV6)
		((struct limit6_key *)key)->group = group;
	else /* in one store: keys are compared in words of 64 bits, for which two halves make it wait */
		*(volatile __u64 *)key = ((struct limit4_key *)key)->addr | (__u64)group << 32;
}

/* Let the source be no more than the prefix of `part` bits, 1 to 128, that holds `addr`. */
static __always_inline void key_set_part(enum cnf_table table, void *key, void *addr, __u32 part)
{
	if (table == CNF_TABLE_IPV6) {
		struct limit6_key *source = key;
		__u64 *words = addr;

		source->part = part;
		source->addr[0] = part < 64 ? words[0] & __builtin_bswap64(~(~0ULL >> (part & 63))) : words[0];
		source->addr[1] = part <= 64   ? 0
				  : part < 128 ? words[1] & __builtin_bswap64(~(~0ULL >> (part & 63)))
					       : words[1];
	}
}

/* Find the longest prefix of the bank that holds the source. */
static __always_inline struct limit_match *prefix_lookup(enum cnf_table table, void *addr, __u32 bank)
{
#if CNF_IPV6
	if (table == CNF_TABLE_IPV6) {
		__u32 *words = addr;
		struct limit6_prefix prefix = {
			.length = 32 + 128, .bank = bank, .addr = {words[0], words[1], words[2], words[3]}};

		return limit_prefixes6.lookup(&prefix);
	}
#endif
	struct limit4_prefix prefix = {.length = 32 + 32, .bank = bank, .addr = *(__u32 *)addr};

	return limit_prefixes4.lookup(&prefix);
}

/* Where a rule's number has its place in the arrays; their size is a power of two. */
static __always_inline __u32 rule_place(__u32 rule)
{
	return rule & (CNF_MAX_RULES - 1);
}

static __always_inline void limit_count(__u32 place, enum cnf_verdict verdict, __u64 bytes)
{
	__u32 element = place * CNF_VERDICTS + verdict;
	struct counter *counter = limit_counters.lookup(&element);

	if (counter) { /* always */
		counter->packets += 1;
		counter->bytes += bytes;
	}
}

/*
 * Return a word, `seen` so, but not before now. `full` says that it has been unused too long to mean anything. It means
 * nothing either if it runs ahead of now by more than `most`: then a CPU that still had the rules from before has
 * written it, in another rule's units, after this rule's bucket was begun.
 */
static __always_inline __u64 bucket_base(__u64 seen, __u64 now, __u64 most, int full)
{
	return full || seen - now > most ? now : seen;
}

/* Return how far a word may be ahead of now: by the burst, and by about a second for clocks that were read earlier. */
static __always_inline __u64 bucket_most(struct limit_rule *rule, __u64 rate, __u64 burst)
{
	return burst + (rate << (rule->fine ? 30 : 8)); /* 2^30 ns, 256 jiffies; below 2^63 */
}

static __always_inline int bucket_holds(__u64 seen, __u64 now, __u64 cost, __u64 burst, __u64 most, int full)
{
	return bucket_base(seen, now, most, full) - now + cost <= burst;
}

/* Try to debit one word, last `seen` so, by `cost`; return whether the bucket held that much. */
static __always_inline int bucket_debit(__u64 *word, __u64 seen, __u64 now, __u64 cost, __u64 burst, __u64 most,
					int full)
{
	__u64 base, was;

#pragma unroll
	for (int attempt = 0; attempt < BUCKET_TRIES; attempt++) {
		if (!bucket_holds(seen, now, cost, burst, most, full))
			return 0;
		base = bucket_base(seen, now, most, full);
		was = __sync_val_compare_and_swap(word, seen, base + cost);
		if (was == seen)
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

/* Return whether the packet is within both rates; one that is not costs nothing. */
static __always_inline int bucket_admit(struct limit_bucket *bucket, struct limit_rule *rule, __u64 bytes,
					__u64 jiffies)
{
	__u64 clock = rule->fine ? bpf_ktime_get_ns() : jiffies;
	__u64 packet_now = clock * rule->packet_rate, byte_now = clock * rule->byte_rate;
	__u64 packet_cost = rule->packet_cost, byte_cost = bytes * rule->byte_cost;
	__u64 packet_most = bucket_most(rule, rule->packet_rate, rule->packet_burst);
	__u64 byte_most = bucket_most(rule, rule->byte_rate, rule->byte_burst);
	/* The words before the time of their last use, which is written before a word is: so a word that is seen
	 * debited is never taken for unused. */
	__u64 packet_seen = *(volatile __u64 *)&bucket->packet_time;
	__u64 byte_seen = *(volatile __u64 *)&bucket->byte_time;
	__u64 last_used = *(volatile __u64 *)&bucket->last_used;
	/* Signed: another CPU may have written a later jiffy than this one read. */
	int full = (__s64)(jiffies - last_used) > (__s64)rule->full_after;

	/* Both are looked at before anything is written: a refused packet leaves the bucket as it is, and last_used
	 * too, so that words of another rule's units heal by full_after. */
	if (packet_cost && !bucket_holds(packet_seen, packet_now, packet_cost, rule->packet_burst, packet_most, full))
		return 0;
	if (byte_cost && !bucket_holds(byte_seen, byte_now, byte_cost, rule->byte_burst, byte_most, full))
		return 0;
	if (last_used != jiffies)
		*(volatile __u64 *)&bucket->last_used = jiffies;
	if (packet_cost && !bucket_debit(&bucket->packet_time, packet_seen, packet_now, packet_cost, rule->packet_burst,
					 packet_most, full))
		return 0;
	if (byte_cost &&
	    !bucket_debit(&bucket->byte_time, byte_seen, byte_now, byte_cost, rule->byte_burst, byte_most, full)) {
		if (packet_cost)
			__sync_fetch_and_add(&bucket->packet_time, -packet_cost);
		return 0;
	}
	return 1;
}

static __always_inline void source_seen(struct limit_source *source, __u64 jiffies)
{
	if (source->last_seen != jiffies)
		source->last_seen = jiffies;
}

/* Return whether the packet is the source's first that is over its limit. */
static __always_inline int source_count(struct limit_source *source, int within, __u64 bytes, __u64 jiffies)
{
	if (within) {
		__sync_fetch_and_add(&source->packets, 1);
		__sync_fetch_and_add(&source->bytes, bytes);
		return 0;
	}
	__sync_fetch_and_add(&source->over_bytes, bytes);
	source->last_over = jiffies;
	return !__sync_fetch_and_add(&source->over_packets, 1);
}

/* Debit the bucket by the rule, count, and say what becomes of the packet, which came from `addr` and in by `slot`. */
static __always_inline enum cnf_limit source_admit(struct limit_source *source, __u32 rule, __u64 bytes, __u64 jiffies,
						   enum cnf_table table, void *addr, __u32 slot)
{
	__u32 place = rule_place(rule);
	struct limit_rule *parameters = limit_rules.lookup(&place);
	int within;

	if (!parameters)
		return CNF_LIMIT_PASS; /* never: the place is below the array's size */
	within = bucket_admit(&source->bucket, parameters, bytes, jiffies);
	if (source_count(source, within, bytes, jiffies) && rule & CNF_ENFORCE)
		event_first_drop(table, addr, rule & ~CNF_ENFORCE, slot, jiffies);
	limit_count(place, within ? CNF_PASSED : rule & CNF_ENFORCE ? CNF_LIMITED : CNF_WOULD_LIMIT, bytes);
	return within || !(rule & CNF_ENFORCE) ? CNF_LIMIT_PASS : CNF_LIMIT_DROP;
}

#define DECISION(generation, home, rule) ((generation) << 32 | (__u64)(home) << 24 | (rule))
#define DECISION_GENERATION(decision) ((decision) >> 32)
#define DECISION_HOME(decision) ((decision) >> 24 & 0xff)
#define DECISION_RULE(decision) ((decision) & 0xffffff)

/* Find the source's slot, or make one; NULL only if the table refuses, which is counted. */
static __always_inline struct limit_source *source_slot(enum cnf_table table, void *key, __u64 decision)
{
	struct limit_source *source = source_lookup(table, key), fresh = {.decision = decision};
	enum cnf_table sources = table == CNF_TABLE_IPV6 ? CNF_TABLE_SOURCES6 : CNF_TABLE_SOURCES4;
	long error;

	if (source) {
		if ((DECISION_RULE(source->decision) ^ DECISION_RULE(decision)) & ~CNF_ENFORCE)
			*(volatile __u64 *)&source->bucket.last_used = 0; /* another rule's bucket starts full */
		if (source->decision != decision)
			*(volatile __u64 *)&source->decision = decision;
		return source;
	}
	error = source_insert(table, key, &fresh);
	if (!error)
		count_table(sources, CNF_INSERT_DONE, 1, 0);
	else if (error != -EEXIST)
		count_table(sources, insert_error(error), 1, 0);
	return source_lookup(table, key);
}

/* Read the generation, once a packet: all that is looked up for it is of one rule set. */
static __always_inline __u64 generation_now(void)
{
	__u32 zero = 0, one = 1, two = 2;
	__u64 *generation = limit_generation.lookup(&zero), *latest = limit_generation.lookup(&one);
	__u64 *announced = limit_generation.lookup(&two);

	if (!generation || !latest || !announced)
		return 0; /* never */
	event_generation(*(volatile __u64 *)latest, announced);
	return *(volatile __u64 *)generation;
}

/*
 * Decide on one packet of a generation that is not 0. `addr` is the source's whole address, `key` holds the address
 * that has the bucket. `slot` is the interface's, `traffic` an enum cnf_traffic.
 */
static __always_inline enum cnf_limit limit(enum cnf_table table, __u64 generation, void *addr, void *key, __u32 slot,
					    __u32 traffic, __u64 bytes)
{
	__u32 bank = generation & 1, index, *known, group, rule = 0, home;
	struct limit_source *source;
	__u64 jiffies;

	index = (bank * (CNF_INTERFACE_SLOTS + 1) + slot) * CNF_TRAFFIC_CLASSES + traffic;
	known = limit_groups.lookup(&index);
	if (!known)
		return CNF_LIMIT_PASS; /* never: bank, slot and traffic are within the array */
	group = *known;
	key_set_group(table, key, group);
	jiffies = bpf_jiffies64();
	source = source_lookup(table, key);
	if (!source || DECISION_GENERATION(source->decision) != (generation & 0xffffffff)) {
		struct limit_match *match = prefix_lookup(table, addr, bank);
		struct limit_policy *policy;

		home = group;
		if (match && match->match == CNF_MATCH_DENY)
			return CNF_LIMIT_DENY;
		if (match && match->part)
			key_set_part(table, key, addr, match->part);
		if (match && match->match == CNF_MATCH_POLICY) {
			index = (bank * CNF_MAX_POLICIES + match->policy) * CNF_LIMIT_GROUPS + group;
			policy = limit_policies.lookup(&index);
			/* A shared bucket has no slot of a source: a flood of spoofed ones costs the others nothing. */
			if (policy && policy->shared) {
				index = policy->shared - 1;
				source = limit_shared.lookup(&index);
				if (!source)
					return CNF_LIMIT_PASS; /* never */
				rule = policy->rule;
				goto admit;
			}
			if (policy) {
				rule = policy->rule;
				home = policy->home;
			}
		}
		source = source_slot(table, key, DECISION(generation, home, rule));
		if (!source)
			return CNF_LIMIT_PASS; /* counted as an insert error of the sources' table */
	}
	rule = DECISION_RULE(source->decision);
	home = DECISION_HOME(source->decision);
	source_seen(source, jiffies);
	if (!rule)
		return CNF_LIMIT_PASS;
	if (home != group) {
		key_set_group(table, key, home);
		source = source_slot(table, key, DECISION(generation, home, rule));
		if (!source)
			return CNF_LIMIT_PASS;
	}
admit: /* one for both kinds of buckets: it is long, and compiled in where it stands */
	source_seen(source, jiffies);
	return source_admit(source, rule, bytes, jiffies, table, addr, slot);
}

static __always_inline __u32 traffic_of(int outcome, struct transport *transport)
{
	if (transport->flow_flags & CNF_FLOW_FRAGMENT)
		return CNF_TRAFFIC_FRAGMENT;
	switch (outcome) {
	case CNF_TCP:
		return (transport->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN ? CNF_TRAFFIC_TCP_SYN : CNF_TRAFFIC_TCP;
	case CNF_UDP:
		return CNF_TRAFFIC_UDP;
	case CNF_ICMP:
		return CNF_TRAFFIC_ICMP;
	case CNF_ICMPV6:
		return CNF_TRAFFIC_ICMPV6;
	default:
		return CNF_TRAFFIC_OTHER;
	}
}
#endif

static __always_inline enum cnf_limit limit4(struct flow4_key *flow, __u32 slot, int outcome,
					     struct transport *transport, __u64 bytes)
{
#if CNF_LIMITER
	struct limit4_key source = {.addr = flow->src_addr};
	__u64 generation = generation_now();

	if (!generation)
		return CNF_LIMIT_PASS;
	return limit(CNF_TABLE_IPV4, generation, &flow->src_addr, &source, slot, traffic_of(outcome, transport), bytes);
#else
	return CNF_LIMIT_PASS;
#endif
}

#if CNF_IPV6
static __always_inline enum cnf_limit limit6(struct flow6_key *flow, __u32 slot, int outcome,
					     struct transport *transport, __u64 bytes)
{
#if CNF_LIMITER
	__u64 generation = generation_now();
	__u32 bank = generation & 1;
	struct limit6_key source = {};
	struct limit_settings *settings;

	if (!generation || transport->neighbor_discovery) /* without its neighbours a node is off the link */
		return CNF_LIMIT_PASS;
	settings = limit_settings.lookup(&bank);
	if (!settings)
		return CNF_LIMIT_PASS; /* never */
	source.addr[0] = flow->src_addr[0] & settings->source6_mask[0];
	source.addr[1] = flow->src_addr[1] & settings->source6_mask[1];
	return limit(CNF_TABLE_IPV6, generation, flow->src_addr, &source, slot, traffic_of(outcome, transport), bytes);
#else
	return CNF_LIMIT_PASS;
#endif
}
#endif

#endif
