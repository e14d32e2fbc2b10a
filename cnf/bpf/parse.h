/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a frame to its flow key. A cursor walks the frame; every step checks its bound. What a packet is counted
 * as is an enum cnf_outcome; a step that only can fail returns 0 or such an outcome.
 */
#ifndef CNF_PARSE_H
#define CNF_PARSE_H

#include "abi.h"
#include "headers.h"
#include "verifier.h"

#define MAX_VLAN_TAGS 2
#define MAX_EXT_HEADERS 6

static __always_inline __u64 frame_length(struct xdp_md *ctx)
{
#if CNF_PERFMON
	return (long)ctx->data_end - (long)ctx->data;
#else
	return bpf_xdp_get_buff_len(ctx); /* to subtract pointers takes CAP_PERFMON */
#endif
}

/*
 * Where parsing stands. Headers behind IPv4 options or IPv6 extension headers are at a place that varies: to add that
 * to a packet pointer takes CAP_PERFMON, so those are copied out by a helper. All others are read in place.
 */
struct cursor {
	struct xdp_md *ctx;
	void *at; /* of no use once `moved` */
	void *end;
	__u32 offset;    /* bytes of the frame before the cursor */
	__u32 remaining; /* and from it on */
	int moved;
};

/* What a key holds behind its addresses, and a value besides its counts. */
struct transport {
	__u32 ports; /* source, then destination, as on the wire; ICMP: type and code in their places */
	__u8 protocol;
	__u8 flow_flags; /* enum cnf_flow_flags */
	__u8 tcp_flags;
	__u8 neighbor_discovery; /* 1 = a valid message of RFC 4861 */
	__u8 addressed;          /* 1 = the key has its addresses, even if the rest cannot be parsed */
};

static __always_inline void transport_add(struct transport *transport, __u64 zero)
{
	transport->ports += zero;
	transport->protocol += zero;
	transport->flow_flags += zero;
	transport->tcp_flags += zero;
}

/* Step over a header of a constant `size`; return -1 if it is not all there. It starts where the cursor was before. */
static __always_inline int cursor_step(struct cursor *cursor, __u32 size)
{
	if (cursor->at + size > cursor->end)
		return -1;
	cursor->at += size;
	cursor->offset += size;
	cursor->remaining -= size;
	return 0;
}

/* Step over `size` bytes, whatever they are; return -1 if they are not all there. */
static __always_inline int cursor_move(struct cursor *cursor, __u32 size)
{
	if (size > cursor->remaining)
		return -1;
	cursor->offset += size;
	cursor->remaining -= size;
	cursor->moved = 1;
	return 0;
}

/* Point `header` at the `size` bytes at the cursor, in place or in `copy`; return -1 if they are not all there. */
static __always_inline int cursor_get(struct cursor *cursor, void *copy, __u32 size, void **header)
{
	if (cursor->moved) {
		*header = copy;
		return bpf_xdp_load_bytes(cursor->ctx, cursor->offset, copy, size) ? -1 : 0;
	}
	*header = cursor->at;
	return cursor->at + size > cursor->end ? -1 : 0;
}

static __always_inline int is_vlan(__u16 type)
{
	return type == be16(ETH_P_8021Q) || type == be16(ETH_P_8021AD);
}

/* Take the EtherType behind the tags, in network byte order, and the outer tag as it stands in a key. */
static __always_inline int parse_ethernet(struct cursor *cursor, __u16 *type, __u16 *vlan)
{
	struct eth_header *eth = cursor->at;

	if (cursor_step(cursor, sizeof(*eth)))
		return CNF_TRUNCATED;
	*type = eth->type;
#if CNF_VLAN
#pragma unroll
	for (int depth = 0; depth < MAX_VLAN_TAGS; depth++) {
		struct vlan_tag *tag = cursor->at;

		if (!is_vlan(*type))
			return 0;
		if (cursor_step(cursor, sizeof(*tag)))
			return CNF_TRUNCATED;
		if (depth == 0)
			*vlan = CNF_VLAN_PRESENT | (be16(tag->control) & 0x0fff);
		*type = tag->type;
	}
	if (is_vlan(*type))
		return CNF_VLAN_DEPTH;
#endif
	return 0;
}

static __always_inline int parse_tcp(struct cursor *cursor, __u32 length, struct transport *transport)
{
	struct tcp_header copy, *tcp;
	__u32 header_length;

	if (length < TCP_MIN_LENGTH || cursor_get(cursor, &copy, sizeof(copy), (void **)&tcp))
		return CNF_TRUNCATED;
	header_length = (tcp->data_offset >> 4) * 4;
	if (header_length < TCP_MIN_LENGTH)
		return CNF_BAD_HEADER;
	if (header_length > length)
		return CNF_TRUNCATED;
	transport->ports = tcp->ports;
	transport->tcp_flags = tcp->flags;
	return CNF_TCP;
}

static __always_inline int parse_ports(struct cursor *cursor, __u32 length, __u32 minimum, struct transport *transport)
{
	__u32 copy, *ports;

	if (length < minimum || cursor_get(cursor, &copy, sizeof(copy), (void **)&ports))
		return CNF_TRUNCATED;
	transport->ports = *ports;
	return 0;
}

static __always_inline int parse_icmp(struct cursor *cursor, __u32 length, __u32 minimum, struct transport *transport)
{
	struct icmp_header copy, *icmp;

	if (length < minimum || cursor_get(cursor, &copy, sizeof(copy), (void **)&icmp))
		return CNF_TRUNCATED;
	transport->ports = be16(icmp->type) | (__u32)be16(icmp->code) << 16;
	return 0;
}

/* Count a packet by its protocol alone; ICMP counts as such only in the IP version that it belongs to. */
static __always_inline int protocol_outcome(__u8 protocol, __u8 icmp_protocol)
{
	if (protocol == icmp_protocol)
		return protocol == IPPROTO_ICMP ? CNF_ICMP : CNF_ICMPV6;
	switch (protocol) {
	case IPPROTO_TCP:
		return CNF_TCP;
	case IPPROTO_UDP:
		return CNF_UDP;
	case IPPROTO_SCTP:
		return CNF_SCTP;
	case IPPROTO_GRE:
		return CNF_GRE;
	case IPPROTO_ESP:
		return CNF_ESP;
	default:
		return CNF_OTHER;
	}
}

/* `length` is what the network layer says there is behind its headers: padding of the frame is no part of it. */
static __always_inline int parse_transport(struct cursor *cursor, __u32 length, __u8 protocol, __u8 icmp_protocol,
					   struct transport *transport)
{
	int outcome = protocol_outcome(protocol, icmp_protocol), error = 0;

	switch (outcome) {
	case CNF_TCP:
		return parse_tcp(cursor, length, transport);
	case CNF_UDP:
		error = parse_ports(cursor, length, UDP_LENGTH, transport);
		break;
	case CNF_SCTP:
		error = parse_ports(cursor, length, SCTP_LENGTH, transport);
		break;
	case CNF_ICMP:
		error = parse_icmp(cursor, length, ICMP_LENGTH, transport);
		break;
	case CNF_ICMPV6:
		error = parse_icmp(cursor, length, ICMPV6_LENGTH, transport);
		break;
	}
	return error ? error : outcome;
}

/* Take the addresses into `key` and the rest into `transport`. */
static __always_inline int parse_ipv4(struct cursor *cursor, struct flow4_key *key, struct transport *transport)
{
	__u32 available = cursor->remaining, header_length, total_length;
	struct ipv4_header *ip = cursor->at;

	if (cursor_step(cursor, sizeof(*ip)))
		return CNF_TRUNCATED;
	key->src_addr = ip->src_addr;
	key->dst_addr = ip->dst_addr;
	transport->addressed = 1;
	header_length = (ip->version_length & 0xf) * 4;
	if (ip->version_length >> 4 != 4 || header_length < IPV4_MIN_LENGTH)
		return CNF_BAD_HEADER;
	if (header_length > IPV4_MIN_LENGTH && cursor_move(cursor, header_length - IPV4_MIN_LENGTH))
		return CNF_TRUNCATED;
	total_length = be16(ip->total_length);
	if (total_length < header_length)
		return CNF_BAD_HEADER;
	if (total_length > available)
		return CNF_TRUNCATED;

	transport->protocol = ip->protocol;
	if (ip->fragment & be16(0x1fff)) {
		transport->flow_flags = CNF_FLOW_FRAGMENT;
		return protocol_outcome(ip->protocol, IPPROTO_ICMP);
	}
	return parse_transport(cursor, total_length - header_length, ip->protocol, IPPROTO_ICMP, transport);
}

#if CNF_IPV6
/* Take the addresses into `key` and the rest into `transport`. */
static __always_inline int parse_ipv6(struct cursor *cursor, struct flow6_key *key, struct transport *transport)
{
	struct ipv6_header *ip = cursor->at;
	__u32 remaining, payload_length;
	__u8 protocol;

	if (cursor_step(cursor, sizeof(*ip)))
		return CNF_TRUNCATED;
	key->src_addr[0] = ip->src_addr[0];
	key->src_addr[1] = ip->src_addr[1];
	key->dst_addr[0] = ip->dst_addr[0];
	key->dst_addr[1] = ip->dst_addr[1];
	transport->addressed = 1;
	if (ip->version_class >> 4 != 6)
		return CNF_BAD_HEADER;
	remaining = cursor->remaining;
	payload_length = be16(ip->payload_length);
	if (payload_length > remaining)
		return CNF_TRUNCATED;
	protocol = ip->next_header;
	/* A jumbogram (RFC 2675) states its length in a hop-by-hop option and 0 here. */
	if (payload_length || protocol != IPPROTO_HOPOPTS)
		remaining = payload_length;

	for (int depth = 0; depth <= MAX_EXT_HEADERS; depth++) {
		struct ext_header copy, *header;
		__u32 length = sizeof(*header);

		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING && protocol != IPPROTO_FRAGMENT &&
		    protocol != IPPROTO_DSTOPTS) {
			int outcome = parse_transport(cursor, remaining, protocol, IPPROTO_ICMPV6, transport);
			__u16 type = be16(transport->ports & 0xffff);

			transport->protocol = protocol;
			transport->neighbor_discovery = outcome == CNF_ICMPV6 && ip->hop_limit == ND_HOP_LIMIT &&
							type >= ND_ROUTER_SOLICIT && type <= ND_REDIRECT;
			return outcome;
		}
		if (depth == MAX_EXT_HEADERS)
			break;
		if (cursor_get(cursor, &copy, sizeof(copy), (void **)&header))
			return CNF_TRUNCATED;
		if (protocol != IPPROTO_FRAGMENT)
			length += header->length * 8;
		if (length > remaining)
			return CNF_TRUNCATED;
		if (protocol == IPPROTO_FRAGMENT && header->fragment & be16(0xfff8)) {
			transport->protocol = header->next_header;
			transport->flow_flags = CNF_FLOW_FRAGMENT;
			return protocol_outcome(header->next_header, IPPROTO_ICMPV6);
		}
		protocol = header->next_header;
		if (cursor_move(cursor, length))
			return CNF_TRUNCATED;
		remaining -= length;
	}
	return CNF_EXT_HEADER_DEPTH;
}
#endif

#endif
