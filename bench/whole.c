/* SPDX-License-Identifier: GPL-2.0-only */
/* The whole program, and its parser alone. */
#include "change.h"

/* The entry point as a function: BCC lets programs call static ones only. */
#define cnf_ingress(context) static __always_inline ingress(context)
#include "../cnf/bpf/flow.c"
#undef cnf_ingress

int whole(struct xdp_md *ctx)
{
	change_source(ctx);
	return ingress(ctx);
}

#if !CNF_LIMITER

int parse_only(struct xdp_md *ctx)
{
	__u64 bytes = bpf_xdp_get_buff_len(ctx);
	struct cursor cursor = {
		.ctx = ctx,
		.at = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.remaining = bytes,
	};
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
