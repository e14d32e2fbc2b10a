/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the program and user space share. cnf/records.py mirrors every struct and enum of this file, and a test
 * compares sizes and offsets. All padding is explicit and zero: keys are hashed and compared as bytes.
 */
#ifndef CNF_ABI_H
#define CNF_ABI_H

#define CNF_VLAN_PRESENT 0x1000 /* set beside the 12-bit VLAN id, so that id 0 differs from "no tag" */

enum cnf_flow_flags {
	CNF_FLOW_FRAGMENT = 1, /* a later fragment: its ports are unknown and stand as 0 */
	/* Bit 1 is the direction: 0 ingress. */
};

/* Label `protocol` of cnf_received_*; the order is that of records.PROTOCOL_LABELS. */
enum cnf_protocol {
	CNF_TCP,
	CNF_UDP,
	CNF_ICMP,
	CNF_ICMPV6,
	CNF_SCTP,
	CNF_GRE,
	CNF_ESP,
	CNF_OTHER,
	CNF_NON_IP,
	CNF_MALFORMED,
	CNF_PROTOCOLS,
};

/* Label `reason` of cnf_unparsed_packets_total; the order is that of records.UNPARSED_REASONS. */
enum cnf_unparsed {
	CNF_TRUNCATED,        /* shorter than its own headers or lengths say */
	CNF_BAD_HEADER,       /* a version, header length or total length that cannot be */
	CNF_VLAN_DEPTH,       /* more than two VLAN tags */
	CNF_EXT_HEADER_DEPTH, /* more than six IPv6 extension headers */
	CNF_UNPARSED_REASONS,
};

/* Label `reason` of cnf_flow_insert_errors_total; the order is that of records.INSERT_ERRORS. */
enum cnf_insert_error {
	CNF_INSERT_NO_MEMORY, /* -ENOMEM: no element to be had, not even by eviction */
	CNF_INSERT_BUSY,      /* -EBUSY: the bucket was locked by a program that this one interrupted */
	CNF_INSERT_RACED,     /* another CPU inserted the flow, and it was gone again before it was found */
	CNF_INSERT_OTHER,
	CNF_INSERT_ERRORS,
};

struct flow4_key {
	__u32 src_addr; /* network byte order */
	__u32 dst_addr; /* network byte order */
	__u16 src_port; /* network byte order; ICMP: the type */
	__u16 dst_port; /* network byte order; ICMP: the code */
	__u32 ifindex;
	__u16 vlan;     /* outer tag: 0 = none, else CNF_VLAN_PRESENT | id */
	__u8 protocol;  /* IP protocol number */
	__u8 flags;     /* enum cnf_flow_flags */
	__u32 zero;
};

struct flow6_key {
	__u64 src_addr[2]; /* network byte order */
	__u64 dst_addr[2]; /* network byte order */
	__u16 src_port;
	__u16 dst_port;
	__u32 ifindex;
	__u16 vlan;
	__u8 protocol;
	__u8 flags;
	__u32 zero;
};

struct flow_value {
	__u64 packets;
	__u64 bytes;      /* frame lengths as XDP sees them: with Ethernet header, without checksum trailer */
	__u64 first_seen; /* jiffies */
	__u64 last_seen;  /* jiffies */
	__u64 tcp_flags;  /* byte 13 of the TCP header, OR of all packets; 64 bits wide for the atomic OR */
};

/* One an interface and CPU. Slot = ifindex % CNF_INTERFACE_SLOTS or one of the next CNF_SLOT_PROBES - 1. */
#define CNF_INTERFACE_SLOTS 256
#define CNF_SLOT_PROBES 4

struct interface_counters {
	__u32 ifindex; /* whose slot it is; written by user space before the program is attached */
	__u32 zero;
	__u64 packets[CNF_PROTOCOLS];
	__u64 bytes[CNF_PROTOCOLS];
	__u64 unparsed[CNF_UNPARSED_REASONS]; /* packets; their sum is packets[CNF_MALFORMED] */
};

/* One a flow table and CPU. */
enum cnf_table { CNF_TABLE_IPV4, CNF_TABLE_IPV6, CNF_TABLES };

struct table_counters {
	__u64 inserted; /* flows */
	__u64 error_packets[CNF_INSERT_ERRORS];
	__u64 error_bytes[CNF_INSERT_ERRORS];
};

_Static_assert(sizeof(struct flow4_key) == 24, "flow4_key");
_Static_assert(sizeof(struct flow6_key) == 48, "flow6_key");
_Static_assert(sizeof(struct flow_value) == 40, "flow_value");
_Static_assert(sizeof(struct interface_counters) == 8 + 8 * (2 * CNF_PROTOCOLS + CNF_UNPARSED_REASONS),
	       "interface_counters");
_Static_assert(sizeof(struct table_counters) == 8 * (1 + 2 * CNF_INSERT_ERRORS), "table_counters");

#endif
