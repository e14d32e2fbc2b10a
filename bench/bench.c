/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the benchmarks run: the whole program, parts of it alone, one table lookup more, and frames that change.
 * cnf.kernel.compile builds this file as it does flow.c.
 */
#include "../cnf/bpf/counters.h"
#include "../cnf/bpf/flow_table.h"
#include "../cnf/bpf/limiter.h"
#include "../cnf/bpf/parse.h"

/* Make the compiler believe that a result is wanted. */
static __always_inline void use(void *key, long outcome)
{
	asm volatile("" : : "r"(key), "r"(outcome) : "memory");
}

/*
 * The entry point as a function (BCC lets programs call static ones only), with a constant more: without `accounting`
 * it parses, and that is all.
 */
#define cnf_ingress(context) static __always_inline ingress(context, int accounting)
#define interface_slot(ifindex) (accounting ? interface_slot(ifindex) : 0)
#define limit4(...) (accounting ? limit4(__VA_ARGS__) : CNF_LIMIT_PASS)
#define limit6(...) (accounting ? limit6(__VA_ARGS__) : CNF_LIMIT_PASS)
#define flow_find(...) (accounting ? flow_find(__VA_ARGS__) : (void)0)
#define account(table, key, ...) (accounting ? account(table, key, __VA_ARGS__) : use(key, 0))
#define count_packet(slot, outcome, ...)                                                                               \
	(accounting ? count_packet(slot, outcome, __VA_ARGS__) : use((void *)0, outcome))
#include "../cnf/bpf/flow.c"
#undef cnf_ingress
#undef interface_slot
#undef limit4
#undef limit6
#undef flow_find
#undef account
#undef count_packet

#define IPV4_SOURCE_AT 26 /* the address's last four bytes in a frame without VLAN tag */
#define IPV6_SOURCE_AT 34
#define IPV6_PREFIX_AT 22 /* its first eight */
#define MANY 0x3fff
#define ENDLESS 0x0fffffff
#define SENDER_IFINDEX 1001 /* bench/veth.py makes the interface with this number */

BPF_PERCPU_ARRAY(turns, __u64, 1);

/* Give the frame the next source address in turn, of `mask` + 1 that are this CPU's own. */
static __always_inline int change_source(struct xdp_md *ctx, int at, __u32 mask)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	__u32 zero = 0, cpu = bpf_get_smp_processor_id();
	__u64 *turn = turns.lookup(&zero);

	if (!turn || data + at + sizeof(__u32) > data_end)
		return XDP_ABORTED;
	*turn += 1;
	*(__u32 *)(data + at) = cpu << 28 | (*turn & mask);
	return XDP_PASS;
}

int whole(struct xdp_md *ctx)
{
	return ingress(ctx, 1);
}

int whole_new4(struct xdp_md *ctx)
{
	change_source(ctx, IPV4_SOURCE_AT, ENDLESS);
	return ingress(ctx, 1);
}

#if !CNF_LIMITER /* what is asked only of the program without one; it takes time to compile */

int bare_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

int parse_only(struct xdp_md *ctx)
{
	return ingress(ctx, 0);
}

int counters_only(struct xdp_md *ctx)
{
	count_packet(interface_slot(ctx->ingress_ifindex), CNF_TCP, bpf_xdp_get_buff_len(ctx));
	return XDP_PASS;
}

int table_only(struct xdp_md *ctx)
{
	struct flow4_key key ALIGNED_FOR_WORDS = {.ifindex = ctx->ingress_ifindex};
	struct flow_place place;

	flow_find(CNF_TABLE_IPV4, &key, &place);
	account_flow(CNF_TABLE_IPV4, &key, &place, bpf_xdp_get_buff_len(ctx), 0);
	return XDP_PASS;
}

BPF_TABLE("lru_hash", struct limit4_key, struct limit_source, others4, CNF_MAX_ENTRIES);
BPF_TABLE("lru_hash", struct limit6_key, struct limit_source, others6, CNF_MAX_ENTRIES);

/* Look the source up in a table like the limiter's, which costs what the least of limiters would. */
int one_more_lookup4(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct limit_source *source;
	struct limit4_key key = {};

	if (data + IPV4_SOURCE_AT + sizeof(__u32) > data_end)
		return XDP_ABORTED;
	key.addr = *(__u32 *)(data + IPV4_SOURCE_AT);
	source = others4.lookup(&key);
	if (source) {
		use(source, source->decision);
	} else {
		struct limit_source fresh = {};

		others4.insert(&key, &fresh);
	}
	return ingress(ctx, 1);
}

int one_more_lookup6(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct limit_source *source;
	struct limit6_key key = {};

	if (data + IPV6_PREFIX_AT + sizeof(__u64) > data_end)
		return XDP_ABORTED;
	key.addr[0] = *(__u64 *)(data + IPV6_PREFIX_AT);
	source = others6.lookup(&key);
	if (source) {
		use(source, source->decision);
	} else {
		struct limit_source fresh = {};

		others6.insert(&key, &fresh);
	}
	return ingress(ctx, 1);
}

/* Count the packet in a flow more: a lookup, and the two atomic adds that keep sums exact. */
int one_more_flow4(struct xdp_md *ctx)
{
	struct flow4_key key ALIGNED_FOR_WORDS = {};
	struct flow_place place;

	flow_find(CNF_TABLE_IPV4, &key, &place);
	account_flow(CNF_TABLE_IPV4, &key, &place, bpf_xdp_get_buff_len(ctx), 0);
	return ingress(ctx, 1);
}

int one_more_flow6(struct xdp_md *ctx)
{
	struct flow6_key key ALIGNED_FOR_WORDS = {};
	struct flow_place place;

	flow_find(CNF_TABLE_IPV6, &key, &place);
	account_flow(CNF_TABLE_IPV6, &key, &place, bpf_xdp_get_buff_len(ctx), 0);
	return ingress(ctx, 1);
}

int change_only(struct xdp_md *ctx)
{
	return change_source(ctx, IPV4_SOURCE_AT, MANY);
}

int whole_many4(struct xdp_md *ctx)
{
	change_source(ctx, IPV4_SOURCE_AT, MANY);
	return ingress(ctx, 1);
}

int whole_many6(struct xdp_md *ctx)
{
	change_source(ctx, IPV6_SOURCE_AT, MANY);
	return ingress(ctx, 1);
}

int whole_new6(struct xdp_md *ctx)
{
	change_source(ctx, IPV6_SOURCE_AT, ENDLESS);
	return ingress(ctx, 1);
}

/* For BPF_F_TEST_XDP_LIVE_FRAMES: frames leave by the sender. */
int send_one(struct xdp_md *ctx)
{
	return bpf_redirect(SENDER_IFINDEX, 0);
}

int send_many(struct xdp_md *ctx)
{
	change_source(ctx, IPV4_SOURCE_AT, MANY);
	return bpf_redirect(SENDER_IFINDEX, 0);
}

#endif
