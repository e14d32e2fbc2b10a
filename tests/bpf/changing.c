/* SPDX-License-Identifier: GPL-2.0-only */
/* flow.c, on frames that it changes first: each CPU goes through a list of flows that a test writes into a map. */
struct test_flow {
	__u32 addr; /* the source's last 32 bits */
	__u32 ports; /* both */
};

BPF_F_TABLE("array", __u32, struct test_flow, test_list, TEST_FLOWS, BPF_F_MMAPABLE);
BPF_PERCPU_ARRAY(test_turns, __u64, 2); /* frames so far, by family */

#define cnf_ingress(context) static __always_inline ingress(context)
#include "../../cnf/bpf/flow.c"
#undef cnf_ingress

#define IPV4_SOURCE_AT 26
#define IPV4_PORTS_AT 34
#define IPV6_SOURCE_AT 34
#define IPV6_PORTS_AT 54

int cnf_ingress(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	__u32 family, index;
	struct test_flow *flow;
	__u64 *turn;

	if (data + IPV6_PORTS_AT + sizeof(__u32) > data_end)
		return XDP_ABORTED;
	family = *(__u16 *)(data + 12) == be16(ETH_P_IPV6);
	turn = test_turns.lookup(&family);
	if (!turn)
		return XDP_ABORTED;
	index = *turn % TEST_FLOWS;
	*turn += 1;
	flow = test_list.lookup(&index);
	if (!flow)
		return XDP_ABORTED;
	*(__u32 *)(data + (family ? IPV6_SOURCE_AT : IPV4_SOURCE_AT)) = flow->addr;
	*(__u32 *)(data + (family ? IPV6_PORTS_AT : IPV4_PORTS_AT)) = flow->ports;
	return ingress(ctx);
}
