/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What one would write first, to compare with: flows in an LRU hash, with the fine clock and two atomic adds; then a
 * token bucket a source in a second LRU hash, by the well-known arithmetic of integers.
 */
#include "change.h"

#define NSEC_PER_SEC 1000000000ULL
#define RATE 1000000000ULL /* packets a second: never reached, as in bench/limited.py */
#define BURST RATE

struct naive4_key {
	__u32 src_addr;
	__u32 dst_addr;
	__u32 ports;
	__u32 ifindex;
	__u32 protocol;
};

struct naive6_key {
	__u64 src_addr[2];
	__u64 dst_addr[2];
	__u32 ports;
	__u32 ifindex;
	__u32 protocol;
	__u32 zero;
};

struct naive_flow {
	__u64 packets;
	__u64 bytes;
	__u64 first_seen; /* ns */
	__u64 last_seen;
	__u64 tcp_flags;
};

struct naive_bucket {
	__u64 tokens;
	__u64 last; /* ns */
};

BPF_TABLE("lru_hash", struct naive4_key, struct naive_flow, flows4, CNF_MAX_ENTRIES);
BPF_TABLE("lru_hash", struct naive6_key, struct naive_flow, flows6, CNF_MAX_ENTRIES);
BPF_TABLE("lru_hash", __u32, struct naive_bucket, buckets4, CNF_MAX_SOURCES);
BPF_TABLE("lru_hash", __u64, struct naive_bucket, buckets6, CNF_MAX_SOURCES);

static __always_inline void flow_add(struct naive_flow *flow, __u64 bytes, __u8 tcp_flags, __u64 now)
{
	__sync_fetch_and_add(&flow->packets, 1);
	__sync_fetch_and_add(&flow->bytes, bytes);
	flow->last_seen = now;
	flow->tcp_flags |= tcp_flags;
}

static __always_inline int bucket_admit(struct naive_bucket *bucket, __u64 now)
{
	__u64 tokens = bucket->tokens + (now - bucket->last) * RATE / NSEC_PER_SEC;

	if (tokens > BURST)
		tokens = BURST;
	bucket->last = now;
	bucket->tokens = tokens ? tokens - 1 : 0;
	return tokens > 0;
}

/* Point behind the IP header, at ports that are there; NULL if they are not. */
static __always_inline __u32 *ports_at(struct xdp_md *ctx, void *at)
{
	return at + sizeof(__u32) > (void *)(long)ctx->data_end ? 0 : at;
}

static __always_inline __u8 tcp_flags_at(struct xdp_md *ctx, void *at, __u8 protocol)
{
	struct tcp_header *tcp = at;

	return protocol == IPPROTO_TCP && (void *)(tcp + 1) <= (void *)(long)ctx->data_end ? tcp->flags : 0;
}

static __always_inline int naive4(struct xdp_md *ctx, struct ipv4_header *ip, __u64 bytes, int limit)
{
	struct naive4_key key = {.ifindex = ctx->ingress_ifindex};
	struct naive_bucket *bucket, full;
	struct naive_flow *flow, fresh;
	__u8 tcp_flags;
	__u32 *ports;
	__u64 now;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	ports = ports_at(ctx, (void *)ip + (ip->version_length & 0xf) * 4);
	if (!ports)
		return XDP_PASS;
	tcp_flags = tcp_flags_at(ctx, ports, ip->protocol);
	key.src_addr = ip->src_addr;
	key.dst_addr = ip->dst_addr;
	key.ports = *ports;
	key.protocol = ip->protocol;
	now = bpf_ktime_get_ns();
	flow = flows4.lookup(&key);
	if (flow) {
		flow_add(flow, bytes, tcp_flags, now);
	} else {
		fresh = (struct naive_flow){1, bytes, now, now, tcp_flags};
		flows4.update(&key, &fresh);
	}
	if (!limit)
		return XDP_PASS;
	bucket = buckets4.lookup(&key.src_addr);
	if (bucket)
		return bucket_admit(bucket, now) ? XDP_PASS : XDP_DROP;
	full = (struct naive_bucket){BURST - 1, now};
	buckets4.update(&key.src_addr, &full);
	return XDP_PASS;
}

static __always_inline int naive6(struct xdp_md *ctx, struct ipv6_header *ip, __u64 bytes, int limit)
{
	struct naive6_key key = {.ifindex = ctx->ingress_ifindex};
	struct naive_bucket *bucket, full;
	struct naive_flow *flow, fresh;
	__u8 tcp_flags;
	__u32 *ports;
	__u64 now;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	ports = ports_at(ctx, ip + 1);
	if (!ports)
		return XDP_PASS;
	tcp_flags = tcp_flags_at(ctx, ports, ip->next_header);
	key.src_addr[0] = ip->src_addr[0];
	key.src_addr[1] = ip->src_addr[1];
	key.dst_addr[0] = ip->dst_addr[0];
	key.dst_addr[1] = ip->dst_addr[1];
	key.ports = *ports;
	key.protocol = ip->next_header;
	now = bpf_ktime_get_ns();
	flow = flows6.lookup(&key);
	if (flow) {
		flow_add(flow, bytes, tcp_flags, now);
	} else {
		fresh = (struct naive_flow){1, bytes, now, now, tcp_flags};
		flows6.update(&key, &fresh);
	}
	if (!limit)
		return XDP_PASS;
	bucket = buckets6.lookup(&key.src_addr[0]); /* a source is a /64, as cnf has it by default */
	if (bucket)
		return bucket_admit(bucket, now) ? XDP_PASS : XDP_DROP;
	full = (struct naive_bucket){BURST - 1, now};
	buckets6.update(&key.src_addr[0], &full);
	return XDP_PASS;
}

static __always_inline int run(struct xdp_md *ctx, int limit)
{
	struct eth_header *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u64 bytes = end - (void *)eth;

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->type == be16(ETH_P_IP))
		return naive4(ctx, (void *)(eth + 1), bytes, limit);
	if (eth->type == be16(ETH_P_IPV6))
		return naive6(ctx, (void *)(eth + 1), bytes, limit);
	return XDP_PASS;
}

int naive(struct xdp_md *ctx)
{
	change_source(ctx);
	return run(ctx, 0);
}

int naive_bucket(struct xdp_md *ctx)
{
	change_source(ctx);
	return run(ctx, 1);
}
