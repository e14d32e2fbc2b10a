/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is on the wire: numbers of protocols, and headers. They are declared with natural alignment, not packed: a
 * packed field would be read byte by byte.
 */
#ifndef CNF_HEADERS_H
#define CNF_HEADERS_H

#include "abi.h"

#define ETH_P_IP 0x0800
#define ETH_P_8021Q 0x8100
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021AD 0x88a8

#define IPPROTO_HOPOPTS 0
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_GRE 47
#define IPPROTO_ESP 50
#define IPPROTO_ICMPV6 58
#define IPPROTO_NONE 59
#define IPPROTO_DSTOPTS 60
#define IPPROTO_SCTP 132

#define VLAN_ID_MASK 0x0fff
#define IPV4_MIN_LENGTH 20
#define TCP_MIN_LENGTH 20
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define UDP_LENGTH 8
#define SCTP_LENGTH 12
#define ICMP_LENGTH 8
#define ICMPV6_LENGTH 4

#define ND_ROUTER_SOLICIT 133
#define ND_REDIRECT 137
#define ND_HOP_LIMIT 255 /* no router forwards such a packet: it is from this link */

#define be16(value) __builtin_bswap16(value)
#define be32(value) __builtin_bswap32(value)

struct eth_header {
	__u8 destination[6];
	__u8 source[6];
	__u16 type;
};

struct vlan_tag {
	__u16 control;
	__u16 type;
};

struct ipv4_header {
	__u8 version_length; /* version << 4 | header length in 32-bit words */
	__u8 tos;
	__u16 total_length;
	__u16 id;
	__u16 fragment; /* flags << 13 | offset in units of 8 bytes */
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__u32 src_addr;
	__u32 dst_addr;
};

struct ipv6_header {
	__u8 version_class;
	__u8 flow_label[3];
	__u16 payload_length;
	__u8 next_header;
	__u8 hop_limit;
	__u64 src_addr[2];
	__u64 dst_addr[2];
};

/* The first eight bytes of a hop-by-hop, routing, destination options or fragment header. */
struct ext_header {
	__u8 next_header;
	__u8 length;    /* in units of 8 bytes, the first not counted; reserved in a fragment header */
	__u16 fragment; /* fragment header only: offset in units of 8 bytes << 3 | flags */
	__u32 rest;
};

struct tcp_header {
	__u32 ports;
	__u32 sequence;
	__u32 acknowledgement;
	__u8 data_offset; /* in 32-bit words << 4 */
	__u8 flags;
	__u16 window;
	__u16 checksum;
	__u16 urgent;
};

struct icmp_header {
	__u8 type;
	__u8 code;
};

#endif
