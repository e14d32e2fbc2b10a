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
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct cursor cursor = {.at = data, .end = data_end};
	struct interface_counters *counters = counters_of(ctx->ingress_ifindex);
	struct transport transport = {};
	__u64 bytes = data_end - data;
	__u16 vlan = 0;
	int type, label;

	if (!counters)
		return XDP_PASS; /* never: the slots are constants below the array's size */
	type = parse_ethernet(&cursor, &vlan);
	if (type == be16(ETH_P_IP)) {
		struct flow4_key key = {.ifindex = ctx->ingress_ifindex, .vlan = vlan};

		label = parse_ipv4(&cursor, &key, &transport);
		if (label >= 0) {
			key.src_port = transport.src_port;
			key.dst_port = transport.dst_port;
			account_flow(CNF_TABLE_IPV4, &key, bytes, transport.tcp_flags);
		}
#if CNF_IPV6
	} else if (type == be16(ETH_P_IPV6)) {
		struct flow6_key key = {.ifindex = ctx->ingress_ifindex, .vlan = vlan};

		label = parse_ipv6(&cursor, &key, &transport);
		if (label >= 0) {
			key.src_port = transport.src_port;
			key.dst_port = transport.dst_port;
			account_flow(CNF_TABLE_IPV6, &key, bytes, transport.tcp_flags);
		}
#endif
	} else {
		label = type < 0 ? type : CNF_NON_IP;
	}
	count(counters, label, bytes);
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
