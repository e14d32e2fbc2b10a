/* SPDX-License-Identifier: GPL-2.0-only */
/* flow.c, on an skb beside which the kernel keeps the tag that a test writes into its mark: EtherType, then tag. */
#include "../../cnf/bpf/flow.c"

static __always_inline int tag(struct __sk_buff *skb)
{
	return bpf_skb_vlan_push(skb, be16(skb->mark >> 16), skb->mark & 0xffff);
}

int tagged_ingress(struct __sk_buff *skb)
{
	return tag(skb) ? TC_ACT_SHOT : deal_with(skb, CNF_HOOK_INGRESS);
}

int tagged_egress(struct __sk_buff *skb)
{
	return tag(skb) ? TC_ACT_SHOT : deal_with(skb, CNF_HOOK_EGRESS);
}
