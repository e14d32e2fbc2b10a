/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The programs that copy frames for who captures: into a ring of their own, each with its verdict. They know nothing of
 * a frame but that, and read all else from it once more, with the parser of the general way.
 */
#ifndef CNF_CAPTURE_COPY_H
#define CNF_CAPTURE_COPY_H

#include "capture.h"
#include "counters.h"
#include "events.h"
#include "flow_table.h"
#include "limiter.h"
#include "parse.h"
#include "verifier.h"

#if CNF_CAPTURES

#define NSEC_PER_SEC 1000000000

BPF_ARRAY(capture_settings, struct capture_settings, 1);
BPF_ARRAY(capture_spent, __u64, 1); /* second << 32 | frames of its budget that are spent */
BPF_PERCPU_ARRAY(capture_counters, struct counter, CNF_CAPTURE_RESULTS);
BPF_RINGBUF_OUTPUT(capture_ring, CNF_CAPTURE_RING_BYTES / PAGE_SIZE);

static __always_inline void capture_count(enum cnf_capture what, struct wire wire)
{
	__u32 element = what;

	counter_add(capture_counters.lookup(&element), wire);
}

/* Take a frame from the budget of this second; return whether there was one left. */
static __always_inline int capture_spend(__u64 now, __u64 budget)
{
	__u64 second = now / NSEC_PER_SEC << 32, spent;
	__u32 zero = 0;
	__u64 *word = capture_spent.lookup(&zero);

	if (!word)
		return 0; /* never */
	spent = READ_ONCE(*word);
	if (spent < second) /* whoever comes first begins the second */
		__sync_val_compare_and_swap(word, spent, second);
	return (__u32)__sync_fetch_and_add(word, 1) < budget;
}

/* Return the generation of the rule set in force; 0 = none. */
static __always_inline __u64 capture_generation(void)
{
#if CNF_LIMITER
	__u64 *generation = ELEMENT(limit_generation, 0);

	return MISSING(limit_generation, generation) ? 0 : READ_ONCE(*generation);
#else
	return 0;
#endif
}

/* Describe a frame as the general way does, with the whole key of what is in no flow, too; return the wire's share. */
static __always_inline struct wire capture_describe(const struct frame *frame, __u64 length,
						    struct capture_record *record)
{
	struct cursor cursor = cursor_begin(frame, length);
	struct transport transport = {.flow_flags = frame_flow_flags(frame)};
	__u64 zero = unknown_zero(length);
	__u16 type = 0, vlan = 0;
	struct interface interface;
	int outcome;

	interface_find(frame_ifindex(frame), &interface);
	outcome = parse_link(&cursor, interface.no_ethernet, &type, &vlan);
	record->ifindex = interface.counted_as;
	record->family = 0;
	if (outcome) {
		;
	} else if (type == be16(ETH_P_IP)) {
		struct flow4_key key ALIGNED_FOR_WORDS = {};

		outcome = parse_ipv4(&cursor, &key, &transport) + zero;
		transport_add(&transport, zero);
		complete_key(&key.src_port, interface.counted_as, vlan, &transport);
		record->family = transport.addressed * (1 + CNF_TABLE_IPV4);
		*(struct flow4_key *)record->key = key;
#if CNF_PARSE_IPV6
	} else if (type == be16(ETH_P_IPV6)) {
		struct flow6_key key ALIGNED_FOR_WORDS = {};

		outcome = parse_ipv6(&cursor, &key, &transport) + zero;
		transport_add(&transport, zero);
		complete_key(&key.src_port, interface.counted_as, vlan, &transport);
		record->family = transport.addressed * (1 + CNF_TABLE_IPV6);
		*(struct flow6_key *)record->key = key;
#endif
	} else {
		outcome = CNF_NON_IP;
	}
	record->outcome = outcome;
	record->tcp_flags = transport.tcp_flags;
	return frame_wire(frame, length, cursor.offset + transport.header_length);
}

/* Take the first bytes of a frame into the draft; return how many. */
static __always_inline __u64 capture_bytes(const struct frame *frame, __u64 length, __u64 snaplen,
					   struct capture_draft *draft)
{
	__u64 size = snaplen < length ? snaplen : length, last;

	if (size > CNF_CAPTURE_BYTES)
		size = CNF_CAPTURE_BYTES;
	/* The verifier of Linux 6.1 learns nothing from a comparison with 0, but knows that last + 1 is not 0. */
	last = size - 1;
	WITHOUT_BRANCH(last);
	if (last >= CNF_CAPTURE_BYTES || frame_load(frame, 0, draft->bytes, last + 1))
		return 0;
	return size;
}

/* Copy a frame, if it is of those that are asked for, there is a budget for it, and room. */
static __always_inline void capture_copy(const struct frame *frame, struct capture_draft *draft, __u64 jiffies)
{
	struct capture_record *record = &draft->record;
	struct __sk_buff *skb = frame->ctx;
	struct capture_settings *settings;
	struct wire wire;
	__u64 length, size;
	__u32 zero = 0;

	settings = capture_settings.lookup(&zero);
	if (!settings || jiffies >= capture_is_on() || !(settings->verdicts >> (record->verdict & 63) & 1))
		return;
	length = frame_length(frame);
	record->time = bpf_ktime_get_ns();
	record->session = settings->session;
	record->generation = capture_generation();
	record->length = length;
	record->hook = frame->hook;
	record->tag = 0;
	if (frame_is_skb(frame) && skb->vlan_present)
		record->tag = be16(skb->vlan_proto) | skb->vlan_tci << 16;
	/* Noted before the frame is parsed, so that the verifier does not know it behind each way to do that. */
	draft->size = 0;
	if (capture_spend(record->time, settings->budget))
		draft->size = sizeof(*record) + capture_bytes(frame, length, settings->snaplen, draft);
	FORGET(length, unknown_zero(length)); /* how much of it was copied */
	wire = capture_describe(frame, length, record);
	record->packets = wire.packets;
	size = READ_ONCE(draft->size);
	if (!size) {
		capture_count(CNF_CAPTURE_OVER_BUDGET, wire);
		return;
	}
	if (size > sizeof(*record) + CNF_CAPTURE_BYTES)
		return; /* never */
	capture_count(capture_ring.ringbuf_output(draft, size, 0) ? CNF_CAPTURE_RING_FULL : CNF_CAPTURED, wire);
}

/* Copy a frame whose verdict is known, and return that. */
static __always_inline int capture(void *ctx, enum cnf_hook hook)
{
	struct frame frame = {.ctx = ctx, .hook = hook};
	struct capture_draft *draft = capture_own_draft();
	__u64 now = bpf_jiffies64(), would;
	int action;

	if (!draft)
		return frame_pass(&frame); /* never */
	action = draft->record.verdict == CNF_LIMIT_PASS ? frame_pass(&frame) : frame_drop(&frame);
	would = draft->would;
	draft->would = 0;
	if (draft->record.verdict == CNF_LIMIT_PASS && would && now - would <= 1) /* else it is of an earlier capture */
		draft->record.verdict = CNF_LIMIT_WOULD;
	capture_copy(&frame, draft, now);
	return action;
}

#endif

#endif
