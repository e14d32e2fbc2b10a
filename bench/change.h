/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Frames that change from packet to packet. What they are to change to stands in their MAC addresses, which no program
 * of ours looks at; a frame keeps what is written into it through all runs of one BPF_PROG_TEST_RUN.
 */
#ifndef BENCH_CHANGE_H
#define BENCH_CHANGE_H

#include "../cnf/bpf/parse.h"

struct course { /* bench/workloads.py packs it */
	__u32 flows; /* how many sources there are; 0 = the frame stays as it is */
	__u32 first; /* the first one's address, or the lower half of its IPv6 prefix */
	__u32 order; /* 0 = at random, 1 = in turn */
};

#define IPV6_PREFIX 0x20010db8ULL /* the upper half; a source of the limiter is a /64 */

BPF_PERCPU_ARRAY(turns, __u64, 1);

/* Spread consecutive numbers (the multiplier is 2^64 / the golden ratio). */
static __always_inline __u64 scatter(__u64 number)
{
	number *= 0x9e3779b97f4a7c15ULL;
	number ^= number >> 32;
	return number * 0x9e3779b97f4a7c15ULL;
}

/* Give the frame the next source address of its course. Every program does so first, a bare one too. */
static __always_inline void change_source(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct eth_header *eth = (void *)(long)ctx->data;
	struct course *course = (void *)eth;
	struct ipv4_header *ip4 = (void *)(eth + 1);
	struct ipv6_header *ip6 = (void *)(eth + 1);
	__u32 zero = 0;
	__u64 *turn, number;

	if ((void *)(ip4 + 1) > end || !course->flows)
		return;
	turn = turns.lookup(&zero);
	if (!turn)
		return; /* never */
	*turn += 1;
	number = course->order ? *turn % course->flows : (scatter(*turn) >> 32) * course->flows >> 32;
	number += course->first;
	if (eth->type == be16(ETH_P_IP))
		ip4->src_addr = __builtin_bswap32(number);
	else if ((void *)(ip6 + 1) <= end)
		ip6->src_addr[0] = __builtin_bswap64(IPV6_PREFIX << 32 | number);
}

#endif
