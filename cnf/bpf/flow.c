/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entry points. cnf.datapath.compile builds this file with
 *   CNF_CACHE        tables of flows and sources: 1 caches of the program's own, 0 LRU hashes of the kernel
 *   CNF_MAX_ENTRIES  flows a table can hold
 *   CNF_MAX_INTERFACES interfaces that can have counters
 *   CNF_IPV6         0: IPv6 packets count as non-IP; limits hold for them all the same
 *   CNF_VLAN         0: tagged packets count as non-IP; limits hold for them all the same
 *   CNF_PERFMON      1: loaded with CAP_PERFMON
 *   CNF_FLOW_DROPS   1: caches have a place for what is dropped of a flow, also where CNF_LIMITER is 0
 *   CNF_LIMITER      0: no limits; else
 *   CNF_MAX_SOURCES  sources of a family that can have a bucket
 *   CNF_MAX_RULES    rules, and as many shared buckets, of two rule sets; a power of two
 *   CNF_MAX_POLICIES combinations of rules, of one rule set
 *   CNF_MAX_PREFIXES prefixes of a family, of one rule set
 *   CNF_MAX_DENIED   entries of limits.deny, of two rule sets
 *   CNF_XDP, CNF_SKB_INGRESS, CNF_SKB_EGRESS 1: with this entry point
 *   CNF_EGRESS       1: with counters of what is sent
 *   CNF_CAPTURES     1: with the programs that copy frames for who captures
 *   CNF_COUNT_*, CNF_DIRECT_*, CNF_MAP_* elements of an array, whether they are addressed, its number: see direct.h
 *   CNF_RING_BYTES   size of the ring that carries events; 0: no events
 *   CNF_FINISHED_EVENTS 1: of flows that make room, too
 *   CNF_FLOW_RECORDS 1: with a map for what of each flow is recorded, which user space writes
 */
#include "capture.h"
#include "capture_copy.h"
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

/* Beside an outcome: of a kind that counts as non-IP, and is in no flow. */
#define UNTRACKED (CNF_VLAN && CNF_IPV6 ? 0 : 0x100)

/* Count a frame, and pass it unless a limit says otherwise. */
static __always_inline int general(const struct frame *frame)
{
	__u64 length = frame_length(frame), zero = CNF_LIMITER || frame_is_skb(frame) ? unknown_zero(length) : 0;
	struct cursor cursor = cursor_begin(frame, length);
	struct transport transport = {.flow_flags = frame_flow_flags(frame)};
	__u16 type = 0, vlan = 0;
	struct interface interface;
	struct wire wire;
	int outcome, untracked;
	enum cnf_limit verdict = CNF_LIMIT_PASS;

	/* First: a call costs the more, the more values live across it. */
	interface_find(frame_ifindex(frame), &interface);
	interface.slot += zero;
	interface.counted_as += zero;
	outcome = parse_link(&cursor, interface.no_ethernet, &type, &vlan);
	untracked = CNF_VLAN || !vlan ? 0 : UNTRACKED;
	vlan += zero;
	if (CNF_FLOW_RECORDS)
		transport.link_bytes = cursor.offset + frame_tag_bytes(frame) +
				       (CNF_LIMITER || frame_is_skb(frame) ? zero : unknown_zero(length));
	if (outcome) {
		wire = frame_wire(frame, length, cursor.offset);
		if (frame_is_limited(frame) && outcome == CNF_VLAN_DEPTH)
			verdict = limit_unreadable();
		outcome |= untracked;
	} else if (type == be16(ETH_P_IP)) {
		struct flow4_key key ALIGNED_FOR_WORDS = {};
		struct flow_place place = {};

		outcome = (parse_ipv4(&cursor, &key, &transport) | untracked) + zero;
		transport_add(&transport, zero);
		wire = frame_wire(frame, length, cursor.offset + transport.header_length);
		if (outcome < CNF_NON_IP) {
			complete_key(&key.src_port, interface.counted_as, vlan, &transport);
			flow_find(CNF_TABLE_IPV4, &key, &place);
		}
		/* Also what cannot be parsed to its end: the stack may take it, and it would pass every limit. */
		if (frame_is_limited(frame) && transport.addressed)
			verdict = limit4(&key, interface.slot, interface.counted_as, outcome & ~UNTRACKED, &transport,
					 wire) +
				  zero;
		if (outcome < CNF_NON_IP)
			account(CNF_TABLE_IPV4, &key, &place, wire, &transport, verdict != CNF_LIMIT_PASS);
#if CNF_PARSE_IPV6
	} else if (type == be16(ETH_P_IPV6)) {
		struct flow6_key key ALIGNED_FOR_WORDS = {};
		struct flow_place place = {};

		outcome = (parse_ipv6(&cursor, &key, &transport) | (CNF_IPV6 ? untracked : UNTRACKED)) + zero;
		transport_add(&transport, zero);
		wire = frame_wire(frame, length, cursor.offset + transport.header_length);
		if (CNF_IPV6 && outcome < CNF_NON_IP) {
			complete_key(&key.src_port, interface.counted_as, vlan, &transport);
			flow_find(CNF_TABLE_IPV6, &key, &place);
		}
		/* Also what cannot be parsed to its end: the stack may take it, and it would pass every limit. */
		if (frame_is_limited(frame) && transport.addressed)
			verdict = limit6(&key, interface.slot, interface.counted_as, outcome & ~UNTRACKED, &transport,
					 wire) +
				  zero;
		if (CNF_IPV6 && outcome < CNF_NON_IP)
			account(CNF_TABLE_IPV6, &key, &place, wire, &transport, verdict != CNF_LIMIT_PASS);
#endif
	} else {
		outcome = CNF_NON_IP;
		wire = frame_wire(frame, length, cursor.offset);
	}
	if (outcome & UNTRACKED)
		outcome = CNF_NON_IP;
	if (verdict != CNF_LIMIT_PASS && outcome >= CNF_NON_IP)
		outcome = CNF_OTHER; /* the ledger has it as dropped, and must not have it as unparsed, too */
	count_frame(frame, interface.slot, outcome, wire);
	if (verdict != CNF_LIMIT_PASS)
		count_received(interface.slot, CNF_OUTCOMES + drop_reason(verdict), wire);
	if (capture_is_on())
		capture_frame(frame, verdict);
	return verdict == CNF_LIMIT_PASS ? frame_pass(frame) : frame_drop(frame);
}

/* Deal with a frame: in the short way, if that takes it. */
static __always_inline int deal_with(void *ctx, enum cnf_hook hook)
{
	struct frame frame = {.ctx = ctx, .hook = hook};
	int verdict = established_packet(&frame);

	if (verdict)
		return verdict;
	/* What is known of the frame by now is read anew, so that the verifier follows the general code once. */
	if (CNF_LIMITER || frame_is_skb(&frame))
		WITHOUT_BRANCH(frame.ctx);
	return general(&frame);
}

#if CNF_XDP
/* Deal with every frame that the interface receives. */
int cnf_ingress(struct xdp_md *ctx)
{
	return deal_with(ctx, CNF_HOOK_XDP);
}
#endif

#if CNF_SKB_INGRESS
/* The same, where XDP is not to be had or would be too dear. */
int cnf_skb_ingress(struct __sk_buff *skb)
{
	return deal_with(skb, CNF_HOOK_INGRESS);
}
#endif

#if CNF_SKB_EGRESS
/* Deal with every frame that the interface sends. Nothing is limited. */
int cnf_skb_egress(struct __sk_buff *skb)
{
	return deal_with(skb, CNF_HOOK_EGRESS);
}
#endif

#if CNF_CAPTURES
/* What the others end in while somebody captures. */
#if CNF_XDP
int cnf_capture_xdp(struct xdp_md *ctx)
{
	return capture(ctx, CNF_HOOK_XDP);
}
#endif

#if CNF_SKB_INGRESS
int cnf_capture_in(struct __sk_buff *skb)
{
	return capture(skb, CNF_HOOK_INGRESS);
}
#endif

#if CNF_EGRESS
int cnf_capture_out(struct __sk_buff *skb)
{
	return capture(skb, CNF_HOOK_EGRESS);
}
#endif
#endif

/* Write jiffies into the frame: user space runs this by BPF_PROG_TEST_RUN to learn what time the flows' ticks are. */
int cnf_clock(struct xdp_md *ctx)
{
	__u64 *jiffies = (void *)(long)ctx->data;

	if ((void *)(jiffies + 1) <= (void *)(long)ctx->data_end)
		*jiffies = bpf_jiffies64();
	return XDP_PASS;
}
