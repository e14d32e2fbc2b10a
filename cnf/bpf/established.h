/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A short way for the packets that are nearly all of them. It takes a packet if
 *   - it is IPv4 without options or IPv6 without extension headers, no later fragment, and has no VLAN tag in it;
 *   - it is UDP, or TCP without SYN, FIN and RST, and no longer than its frame;
 *   - its interface stands in interfaces_direct, and it has an Ethernet header;
 *   - its flow is in the table, is neither ended nor expired, and has shown all TCP flags of the packet;
 *   - with limits, the source's slot holds the decision of the rule set in force, and its bucket.
 * All this is read before anything is written. Any other packet is left to the general code in flow.c as it came. What
 * is then counted and debited is done by the functions of the general code.
 */
#ifndef CNF_ESTABLISHED_H
#define CNF_ESTABLISHED_H

#include "counters.h"
#include "flow_table.h"
#include "limiter.h"
#include "parse.h"

/* A test takes it away, to see that it changes nothing but the time. */
#ifndef CNF_SHORT_WAY
#define CNF_SHORT_WAY CNF_CACHE
#endif

#if CNF_SHORT_WAY

/* A packet of the kind that this file takes. */
struct established {
	const struct frame *frame;
	__u64 length; /* of the frame */
	struct wire wire;
	struct interface interface;
	__u16 vlan;
	__u32 traffic; /* enum cnf_traffic */
	int outcome; /* enum cnf_outcome */
	struct transport transport;
};

/* Take `length` bytes of TCP or UDP at `header`, of which the first UDP_LENGTH are in the frame; else return 0. */
static __always_inline int established_transport(struct established *packet, void *header, void *end, __u8 protocol,
						 __u32 length)
{
	struct tcp_header *tcp = header;
	__u32 header_length;

	packet->transport.ports = tcp->ports;
	packet->transport.protocol = protocol;
	if (protocol == IPPROTO_UDP) {
		packet->outcome = CNF_UDP;
		packet->traffic = CNF_TRAFFIC_UDP;
		packet->transport.header_length = UDP_LENGTH;
		return length >= UDP_LENGTH;
	}
	if (protocol != IPPROTO_TCP || (void *)(tcp + 1) > end)
		return 0;
	header_length = (tcp->data_offset >> 4) * 4;
	packet->outcome = CNF_TCP;
	packet->traffic = CNF_TRAFFIC_TCP;
	packet->transport.tcp_flags = tcp->flags;
	packet->transport.header_length = header_length;
	return header_length >= TCP_MIN_LENGTH && header_length <= length &&
	       !(tcp->flags & (TCP_SYN | TCP_FIN | TCP_RST));
}

/* Find the packet's flow; return 0 if it is not there, or the packet would change more than its counts. */
static __always_inline int established_flow(enum cnf_table table, void *key, __u8 tcp_flags, __u64 jiffies,
					    struct cache_place *place)
{
	struct flow_value *flow;

	if (!cache_locate(table, key, place) || !cache_look_home(table, key, place))
		return 0;
	flow = flow_at(table, place);
	return (READ_ONCE(flow->tcp_flags) & (tcp_flags | FLOW_ENDED)) == tcp_flags && !flow_expired(flow, 0, jiffies);
}

#if CNF_LIMITER
/* Find the source of `group`; return its decision, or 0 if it has none of this generation, or another slot's bucket. */
static __always_inline __u64 established_source(enum cnf_table table, __u64 generation, void *key, __u32 group,
						struct cache_place *place)
{
	__u64 decision;

	key_set_group(table, key, group);
	if (!cache_locate(source_table(table), key, place) || !cache_look_home(source_table(table), key, place))
		return 0;
	decision = READ_ONCE(source_at(table, place)->decision);
	if (DECISION_GENERATION(decision) != (generation & 0xffffffff) ||
	    (DECISION_RULE(decision) && DECISION_HOME(decision) != group))
		return 0;
	return decision;
}
#endif

/*
 * Return 1 and the generation in force, unless a rule set has to be announced first. One that limits was, if a source's
 * slot has a decision of it. One that does not limit stands as 0.
 */
static __always_inline int established_generation(const struct frame *frame, __u64 *generation)
{
#if CNF_LIMITER
	__u64 *words = DIRECT_AT(limit_generation, 0);

	if (!frame_is_limited(frame))
		return 1;
	*generation = READ_ONCE(words[0]);
	return *generation || READ_ONCE(words[1]) == READ_ONCE(words[2]);
#else
	return 1;
#endif
}

/* Take what stands behind an IP header of `size` bytes, the interface and the generation; else return 0. */
static __always_inline int established_begin(struct established *packet, void *ip, __u32 size, void *end, __u8 protocol,
					     __u32 length, __u64 *generation)
{
	const struct frame *frame = packet->frame;
	__u32 before = sizeof(struct eth_header) + size;

	if (!established_transport(packet, ip + size, end, protocol, length) ||
	    !interface_find_direct(frame_ifindex(frame), &packet->interface) ||
	    (frame_is_skb(frame) && packet->interface.no_ethernet))
		return 0;
	packet->wire = frame_wire(frame, packet->length, before + packet->transport.header_length);
	return established_generation(frame, generation);
}

/* Return the verdict on a packet whose flow is `key`, and whose source, from `addr`, is `source`; 0 leaves it. */
static __always_inline int established(enum cnf_table table, struct established *packet, void *key, void *addr,
				       void *source, __u64 generation)
{
	__u64 jiffies = bpf_jiffies64();
	__u8 tcp_flags = packet->transport.tcp_flags;
	struct flow_place flow_place = {};
	struct flow_value *flow;

	if (!established_flow(table, key, tcp_flags, jiffies, &flow_place.cache))
		return 0;
#if CNF_LIMITER
	if (generation) {
		__u64 *group = limit_group(generation, packet->interface.slot, packet->traffic);
		struct source_place source_place = {};
		__u64 decision;

		if (!group)
			return 0;
		decision = established_source(table, generation, source, *group, &source_place.cache);
		if (!decision)
			return 0;
		if (!DECISION_RULE(decision)) {
			source_in_use(&source_place, jiffies);
		} else if (limit_admit(table, addr, packet->interface.counted_as, &source_place,
				       source_at(table, &source_place.cache), 0, decision, DECISION_RULE(decision),
				       packet->wire, jiffies) != CNF_LIMIT_PASS) {
			account_drop(table, key, &flow_place, packet->wire);
			count_received(packet->interface.slot, packet->outcome, packet->wire);
			count_received(packet->interface.slot, CNF_OUTCOMES + CNF_DROP_LIMITED, packet->wire);
			return frame_drop(packet->frame);
		}
	}
#endif
	flow = flow_at(table, &flow_place.cache);
	flow_add(flow, packet->wire, tcp_flags, jiffies);
	flow_stamp(&flow_place.cache, 0, jiffies);
	count_frame(packet->frame, packet->interface.slot, packet->outcome, packet->wire);
	return frame_pass(packet->frame);
}

static __always_inline int established_ipv4(struct established *packet, struct ipv4_header *ip, void *end,
					    __u32 remaining)
{
	__u32 length = be16(ip->total_length);
	struct flow4_key key ALIGNED_FOR_WORDS = {};
	struct limit4_key source ALIGNED_FOR_WORDS = {};
	__u64 generation = 0;

	if (ip->version_length != (4 << 4 | 5) || ip->fragment & be16(0x1fff) || length > remaining ||
	    length < IPV4_MIN_LENGTH)
		return 0;
	if (!established_begin(packet, ip, sizeof(*ip), end, ip->protocol, length - sizeof(*ip), &generation))
		return 0;
	key.src_addr = ip->src_addr;
	key.dst_addr = ip->dst_addr;
	source.addr = ip->src_addr;
	complete_key(&key.src_port, packet->interface.counted_as, packet->vlan, &packet->transport);
	return established(CNF_TABLE_IPV4, packet, &key, &key.src_addr, &source, generation);
}

#if CNF_IPV6
static __always_inline int established_ipv6(struct established *packet, struct ipv6_header *ip, void *end,
					    __u32 remaining)
{
	__u32 length = be16(ip->payload_length);
	struct flow6_key key ALIGNED_FOR_WORDS = {};
	struct limit6_key source ALIGNED_FOR_WORDS = {};
	__u64 generation = 0;

	if (ip->version_class >> 4 != 6 || length + sizeof(*ip) > remaining)
		return 0;
	if (!established_begin(packet, ip, sizeof(*ip), end, ip->next_header, length, &generation))
		return 0;
	key.src_addr[0] = ip->src_addr[0];
	key.src_addr[1] = ip->src_addr[1];
	key.dst_addr[0] = ip->dst_addr[0];
	key.dst_addr[1] = ip->dst_addr[1];
#if CNF_LIMITER
	if (generation)
		source6_key(&source, key.src_addr, DIRECT_AT(limit_settings, generation & 1));
#endif
	complete_key(&key.src_port, packet->interface.counted_as, packet->vlan, &packet->transport);
	return established(CNF_TABLE_IPV6, packet, &key, key.src_addr, &source, generation);
}
#endif

/* Return the verdict on a packet of the kind that this file takes, else 0. */
static __always_inline int established_packet(const struct frame *frame)
{
	struct established packet = {
		.frame = frame,
		.length = frame_length(frame),
		.vlan = frame_vlan(frame),
		.transport.flow_flags = frame_flow_flags(frame),
	};
	struct eth_header *eth = frame_data(frame);
	struct ipv4_header *ipv4 = (void *)(eth + 1);
	struct ipv6_header *ipv6 = (void *)(eth + 1);
	void *end = frame_data_end(frame);

	if ((void *)(ipv4 + 1) + UDP_LENGTH > end || (!CNF_VLAN && packet.vlan))
		return 0;
	if (eth->type == be16(ETH_P_IP))
		return established_ipv4(&packet, ipv4, end, packet.length - sizeof(*eth));
#if CNF_IPV6
	if (eth->type == be16(ETH_P_IPV6) && (void *)(ipv6 + 1) + UDP_LENGTH <= end)
		return established_ipv6(&packet, ipv6, end, packet.length - sizeof(*eth));
#endif
	return 0;
}

#else
static __always_inline int established_packet(const struct frame *frame)
{
	return 0;
}
#endif

#endif
