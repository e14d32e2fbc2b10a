/* SPDX-License-Identifier: GPL-2.0-only */
/* What is there without any program of ours: verdicts, and frames that change. */
#include "change.h"

#define SENDER_IFINDEX 1001 /* bench/wire.py makes the interface with this number */

int bare(struct xdp_md *ctx)
{
	change_source(ctx);
	return XDP_PASS;
}

int bare_skb(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

int bare_drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

/* For BPF_F_TEST_XDP_LIVE_FRAMES: frames leave by the sender. */
int send(struct xdp_md *ctx)
{
	change_source(ctx);
	return bpf_redirect(SENDER_IFINDEX, 0);
}
