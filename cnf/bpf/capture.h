/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Capturing, as the programs see it that judge frames. While somebody captures, no interface stands in
 * interfaces_direct, so that all frames take the general way: the short way need not ask. What copies is a program of
 * its own, with a stack of its own (capture_copy.h): the general way ends in a tail call to it.
 */
#ifndef CNF_CAPTURE_H
#define CNF_CAPTURE_H

#include "abi.h"
#include "direct.h"
#include "frame.h"
#include "once.h"

#define CNF_SKB (CNF_SKB_INGRESS || CNF_EGRESS)

DIRECT_ARRAY(capture_until, __u64);
BPF_PERCPU_ARRAY(capture_draft, struct capture_draft, 1);
/* The programs that copy; an array holds those of one type. Where one is missing, frames are not copied. */
#if CNF_XDP
BPF_PROG_ARRAY(capture_xdp, 1);
#endif
#if CNF_SKB
BPF_PROG_ARRAY(capture_skb, CNF_DIRECTIONS);
#endif

/* Return until when frames are captured, in jiffies; 0 = nobody has begun. This is all that it takes then. */
static __always_inline __u64 capture_is_on(void)
{
	__u64 *until = ELEMENT(capture_until, 0);

	return MISSING(capture_until, until) ? 0 : READ_ONCE(*until);
}

/* Return the CPU's draft; NULL never. */
static __always_inline struct capture_draft *capture_own_draft(void)
{
	__u32 zero = 0;

	return capture_draft.lookup(&zero);
}

/* Note, for who captures, that what would drop the packet at hand only counts. */
static __always_inline void capture_would(__u64 jiffies)
{
	struct capture_draft *draft;

	if (!capture_is_on())
		return;
	draft = capture_own_draft();
	if (draft)
		draft->would = jiffies;
}

/* Have the frame copied, and end with its verdict; return only if there is no program for that. */
static __always_inline void capture_frame(const struct frame *frame, enum cnf_limit verdict)
{
	struct capture_draft *draft = capture_own_draft();

	if (!draft)
		return;
	draft->record.verdict = verdict;
#if CNF_SKB
	if (frame_is_skb(frame))
		capture_skb.call(frame->ctx, frame->hook == CNF_HOOK_EGRESS);
#endif
#if CNF_XDP
	if (!frame_is_skb(frame))
		capture_xdp.call(frame->ctx, 0);
#endif
}

#endif
