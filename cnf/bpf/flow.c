/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entry points. cnf.datapath.compile builds this file with
 *   CNF_CACHE        tables of flows and sources: 1 caches of the program's own, 0 LRU hashes of the kernel
 *   CNF_MAX_ENTRIES  flows a table can hold
 *   CNF_MAX_INTERFACES interfaces that can have counters
 *   CNF_INTERFACE_PLACES elements of the array that finds them, some times as many; a power of two
 *   CNF_IPV6         0: IPv6 packets count as non-IP; limits hold for them all the same
 *   CNF_VLAN         0: tagged packets count as non-IP; limits hold for them all the same
 *   CNF_PERFMON      1: loaded with CAP_PERFMON
 *   CNF_LIMITER      0: no limits; else
 *   CNF_MAX_SOURCES  sources of a family that can have a bucket
 *   CNF_MAX_RULES    rules, and as many shared buckets, of two rule sets; a power of two
 *   CNF_MAX_POLICIES combinations of rules, of one rule set
 *   CNF_MAX_PREFIXES prefixes of a family, of one rule set
 *   CNF_RING_BYTES   size of the ring that carries events; 0: no events
 *   CNF_EVICTED_RECORDS 1: of flows that have to make room, too
 */
#include "counters.h"
#include "established.h"
#include "flow_table.h"
#include "handover.h"
#include "limiter.h"
#include "parse.h"

static __always_inline enum cnf_drop drop_reason(enum cnf_limit verdict)
{
	switch (verdict) {
	case CNF_LIMIT_DENY:
		return CNF_DROP_DENIED;
	case CNF_LIMIT_UNREADABLE:
		return CNF_DROP_UNREADABLE;
	default:
		return CNF_DROP_LIMITED;
	}
}

/* Count a frame, and pass it unless a limit says otherwise. */
static __always_inline int general(struct xdp_md *ctx)
{
	__u64 bytes = frame_length(ctx), zero = CNF_LIMITER ? unknown_zero(bytes) : 0;
	struct cursor cursor = {
		.ctx = ctx,
		.at = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.remaining = bytes,
	};
	struct transport transport = {};
	__u16 type = 0, vlan = 0;
	__u32 slot, ifindex;
	int outcome, tracked;
	enum cnf_limit verdict = CNF_LIMIT_PASS;

	/* First: a call costs the more, the more values live across it. */
	interface_find(ctx->ingress_ifindex, &slot, &ifindex);
	slot += zero;
	ifindex += zero;
	outcome = parse_ethernet(&cursor, &type, &vlan);
	tracked = CNF_VLAN || !vlan;
	vlan += zero;
	if (outcome) {
		if (outcome == CNF_VLAN_DEPTH)
			verdict = limit_unreadable();
	} else if (type == be16(ETH_P_IP)) {
		struct flow4_key key ALIGNED_FOR_WORDS = {};
		struct flow_place place = {};

		outcome = parse_ipv4(&cursor, &key, &transport) + zero;
		transport_add(&transport, zero);
		if (tracked && outcome < CNF_NON_IP) {
			complete_key(&key.src_port, ifindex, vlan, &transport);
			flow_find(CNF_TABLE_IPV4, &key, &place);
		}
		/* Also what cannot be parsed to its end: the stack may take it, and it would pass every limit. */
		if (transport.addressed)
			verdict = limit4(&key, slot, ifindex, outcome, &transport, bytes) + zero;
		if (tracked && outcome < CNF_NON_IP)
			account(CNF_TABLE_IPV4, &key, &place, bytes, transport.tcp_flags, verdict != CNF_LIMIT_PASS);
#if CNF_PARSE_IPV6
	} else if (type == be16(ETH_P_IPV6)) {
		struct flow6_key key ALIGNED_FOR_WORDS = {};
		struct flow_place place = {};

		tracked = tracked && CNF_IPV6;
		outcome = parse_ipv6(&cursor, &key, &transport) + zero;
		transport_add(&transport, zero);
		if (tracked && outcome < CNF_NON_IP) {
			complete_key(&key.src_port, ifindex, vlan, &transport);
			flow_find(CNF_TABLE_IPV6, &key, &place);
		}
		/* Also what cannot be parsed to its end: the stack may take it, and it would pass every limit. */
		if (transport.addressed)
			verdict = limit6(&key, slot, ifindex, outcome, &transport, bytes) + zero;
		if (tracked && outcome < CNF_NON_IP)
			account(CNF_TABLE_IPV6, &key, &place, bytes, transport.tcp_flags, verdict != CNF_LIMIT_PASS);
#endif
	} else {
		outcome = CNF_NON_IP;
	}
	if (!tracked)
		outcome = CNF_NON_IP;
	if (verdict != CNF_LIMIT_PASS && outcome >= CNF_NON_IP)
		outcome = CNF_OTHER; /* the ledger has it as dropped, and must not have it as unparsed, too */
	count_packet(slot, outcome, bytes);
	if (verdict == CNF_LIMIT_PASS)
		return XDP_PASS;
	count_packet(slot, CNF_OUTCOMES + drop_reason(verdict), bytes);
	return XDP_DROP;
}

/* Deal with every frame that the interface receives. */
int cnf_ingress(struct xdp_md *ctx)
{
	int verdict = established_packet(ctx);

	if (verdict)
		return verdict;
#if CNF_LIMITER
	/* What is known of the frame by now is read anew, so that the verifier follows the general code once. */
	WITHOUT_BRANCH(ctx);
#endif
	return general(ctx);
}

/* Write jiffies into the frame: user space runs this by BPF_PROG_TEST_RUN to learn what time the flows' ticks are. */
int cnf_clock(struct xdp_md *ctx)
{
	__u64 *jiffies = (void *)(long)ctx->data;

	if ((void *)(jiffies + 1) <= (void *)(long)ctx->data_end)
		*jiffies = bpf_jiffies64();
	return XDP_PASS;
}
