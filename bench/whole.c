/* SPDX-License-Identifier: GPL-2.0-only */
/* The whole program, and its parser alone. */
#include "change.h"

#include "../cnf/bpf/flow.c"

int whole(struct xdp_md *ctx)
{
	change_source(ctx);
	return deal_with(ctx, CNF_HOOK_XDP);
}

#if !CNF_LIMITER

int parse_only(struct xdp_md *ctx)
{
	struct frame frame = {.ctx = ctx, .hook = CNF_HOOK_XDP};
	struct cursor cursor = cursor_begin(&frame, bpf_xdp_get_buff_len(ctx));
	struct transport transport = {};
	__u16 type = 0, vlan = 0;
	int outcome;

	change_source(ctx);
	outcome = parse_ethernet(&cursor, &type, &vlan);
	if (!outcome && type == be16(ETH_P_IP)) {
		struct flow4_key key;

		outcome = parse_ipv4(&cursor, &key, &transport);
		complete_key(&key.src_port, ctx->ingress_ifindex, vlan, &transport);
		asm volatile("" : : "r"(&key) : "memory"); /* lest the compiler leave out what nobody reads */
	} else if (!outcome && type == be16(ETH_P_IPV6)) {
		struct flow6_key key;

		outcome = parse_ipv6(&cursor, &key, &transport);
		complete_key(&key.src_port, ctx->ingress_ifindex, vlan, &transport);
		asm volatile("" : : "r"(&key) : "memory");
	}
	asm volatile("" : : "r"(outcome));
	return XDP_PASS;
}

#endif
