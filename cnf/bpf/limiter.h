/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The limiter: limit() says whether a packet passes. A source's slot remembers its rule and the rule set's generation,
 * so that the longest prefix is looked for once a source and rule set, and not once a packet.
 */
#ifndef CNF_LIMITER_H
#define CNF_LIMITER_H

#include "abi.h"
#include "capture.h"
#include "counters.h"
#include "events.h"
#include "parse.h"

#if CNF_LIMITER
#include "source_table.h"
#include "token_bucket.h"

/* In force, or 0; the latest, whether it limits anything or not; the latest that an event has told of. */
DIRECT_ARRAY(limit_generation, __u64);
DIRECT_ARRAY(limit_settings, struct limit_settings);
DIRECT_ARRAY(limit_groups, __u64);
DIRECT_ARRAY(limit_policies, struct limit_policy);
DIRECT_ARRAY(limit_rules, struct limit_rule);
DIRECT_ARRAY(limit_shared, struct limit_source);
BPF_PERCPU_ARRAY(limit_counters, struct counter, CNF_MAX_RULES *CNF_VERDICTS);
DIRECT_ARRAY(limit_denied, struct limit_denied);
BPF_PERCPU_ARRAY(limit_denied_counters, struct counter, CNF_MAX_DENIED + 2 * CNF_MAX_SETS);
BPF_F_TABLE("lpm_trie", struct limit4_prefix, struct limit_match, limit_prefixes4, 2 * CNF_MAX_PREFIXES,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct limit6_prefix, struct limit_match, limit_prefixes6, 2 * CNF_MAX_PREFIXES,
	    BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct limit4_prefix, __u64, limit_sets4, 2 * CNF_MAX_SET_PREFIXES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct limit6_prefix, __u64, limit_sets6, 2 * CNF_MAX_SET_PREFIXES, BPF_F_NO_PREALLOC);

/* One key for both lookups of a packet. The stack has no room for it: it stands where an event is made later. */
union prefix_key {
	struct limit4_prefix ipv4;
	struct limit6_prefix ipv6;
};

/* Return room for a key; NULL never. */
static __always_inline union prefix_key *prefix_room(void)
{
	__u32 zero = 0;
	struct event *draft = event_draft.lookup(&zero);

	return draft ? (void *)draft->key : NULL;
}

static __always_inline void prefix_set(enum cnf_table table, union prefix_key *key, __u32 *addr)
{
	if (table == CNF_TABLE_IPV6)
		key->ipv6 = (struct limit6_prefix){.length = 32 + 128, .addr = {addr[0], addr[1], addr[2], addr[3]}};
	else
		key->ipv4 = (struct limit4_prefix){.length = 32 + 32, .addr = *addr};
}

/* Find the longest prefix of the bank that holds the source. */
static __always_inline struct limit_match *prefix_lookup(enum cnf_table table, union prefix_key *key, __u32 bank)
{
	if (table == CNF_TABLE_IPV6) {
		key->ipv6.bank = bank;
		return limit_prefixes6.lookup(&key->ipv6);
	}
	key->ipv4.bank = bank;
	return limit_prefixes4.lookup(&key->ipv4);
}

/* Return the sets that hold the source, a bit each. */
static __always_inline __u64 sets_lookup(enum cnf_table table, union prefix_key *key, __u32 bank)
{
	__u64 *sets;

	if (table == CNF_TABLE_IPV6) {
		key->ipv6.bank = bank;
		sets = limit_sets6.lookup(&key->ipv6);
	} else {
		key->ipv4.bank = bank;
		sets = limit_sets4.lookup(&key->ipv4);
	}
	return sets ? *sets : 0;
}

/* Return the index of a rule's elements in the arrays; their size is a power of two. */
static __always_inline __u32 rule_index(__u32 rule)
{
	return rule & (CNF_MAX_RULES - 1);
}

static __always_inline void limit_count(__u32 rule, enum cnf_verdict verdict, struct wire wire)
{
	__u32 element = rule * CNF_VERDICTS + verdict;

	counter_add(limit_counters.lookup(&element), wire);
}

/* What a rule set says of a source. */
struct limit_choice {
	__u32 deny; /* 1 more than where such a packet is counted; 0: it is not denied */
	__u32 passing; /* not to be remembered: a set in shadow counts each packet, or the rule has an end */
	__u32 allow; /* until a time, or by a set: not to be remembered, since that would outlive it, or not be counted
		      */
	__u32 part; /* as in limit_match */
	__u32 rule; /* 0: none */
	__u32 home;
	__u32 shared; /* as in limit_policy */
};

/* Count a packet that is denied, or that a set allows, or would drop. */
static __always_inline void limit_count_denied(__u32 place, struct wire wire)
{
	counter_add(limit_denied_counters.lookup(&place), wire);
}

/* Find out what the sets say of an address: those that allow go before those that deny. */
static __always_inline void limit_choose_set(enum cnf_table table, union prefix_key *key,
					     struct limit_settings *settings, __u64 jiffies, struct wire wire,
					     struct limit_choice *choice)
{
	__u64 found = sets_lookup(table, key, settings->sets - 1), sets = found & settings->sets_allow;

	if (sets) {
		choice->allow = 1;
		limit_count_denied(CNF_MAX_DENIED + SET_PLACE(sets & -sets), wire);
		return;
	}
	sets = found & settings->sets_deny;
	if (sets) {
		choice->deny = CNF_MAX_DENIED + SET_PLACE(sets & -sets) + 1;
		return;
	}
	sets = found & settings->sets_shadow;
	if (!sets)
		return;
	choice->passing = 1;
	capture_would(jiffies);
	limit_count_denied(CNF_MAX_DENIED + CNF_MAX_SETS + SET_PLACE(sets & -sets), wire);
}

/* Return how many ends of rules have come. */
static __always_inline __u64 ends_passed(struct limit_settings *settings, __u64 jiffies)
{
	__u64 passed = 0;

#pragma unroll
	for (int number = 0; number < CNF_RULE_ENDS; number++)
		passed += ~(jiffies - settings->ends[number]) >> 63;
	FORGET(passed, unknown_zero(jiffies));
	return passed;
}

/* Find out by the longest prefix that holds `addr`. */
static __always_inline void limit_choose(enum cnf_table table, void *addr, __u32 bank, __u32 group, __u64 jiffies,
					 struct wire wire, struct limit_choice *choice)
{
	struct limit_settings *settings = ELEMENT(limit_settings, bank);
	struct limit_policy *policy;
	struct limit_match *match;
	union prefix_key *prefix = prefix_room();
	__u64 index;

	*choice = (struct limit_choice){.home = group};
	if (!prefix)
		return; /* never */
	prefix_set(table, prefix, addr);
	match = prefix_lookup(table, prefix, bank);
	if (match) {
		if (jiffies < match->deny_until) {
			choice->deny = match->denied + 1;
			return;
		}
		choice->part = match->part;
		if (jiffies < match->allow_until) {
			choice->allow = match->allow_until != CNF_FOR_EVER;
			return;
		}
	}
	if (!MISSING(limit_settings, settings) && settings->sets) {
		limit_choose_set(table, prefix, settings, jiffies, wire, choice);
		if (choice->deny || choice->allow)
			return;
	}
	if (!match)
		return;
	index = bank * CNF_MAX_POLICIES + match->policy;
	if (match->changes && !MISSING(limit_settings, settings)) {
		choice->passing = 1;
		index += ends_passed(settings, jiffies);
	}
	index = index * CNF_LIMIT_GROUPS + group;
	policy = CHECKED_ELEMENT(limit_policies, index);
	if (!policy)
		return; /* never */
	choice->rule = policy->rule;
	choice->home = policy->home;
	choice->shared = policy->shared;
}

/*
 * Count a packet that is within the limit of the source in `place`, or of a shared bucket, or over it. Return whether
 * it is the first that is dropped; in mode shadow none is.
 */
static __always_inline int source_count(enum cnf_table table, struct source_place *place, struct limit_source *source,
					int shared, int within, int enforce, struct wire wire, __u64 jiffies)
{
	struct limit_over *over;

	if (within) {
		__sync_fetch_and_add(&source->packets, wire.packets);
		__sync_fetch_and_add(&source->bytes, wire.bytes);
		return 0;
	}
	__sync_fetch_and_add(&source->over_packets, wire.packets);
	over = shared ? (void *)&source->over_bytes : source_over(table, place);
	if (!over)
		return 0; /* never */
	__sync_fetch_and_add(&over->bytes, wire.bytes);
	over->last = jiffies;
	if (!enforce) {
		capture_would(jiffies);
		return 0;
	}
	over->last_drop = jiffies;
	__sync_fetch_and_add(&over->dropped_bytes, wire.bytes);
	return !__sync_fetch_and_add(&over->dropped_packets, wire.packets);
}

/* Note a packet that the entry of limits.deny, or the set, at `place` drops; its first one is an event. */
static __always_inline enum cnf_limit limit_deny(enum cnf_table table, void *addr, __u32 place, __u32 ifindex,
						 __u64 jiffies)
{
	struct limit_denied *denied = CHECKED_ELEMENT(limit_denied, place);

	if (!denied)
		return CNF_LIMIT_DENY; /* never */
	if (READ_ONCE(denied->last_seen) != jiffies) /* CPUs share it: written once a tick, and not once a packet */
		WRITE_ONCE(denied->last_seen, jiffies);
	if (!READ_ONCE(denied->first_seen) && !__sync_val_compare_and_swap(&denied->first_seen, 0, jiffies))
		event_first_drop(table, addr, 0, ifindex, jiffies);
	return CNF_LIMIT_DENY;
}

/* Return the generation in force. It is read once a packet, so that all lookups are of one rule set. */
static __always_inline __u64 generation_now(void)
{
	__u64 *generation = ELEMENT(limit_generation, 0), *latest = ELEMENT(limit_generation, 1),
	      *announced = ELEMENT(limit_generation, 2);

	if (MISSING(limit_generation, generation && latest && announced))
		return 0;
	event_generation(READ_ONCE(*latest), announced);
	return READ_ONCE(*generation);
}

/*
 * Debit the bucket that decides on a packet, count the packet, and return whether it passes. `place` is the source's
 * slot, or unused if the bucket is shared; `decision` then is 0. `rule` is as in limit_policy.
 */
static __always_inline enum cnf_limit limit_admit(enum cnf_table table, void *addr, __u32 ifindex,
						  struct source_place *place, struct limit_source *source, int shared,
						  __u64 decision, __u32 rule, struct wire wire, __u64 jiffies)
{
	__u32 index = rule_index(rule);
	struct limit_rule *parameters = ELEMENT(limit_rules, index);
	int within;

	if (MISSING(limit_rules, parameters))
		return CNF_LIMIT_PASS;
	if (!shared)
		source_full(place, jiffies + parameters->full_after + 1);
	within = bucket_admit(source, decision, parameters, wire, jiffies);
	if (source_count(table, place, source, shared, within, !!(rule & CNF_ENFORCE), wire, jiffies))
		event_first_drop(table, addr, rule & ~CNF_ENFORCE, ifindex, jiffies);
	limit_count(index, within ? CNF_PASSED : rule & CNF_ENFORCE ? CNF_LIMITED : CNF_WOULD_LIMIT, wire);
	return within || !(rule & CNF_ENFORCE) ? CNF_LIMIT_PASS : CNF_LIMIT_DROP;
}

/* Return the group of a packet in the bank of the generation; NULL never. */
static __always_inline __u64 *limit_group(__u64 generation, __u32 slot, __u32 traffic)
{
	__u64 index = ((generation & 1) * (CNF_MAX_INTERFACES + 1) + slot) * CNF_TRAFFIC_CLASSES + traffic;

	return CHECKED_ELEMENT(limit_groups, index);
}

/*
 * Decide on one packet of a generation that is not 0. `addr` is the source's whole address, `key` holds the address
 * that has the bucket. `traffic` is an enum cnf_traffic.
 */
static __always_inline enum cnf_limit limit(enum cnf_table table, __u64 generation, void *addr, void *key, __u32 slot,
					    __u32 ifindex, __u32 traffic, struct wire wire)
{
	__u64 *known_group = limit_group(generation, slot, traffic);
	__u32 bank = generation & 1, group, rule = 0;
	__u64 jiffies = bpf_jiffies64(), decision = 0, known, index;
	struct limit_source *source = NULL;
	struct source_place place = {};
	__u64 zero = unknown_zero(jiffies);
	int shared = 0;

	if (!known_group)
		return CNF_LIMIT_PASS; /* never: bank, slot and traffic are within the array */
	group = *known_group;
	key_set_group(table, key, group);
	/* First the slot of the packet's group, which knows what was decided; then that of the group with the bucket,
	 * if it is another one. */
#pragma clang loop unroll(disable)
	for (int turn = 0; turn < 2; turn++) {
		source_find(table, key, &place, jiffies);
		source = source_found(table, &place);
		known = source ? READ_ONCE(source->decision) : 0;
		if (!decision && source && DECISION_GENERATION(known) == (generation & 0xffffffff))
			decision = known;
		if (!decision && !turn) { /* later it is known; so the verifier follows this once */
			struct limit_choice choice;

			limit_choose(table, addr, bank, group, jiffies, wire, &choice);
			if (choice.deny) {
				limit_count_denied(choice.deny - 1, wire);
				return limit_deny(table, addr, choice.deny - 1, ifindex, jiffies);
			}
			if (choice.allow)
				return CNF_LIMIT_PASS;
			rule = choice.rule;
			/* A shared bucket needs no slot of a source: a flood of spoofed sources takes no slot from
			 * others. */
			if (choice.shared) {
				index = choice.shared - 1;
				source = CHECKED_ELEMENT(limit_shared, index);
				if (!source)
					return CNF_LIMIT_PASS; /* never */
				shared = 1;
				goto admit;
			}
			/* Of no generation, so that the next packet is looked up again. */
			decision = DECISION(generation ^ -(__u64)choice.passing, choice.home, rule) + zero;
			if (choice.part && !key_part(table, key)) {
				group = choice.home;
				key_set_part(table, key, addr, choice.part, zero);
				key_set_group(table, key, group);
				continue;
			}
		}
		if ((!source || known != decision) && !source_remember(table, key, &place, decision, jiffies))
			return CNF_LIMIT_PASS; /* counted as an insert error of the sources' table */
		source_seen(&place, jiffies);
		rule = DECISION_RULE(decision);
		if (rule && DECISION_HOME(decision) == group)
			break;
		source_in_use(&place, jiffies);
		if (!rule)
			return CNF_LIMIT_PASS;
		group = DECISION_HOME(decision);
		key_set_group(table, key, group);
	}
	source = source_found(table, &place);
	if (!source)
		return CNF_LIMIT_PASS; /* never */
admit: /* one copy for both kinds of buckets: it is long */
	return limit_admit(table, addr, ifindex, &place, source, shared, shared ? 0 : decision, rule, wire, jiffies);
}

/*
 * Return what a packet is to the rules: the protocol decides, wherever it is known, whether the header behind it can be
 * read or not. TCP without readable flags, as in a first fragment that ends before them, may open a connection.
 */
static __always_inline __u32 traffic_of(int outcome, struct transport *transport, __u8 icmp_protocol, __u64 zero)
{
	__u32 protocol = transport->protocol, fragment = transport->flow_flags & CNF_FLOW_FRAGMENT;
	__u32 flags = transport->tcp_flags & (TCP_SYN | TCP_ACK), traffic;

	FORGET(outcome, zero);
	FORGET(protocol, zero);
	FORGET(fragment, zero);
	FORGET(flags, zero);
	switch (protocol_outcome(protocol, icmp_protocol)) {
	case CNF_TCP:
		traffic = outcome == CNF_TCP && flags != TCP_SYN ? CNF_TRAFFIC_TCP : CNF_TRAFFIC_TCP_SYN;
		traffic = fragment ? CNF_TRAFFIC_TCP_FRAGMENT : traffic;
		break;
	case CNF_UDP:
		traffic = fragment ? CNF_TRAFFIC_UDP_FRAGMENT : CNF_TRAFFIC_UDP;
		break;
	case CNF_ICMP:
		traffic = fragment ? CNF_TRAFFIC_ICMP_FRAGMENT : CNF_TRAFFIC_ICMP;
		break;
	case CNF_ICMPV6:
		traffic = fragment ? CNF_TRAFFIC_ICMPV6_FRAGMENT : CNF_TRAFFIC_ICMPV6;
		break;
	default:
		traffic = fragment ? CNF_TRAFFIC_OTHER_FRAGMENT : CNF_TRAFFIC_OTHER;
	}
	FORGET(traffic, zero);
	return traffic;
}
#endif

static __always_inline enum cnf_limit limit4(struct flow4_key *flow, __u32 slot, __u32 ifindex, int outcome,
					     struct transport *transport, struct wire wire)
{
#if CNF_LIMITER
	struct limit4_key source ALIGNED_FOR_WORDS = {.addr = flow->src_addr};
	__u64 generation = generation_now();
	__u32 traffic = traffic_of(outcome, transport, IPPROTO_ICMP, unknown_zero(generation));

	if (!generation)
		return CNF_LIMIT_PASS;
	return limit(CNF_TABLE_IPV4, generation, &flow->src_addr, &source, slot, ifindex, traffic, wire);
#else
	return CNF_LIMIT_PASS;
#endif
}

#if CNF_PARSE_IPV6
/* Return all ones for a link-local address, fe80::/10, else 0: the nodes of a link have one prefix for all of them, so
 * that each address is a source of its own. */
static __always_inline __u64 link_local_mask(__u64 addr)
{
	return (__u64)is_other(be16(addr) & 0xffc0, 0xfe80) - 1;
}

/* An IPv4-mapped address, ::ffff:0:0/96, is for sockets and for no wire. A server takes it for the IPv4 address. */
static __always_inline int is_mapped(__u64 *addr)
{
	return !addr[0] && (__u32)addr[1] == be32(0x0000ffff);
}

#if CNF_LIMITER
/* Mask an address to that of its source, which may be a part of one. */
static __always_inline void source6_key(struct limit6_key *source, __u64 *addr, struct limit_settings *settings)
{
	__u64 whole = link_local_mask(addr[0]);

	source->part = 128 & whole;
	source->addr[0] = addr[0] & (settings->source6_mask[0] | whole);
	source->addr[1] = addr[1] & (settings->source6_mask[1] | whole);
}
#endif

static __always_inline enum cnf_limit limit6(struct flow6_key *flow, __u32 slot, __u32 ifindex, int outcome,
					     struct transport *transport, struct wire wire)
{
#if CNF_LIMITER
	__u64 generation = generation_now();
	__u32 traffic = traffic_of(outcome, transport, IPPROTO_ICMPV6, unknown_zero(generation));
	struct limit6_key source = {};
	struct limit_settings *settings;

	if (!generation || transport->neighbor_discovery) /* without its neighbours a node is off the link */
		return CNF_LIMIT_PASS;
	settings = ELEMENT(limit_settings, generation & 1);
	if (MISSING(limit_settings, settings))
		return CNF_LIMIT_PASS;
	if (settings->drop_unreadable && (outcome == CNF_EXT_HEADER_DEPTH || is_mapped(flow->src_addr)))
		return CNF_LIMIT_UNREADABLE;
	source6_key(&source, flow->src_addr, settings);
	return limit(CNF_TABLE_IPV6, generation, flow->src_addr, &source, slot, ifindex, traffic, wire);
#else
	return CNF_LIMIT_PASS;
#endif
}
#endif

/* Decide on a packet that no rule can be found for, as its headers begin too deep in it. */
static __always_inline enum cnf_limit limit_unreadable(void)
{
#if CNF_LIMITER
	__u64 generation = generation_now();
	struct limit_settings *settings = ELEMENT(limit_settings, generation & 1);

	if (generation && !MISSING(limit_settings, settings) && settings->drop_unreadable)
		return CNF_LIMIT_UNREADABLE;
#endif
	return CNF_LIMIT_PASS;
}

#endif
