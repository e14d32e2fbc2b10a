/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a frame to its flow key. A cursor walks the frame; every step checks its bound. What a packet is counted
 * as is an enum cnf_outcome; a step that only can fail returns 0 or such an outcome.
 */
#ifndef CNF_PARSE_H
#define CNF_PARSE_H

#include "abi.h"
#include "frame.h"
#include "headers.h"
#include "verifier.h"

/* Limits hold for what is not counted, too: with them, everything is parsed. */
#define CNF_PARSE_IPV6 (CNF_IPV6 || CNF_LIMITER)
#define CNF_PARSE_VLAN (CNF_VLAN || CNF_LIMITER)

#define MAX_VLAN_TAGS 2 /* with an id */
/* More than a frame of 1,518 bytes has room for: Linux goes on as long as there are any. */
#define MAX_PRIORITY_TAGS 372
#define MAX_EXT_HEADERS 184
/* Bytes of the headers that are read in place. */
#define MOST_IN_PLACE                                                                                                  \
	(sizeof(struct eth_header) + MAX_VLAN_TAGS * sizeof(struct vlan_tag) + sizeof(struct ipv6_header) +            \
	 sizeof(struct tcp_header))

/*
 * Where parsing stands. Headers behind IPv4 options or IPv6 extension headers are at a place that varies: to add that
 * to a packet pointer takes CAP_PERFMON, so those are copied out by a helper. All others are read in place.
 */
struct cursor {
	const struct frame *frame;
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
	__u8 header_length; /* bytes of the TCP or UDP header, if it is read */
	__u8 neighbor_discovery; /* 1 = a valid message of RFC 4861 */
	__u8 addressed;          /* 1 = the key has its addresses, even if the rest cannot be parsed */
	__u16 link_bytes;        /* before the IP header: Ethernet's and those of all tags */
};

static __always_inline void transport_add(struct transport *transport, __u64 zero)
{
	transport->ports += zero;
	transport->protocol += zero;
	transport->flow_flags += zero;
	transport->tcp_flags += zero;
	transport->link_bytes += zero;
}

static __always_inline struct cursor cursor_begin(const struct frame *frame, __u32 length)
{
	frame_pull(frame, MOST_IN_PLACE);
	return (struct cursor){
		.frame = frame,
		.at = frame_data(frame),
		.end = frame_data_end(frame),
		.remaining = length,
	};
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
		return frame_load(cursor->frame, cursor->offset, copy, size) ? -1 : 0;
	}
	*header = cursor->at;
	return cursor->at + size > cursor->end ? -1 : 0;
}

/* The same, and step over them. */
static __always_inline int cursor_take(struct cursor *cursor, void *copy, __u32 size, void **header)
{
	if (cursor_get(cursor, copy, size, header))
		return -1;
	return cursor->moved ? cursor_move(cursor, size) : cursor_step(cursor, size);
}

/* In one branch: each more is a path that the verifier follows through all the tags of a frame. */
static __always_inline int is_vlan(__u16 type)
{
	__u32 other = (type ^ be16(ETH_P_8021Q)) * (type ^ be16(ETH_P_8021AD));

	WITHOUT_BRANCH(other);
	return !other;
}

/* Return 1 if two numbers of 16 bits differ, else 0, as the two before. */
static __always_inline __u32 is_other(__u16 one, __u16 other)
{
	__u32 difference = one ^ other;

	WITHOUT_BRANCH(difference);
	return (difference + 0xffff) >> 16;
}

/* Return 1 if the tag has an id, else 0. */
static __always_inline __u32 has_id(struct vlan_tag *tag)
{
	return is_other(tag->control & be16(VLAN_ID_MASK), 0);
}

#if CNF_PARSE_VLAN
/* Step over the tags behind the first two, of which `ids` have an id; take the EtherType behind them. */
static __always_inline int parse_more_tags(struct cursor *cursor, __u32 ids, __u16 *type)
{
	__u64 zero = unknown_zero(cursor->remaining);
	__u32 offset = cursor->offset, size = 0;
	struct vlan_tag tag;

	FORGET(offset, zero);
#pragma clang loop unroll(disable)
	for (int depth = 0; depth < MAX_PRIORITY_TAGS; depth++) {
		if (frame_load(cursor->frame, offset + size, &tag, sizeof(tag)))
			return CNF_TRUNCATED;
		size += sizeof(tag);
		ids += has_id(&tag);
		if (!is_vlan(tag.type)) {
			*type = tag.type;
			return ids > MAX_VLAN_TAGS ? CNF_VLAN_DEPTH : cursor_move(cursor, size);
		}
	}
	return CNF_VLAN_DEPTH;
}
#endif

/* Take the EtherType behind the tags, in network byte order, and the outer tag as it stands in a key, unless it stands
 * beside the frame and is in `vlan`. Tags without an id, priority tags, are no VLANs: Linux takes off any number of
 * them. */
static __always_inline int parse_ethernet(struct cursor *cursor, __u16 *type, __u16 *vlan)
{
	struct eth_header *eth = cursor->at;

	if (cursor_step(cursor, sizeof(*eth)))
		return CNF_TRUNCATED;
	*type = eth->type;
#if CNF_PARSE_VLAN
	__u32 ids = (*vlan & VLAN_ID_MASK) != 0;

#pragma unroll
	for (int depth = 0; depth < MAX_VLAN_TAGS; depth++) {
		struct vlan_tag *tag = cursor->at;
		int outer = !*vlan;

		if (!is_vlan(*type))
			return 0;
		*vlan |= CNF_VLAN_PRESENT;
		if (cursor_step(cursor, sizeof(*tag)))
			return CNF_TRUNCATED;
		if (outer)
			*vlan |= be16(tag->control) & VLAN_ID_MASK;
		ids += has_id(tag);
		*type = tag->type;
	}
	if (is_vlan(*type))
		return parse_more_tags(cursor, ids, type);
	if (frame_is_skb(cursor->frame) && ids > MAX_VLAN_TAGS) /* one stands beside the frame */
		return CNF_VLAN_DEPTH;
#endif
	return 0;
}

/* The same of any link, whose frames may have no Ethernet header. */
static __always_inline int parse_link(struct cursor *cursor, __u32 no_ethernet, __u16 *type, __u16 *vlan)
{
	*vlan = frame_vlan(cursor->frame);
	if (!frame_is_skb(cursor->frame) || !no_ethernet)
		return parse_ethernet(cursor, type, vlan);
	*type = frame_protocol(cursor->frame);
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
	transport->header_length = header_length;
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
		transport->header_length = UDP_LENGTH;
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

/* Return a length that an IP header states; 0 stands for all that is there, more than 16 bits can say (BIG TCP). */
static __always_inline __u32 ip_length(__u16 stated, __u32 available)
{
	return stated ? stated : available;
}

/* Take the addresses into `key` and the rest into `transport`. */
static __always_inline int parse_ipv4(struct cursor *cursor, struct flow4_key *key, struct transport *transport)
{
	__u32 available = cursor->remaining, header_length, total_length;
	struct ipv4_header copy, *ip;

	if (cursor_take(cursor, &copy, sizeof(copy), (void **)&ip))
		return CNF_TRUNCATED;
	key->src_addr = ip->src_addr;
	key->dst_addr = ip->dst_addr;
	transport->addressed = 1;
	transport->protocol = ip->protocol;
	header_length = (ip->version_length & 0xf) * 4;
	if (ip->version_length >> 4 != 4 || header_length < IPV4_MIN_LENGTH)
		return CNF_BAD_HEADER;
	if (header_length > IPV4_MIN_LENGTH && cursor_move(cursor, header_length - IPV4_MIN_LENGTH))
		return CNF_TRUNCATED;
	total_length = ip_length(be16(ip->total_length), available);
	if (total_length < header_length)
		return CNF_BAD_HEADER;
	if (total_length > available)
		return CNF_TRUNCATED;

	if (ip->fragment & be16(0x1fff)) {
		transport->flow_flags |= CNF_FLOW_FRAGMENT;
		return protocol_outcome(ip->protocol, IPPROTO_ICMP);
	}
	return parse_transport(cursor, total_length - header_length, ip->protocol, IPPROTO_ICMP, transport);
}

#if CNF_PARSE_IPV6
/* In one branch, as is_vlan(). */
static __always_inline int is_extension(__u8 protocol)
{
	__u64 known =
		1ULL << IPPROTO_HOPOPTS | 1ULL << IPPROTO_ROUTING | 1ULL << IPPROTO_FRAGMENT | 1ULL << IPPROTO_DSTOPTS;
	__u64 found = known >> (protocol & 63) & 1 & ~(protocol >> 6 | protocol >> 7);

	WITHOUT_BRANCH(found);
	return found;
}

/* Step over the extension headers of a packet with `remaining` bytes; take the protocol behind them. */
static __always_inline int parse_extensions(struct cursor *cursor, __u32 *remaining, struct transport *transport)
{
	__u64 zero = unknown_zero(cursor->remaining);
	__u32 offset = cursor->offset, left = *remaining, fragment = 0;
	__u8 protocol = transport->protocol;
	struct ext_header header;

	if (!is_extension(protocol))
		return 0;
	transport->protocol = IPPROTO_NONE; /* until it is known */
	cursor->at = NULL;
	cursor->moved = 1;
	WITHOUT_BRANCH(cursor->at);
	WITHOUT_BRANCH(cursor->moved);
	FORGET(offset, zero);
	FORGET(left, zero);
#pragma clang loop unroll(disable)
	for (int depth = 0; depth < MAX_EXT_HEADERS; depth++) {
		__u32 has_length = is_other(protocol, IPPROTO_FRAGMENT), length;

#if CNF_PERFMON
		FORGET(offset, zero);
		FORGET(left, zero);
#endif
		if (frame_load(cursor->frame, offset, &header, sizeof(header)))
			return CNF_TRUNCATED;
		length = sizeof(header) + has_length * header.length * 8;
		fragment = (1 - has_length) * (header.fragment & be16(0xfff8));
		if (length > left)
			return CNF_TRUNCATED;
		protocol = header.next_header;
		offset += length;
		left -= length;
		if (!is_extension(protocol) || fragment) {
			transport->protocol = protocol;
			transport->flow_flags |= fragment ? CNF_FLOW_FRAGMENT : 0;
			cursor->offset = offset;
			cursor->remaining = left;
			*remaining = left;
			return 0;
		}
	}
	return CNF_EXT_HEADER_DEPTH;
}

/* Take the addresses into `key` and the rest into `transport`. */
static __always_inline int parse_ipv6(struct cursor *cursor, struct flow6_key *key, struct transport *transport)
{
	struct ipv6_header copy, *ip;
	__u8 hop_limit;
	__u32 remaining;
	__u16 type;
	int outcome;

	if (cursor_take(cursor, &copy, sizeof(copy), (void **)&ip))
		return CNF_TRUNCATED;
	key->src_addr[0] = ip->src_addr[0];
	key->src_addr[1] = ip->src_addr[1];
	key->dst_addr[0] = ip->dst_addr[0];
	key->dst_addr[1] = ip->dst_addr[1];
	transport->addressed = 1;
	if (ip->version_class >> 4 != 6)
		return CNF_BAD_HEADER;
	/* Also a jumbogram (RFC 2675), which has its length in a hop-by-hop option. */
	remaining = ip_length(be16(ip->payload_length), cursor->remaining);
	if (remaining > cursor->remaining)
		return CNF_TRUNCATED;
	transport->protocol = ip->next_header;
	hop_limit = ip->hop_limit;
	WITHOUT_BRANCH(hop_limit);
	outcome = parse_extensions(cursor, &remaining, transport);
	if (outcome)
		return outcome;
	if (transport->flow_flags & CNF_FLOW_FRAGMENT)
		return protocol_outcome(transport->protocol, IPPROTO_ICMPV6);
	outcome = parse_transport(cursor, remaining, transport->protocol, IPPROTO_ICMPV6, transport);
	type = be16(transport->ports & 0xffff);
	transport->neighbor_discovery =
		outcome == CNF_ICMPV6 && hop_limit == ND_HOP_LIMIT && type >= ND_ROUTER_SOLICIT && type <= ND_REDIRECT;
	return outcome;
}
#endif

#endif
