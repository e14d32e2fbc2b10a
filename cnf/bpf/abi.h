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

/*
 * What a packet is counted as. The first are the label `protocol` of cnf_received_*, in the order of
 * records.PROTOCOL_LABELS; the rest, from CNF_TRUNCATED on, together are its label `malformed`, and each is a label
 * `reason` of cnf_unparsed_packets_total, in the order of records.UNPARSED_REASONS.
 */
enum cnf_outcome {
	CNF_TCP,
	CNF_UDP,
	CNF_ICMP,
	CNF_ICMPV6,
	CNF_SCTP,
	CNF_GRE,
	CNF_ESP,
	CNF_OTHER,
	CNF_NON_IP,
	CNF_TRUNCATED,        /* shorter than its own headers or lengths say */
	CNF_BAD_HEADER,       /* a version, header length or total length that cannot be */
	CNF_VLAN_DEPTH,       /* more than two VLAN tags */
	CNF_EXT_HEADER_DEPTH, /* more than six IPv6 extension headers */
	CNF_OUTCOMES,
};

/* Label `reason` of cnf_flow_insert_errors_total; the order is that of records.INSERT_ERRORS. */
enum cnf_table_counter {
	CNF_INSERT_NO_MEMORY, /* -ENOMEM: no element to be had, not even by eviction */
	CNF_INSERT_BUSY,      /* -EBUSY: the bucket was locked by a program that this one interrupted */
	CNF_INSERT_RACED,     /* another CPU inserted the flow, and it was gone again before it was found */
	CNF_INSERT_OTHER,
	CNF_INSERT_DONE, /* no error: flows that were put into the table */
	CNF_TABLE_COUNTERS,
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

/* One a CPU. A sum has an element of its own, and is not a field among others: only so is its place a map's key, and
 * not added to a pointer, which the verifier allows with CAP_PERFMON only. */
struct counter {
	__u64 packets; /* of CNF_INSERT_DONE: flows */
	__u64 bytes;
};

/*
 * An interface has a slot: ifindex % CNF_INTERFACE_SLOTS or one of the next CNF_SLOT_PROBES - 1. interface_slots holds
 * whose it is, written by user space before the program is attached. Its counters are the CNF_OUTCOMES elements of
 * interface_counters from slot * CNF_OUTCOMES on.
 */
#define CNF_INTERFACE_SLOTS 256
#define CNF_SLOT_PROBES 4

/* A flow table's counters are the CNF_TABLE_COUNTERS elements of table_counters from table * CNF_TABLE_COUNTERS on. */
enum cnf_table { CNF_TABLE_IPV4, CNF_TABLE_IPV6, CNF_TABLES };

_Static_assert(sizeof(struct flow4_key) == 24, "flow4_key");
_Static_assert(sizeof(struct flow6_key) == 48, "flow6_key");
_Static_assert(sizeof(struct flow_value) == 40, "flow_value");
_Static_assert(sizeof(struct counter) == 16, "counter");

#endif
