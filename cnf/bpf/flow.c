/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entry points. cnf.kernel.compile builds this file with
 *   CNF_MAX_ENTRIES  flows a table can hold
 *   CNF_IPV6         0: IPv6 packets count as non-IP
 *   CNF_VLAN         0: tagged packets count as non-IP
 */
#include "counters.h"
#include "flow_table.h"
#include "parse.h"

/* Account every frame that the interface receives, and pass it on. */
int cnf_ingress(struct xdp_md *ctx)
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
	int outcome = parse_ethernet(&cursor, &type, &vlan);

	if (outcome) {
		/* not to be parsed any further */
	} else if (type == be16(ETH_P_IP)) {
		struct flow4_key key;

		outcome = parse_ipv4(&cursor, &key, &transport);
		if (outcome < CNF_NON_IP) {
			complete_key(&key.src_port, ctx->ingress_ifindex, vlan, &transport);
			account_flow(CNF_TABLE_IPV4, &key, bytes, transport.tcp_flags);
		}
#if CNF_IPV6
	} else if (type == be16(ETH_P_IPV6)) {
		struct flow6_key key;

		outcome = parse_ipv6(&cursor, &key, &transport);
		if (outcome < CNF_NON_IP) {
			complete_key(&key.src_port, ctx->ingress_ifindex, vlan, &transport);
			account_flow(CNF_TABLE_IPV6, &key, bytes, transport.tcp_flags);
		}
#endif
	} else {
		outcome = CNF_NON_IP;
	}
	count_packet(ctx->ingress_ifindex, outcome, bytes);
	return XDP_PASS;
}

/* Write jiffies into the frame: user space runs this by BPF_PROG_TEST_RUN to learn what time the flows' ticks are. */
int cnf_clock(struct xdp_md *ctx)
{
	__u64 *jiffies = (void *)(long)ctx->data;

	if ((void *)(jiffies + 1) <= (void *)(long)ctx->data_end)
		*jiffies = bpf_jiffies64();
	return XDP_PASS;
}
