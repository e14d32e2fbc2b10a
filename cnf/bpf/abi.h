/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the program and user space share. cnf/abi.py mirrors every struct and enum of this file, and a test
 * compares sizes and offsets. All padding is explicit and zero: keys are hashed and compared as bytes.
 */
#ifndef CNF_ABI_H
#define CNF_ABI_H

#define CNF_VLAN_PRESENT 0x1000 /* set beside the 12-bit VLAN id, so that id 0 differs from "no tag" */

enum cnf_flow_flags {
	CNF_FLOW_FRAGMENT = 1, /* a later fragment: its ports are unknown and stand as 0 */
	CNF_FLOW_EGRESS = 2, /* sent; else received */
};

/* Of a flow: whether it has CNF_FLOW_EGRESS. In the order of abi.DIRECTIONS. */
enum cnf_direction { CNF_DIRECTION_INGRESS, CNF_DIRECTION_EGRESS, CNF_DIRECTIONS };

/*
 * What a packet is counted as. The first are the label `protocol` of cnf_received_*, in the order of
 * abi.PROTOCOL_LABELS; the rest, from CNF_TRUNCATED on, together are its label `malformed`, and each is a label
 * `reason` of cnf_unparsed_packets_total, in the order of abi.UNPARSED_REASONS. What is sent has counters of its own.
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
	CNF_VLAN_DEPTH,       /* more than two VLAN tags with an id, or 374 of all kinds in the frame */
	CNF_EXT_HEADER_DEPTH, /* more than 184 IPv6 extension headers */
	CNF_OUTCOMES,
};

/* Label `reason` of cnf_dropped_*; in the order of abi.DROP_REASONS. */
enum cnf_drop {
	CNF_DROP_LIMITED, /* over its token bucket */
	CNF_DROP_DENIED,  /* from a prefix of limits.deny, or of a set that denies */
	CNF_DROP_UNREADABLE, /* headers too deep to be found, or a source that no wire has; limits.unreadable says
				"drop" */
	CNF_DROP_REASONS,
};

/*
 * What a table counts. The first four are the label `reason` of cnf_flow_insert_errors_total, in the order of
 * abi.INSERT_ERRORS; the last four only a cache knows.
 */
enum cnf_table_counter {
	CNF_INSERT_NO_MEMORY, /* -ENOMEM: no element to be had, not even by eviction */
	CNF_INSERT_BUSY, /* the set was claimed by another CPU; of a hash, -EBUSY: its lock was held */
	CNF_INSERT_RACED, /* another CPU inserted the flow, and it was gone again before it was found */
	CNF_INSERT_OTHER,
	CNF_INSERT_DONE, /* no error: flows, or sources, that were put into the table */
	CNF_EXPIRED, /* packets and bytes of flows that made room when they were idle or had ended */
	CNF_EXPIRED_FLOWS, /* and how many flows, or sources */
	CNF_EVICTED, /* those of flows that made room before */
	CNF_EVICTED_FLOWS,
	CNF_TABLE_COUNTERS,
};

struct flow4_key {
	__u32 src_addr; /* network byte order */
	__u32 dst_addr; /* network byte order */
	__u16 src_port; /* network byte order; ICMP: the type */
	__u16 dst_port; /* network byte order; ICMP: the code */
	__u32 ifindex;
	__u16 vlan; /* outer tag: 0 = none, else CNF_VLAN_PRESENT | id */
	__u8 protocol; /* IP protocol number */
	__u8 flags; /* enum cnf_flow_flags */
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

#define CNF_FLOW_OPENED 0x200 /* the flow began with a SYN without ACK: its source has opened the connection */

struct flow_value {
	__u64 packets;
	__u64 bytes; /* on the wire: of each packet with its Ethernet header, without checksum trailer */
	__u64 first_seen; /* jiffies */
	__u64 last_seen; /* jiffies */
	/* Byte 13 of the TCP header, OR of all packets, and CNF_FLOW_OPENED; an atomic OR takes 64 bits. With records,
	 * byte 3 has the same of the packets since the latest one, and the upper half link_bytes of the first packet.
	 */
	__u64 tcp_flags;
	__u64 dropped_packets;
	__u64 dropped_bytes;
};

/*
 * A cache is an array of sets: a head, then CNF_WAYS slots. User space only reads, except that it ages stamps before
 * they wrap. Head and slots are neighbours so that they share a page, and the processor translates one address in place
 * of two.
 */
#define CNF_WAYS 8

struct cache_head { /* a cache line */
	__u64 tags; /* a byte a slot, of its key's hash; 0 = empty */
	__u64 sequence; /* odd while a slot is given to another key */
	__u32 stamps[CNF_WAYS]; /* jiffies, the lower half, at which a slot's entry expires; the oldest makes room */
	__u64 guests_until; /* jiffies: till then keys of this set may be in another one */
	__u64 zero;
};

/* Multipliers and summands of the hash, drawn when the maps are made. */
#define CNF_SECRETS 14

struct cache_secrets {
	__u64 words[CNF_SECRETS];
};

/* Begins like struct flow_value. */
struct flow4_slot { /* a cache line */
	__u64 packets; /* 0 = empty */
	__u64 bytes;
	__u64 first_seen;
	__u64 last_seen;
	__u64 tcp_flags; /* and CNF_SLOT_DROPS */
	struct flow4_key key;
};

struct flow6_slot {
	__u64 packets;
	__u64 bytes;
	__u64 first_seen;
	__u64 last_seen;
	__u64 tcp_flags;
	struct flow6_key key;
	__u64 zero;
};

#define CNF_PART_FLAGS_SHIFT 24
#define CNF_LINK_BYTES_SHIFT 32
#define CNF_SLOT_DROPS 0x100 /* the flow has packets dropped; its element of flow_drops says how many */

struct flow_drops {
	__u64 packets;
	__u64 bytes;
};

/* What of a slot's flow has been recorded; the element of flow_until says up to which jiffy. The program touches
 * neither: user space keeps them here, so that no daemon that follows records a packet twice. */
struct flow_recorded {
	__u64 first_seen; /* of the flow that this is about: in the slot may be another one by now */
	__u64 packets;
	__u64 bytes;
	__u64 dropped_packets;
	__u64 dropped_bytes;
};

struct flow_settings {
	__u64 idle; /* jiffies without a packet after which a flow has expired */
	__u64 ended; /* and of one that has shown FIN or RST */
	__u64 drained; /* when the latest drain began: it has recorded the flows that had expired by then */
};

/* One a CPU. A sum has an element of its own, and is not a field among others: only so is its place a map's key, and
 * not added to a pointer, which the verifier allows with CAP_PERFMON only. */
struct counter {
	__u64 packets; /* of CNF_INSERT_DONE, CNF_EXPIRED_FLOWS and CNF_EVICTED_FLOWS: entries */
	__u64 bytes;
};

/*
 * An interface has a slot, below CNF_MAX_INTERFACES, that user space gives it before the program is attached. Its
 * counters are the CNF_INTERFACE_COUNTERS elements of interface_counters from slot * CNF_INTERFACE_COUNTERS on: of what
 * it received, by outcome, then by reason of a drop. A packet that is dropped counts in its outcome, too. What it sent
 * is in the CNF_OUTCOMES elements of interface_sent from slot * CNF_OUTCOMES on, where there is a program for that.
 */
#define CNF_INTERFACE_COUNTERS (CNF_OUTCOMES + CNF_DROP_REASONS)

struct interface {
	__u32 ifindex; /* 0 = none */
	__u32 slot; /* read together with ifindex, in one word */
	__u32 counted_as; /* the ifindex of its flows: its own; of a member of a bond, the bond's */
	__u32 no_ethernet; /* 1: its frames begin with the IP header, as those of tun, WireGuard and PPP do; else 0 */
};

/* The flow tables, and those of the limiter's sources. A table has CNF_TABLE_COUNTERS counters for each direction of
 * the flows that they are about: the elements of table_counters from (direction * CNF_TABLES + table) *
 * CNF_TABLE_COUNTERS on. */
enum cnf_table { CNF_TABLE_IPV4, CNF_TABLE_IPV6, CNF_TABLE_SOURCES4, CNF_TABLE_SOURCES6, CNF_TABLES };

/*
 * Limits. A rule set is written whole into one of two banks and switched to by one word, the generation, whose lowest
 * bit is the bank; 0 is no rule set. Rules, their counters and shared buckets keep their places from set to set, so
 * that what stays the same keeps its tokens.
 */

/* What rules tell apart; in the order of abi.TRAFFIC. A fragment is one behind the first, which has no ports.
 */
enum cnf_traffic {
	CNF_TRAFFIC_TCP,
	CNF_TRAFFIC_TCP_SYN, /* SYN without ACK, or no flags that can be read */
	CNF_TRAFFIC_UDP,
	CNF_TRAFFIC_ICMP,
	CNF_TRAFFIC_ICMPV6,
	CNF_TRAFFIC_OTHER,
	CNF_TRAFFIC_TCP_FRAGMENT,
	CNF_TRAFFIC_UDP_FRAGMENT,
	CNF_TRAFFIC_ICMP_FRAGMENT,
	CNF_TRAFFIC_ICMPV6_FRAGMENT,
	CNF_TRAFFIC_OTHER_FRAGMENT,
	CNF_TRAFFIC_CLASSES,
};

/* Groups are the combinations of interface and traffic that the rules of a set tell apart: limit_groups holds each at
 * (bank * (CNF_MAX_INTERFACES + 1) + slot) * CNF_TRAFFIC_CLASSES + traffic. */
#define CNF_LIMIT_GROUPS 32
#define CNF_RULE_ENDS 8 /* times at which rules end */

struct limit_settings { /* one a bank */
	__u64 source6_mask[2]; /* network byte order */
	__u64 drop_unreadable; /* 1: what CNF_DROP_UNREADABLE is about */
	__u64 sets; /* 1 + the bank of limit_sets4 and limit_sets6 that goes with the rule set; 0 = there are no sets */
	__u64 sets_allow; /* which sets do so, a bit each, as in the value of a prefix there */
	__u64 sets_deny;
	__u64 sets_shadow; /* these only count */
	__u64 ends[CNF_RULE_ENDS]; /* jiffies, in order; CNF_NO_END = none */
};

#define CNF_NO_END 0x7fffffffffffffff

/*
 * Sets of prefixes out of files. One trie a family has those of all sets; a prefix has a bit for each set that it is
 * in, or a shorter one around it. A set's counters are the elements CNF_MAX_DENIED + SET_PLACE(bit) of limit_denied and
 * limit_denied_counters; CNF_MAX_SETS after that one counts what came in shadow.
 */
#define CNF_MAX_SETS 64
#define CNF_MAX_SET_PREFIXES 0x100000 /* of a family, of all sets */
#define CNF_SET_MULTIPLIER 0x03f79d71b4cb0a89 /* a de Bruijn sequence: the products of all bits begin differently */
#define SET_PLACE(bit) ((bit) * CNF_SET_MULTIPLIER >> 58)

struct limit4_prefix {
	__u32 length; /* 32 bits of bank and those of the prefix */
	__u32 bank;
	__u32 addr; /* network byte order */
};

struct limit6_prefix {
	__u32 length;
	__u32 bank;
	__u32 addr[4]; /* network byte order */
};

/* What is said of the sources whose longest prefix it is: they are denied for a time, then allowed for a time, then
 * the policy decides. */
struct limit_match {
	__u32 policy; /* which, within the bank; with `changes` the first of those for the times between ends */
	__u32 part; /* 0; or the prefix's length, if it is only a part of an IPv6 source: then a source of its own */
	__u32 denied; /* the place of the entry of limits.deny that denies them for longest */
	__u32 changes; /* 1: after each end of limit_settings the next policy decides */
	__u64 deny_until; /* jiffies; 0 = not at all, CNF_FOR_EVER = without an end */
	__u64 allow_until;
};

#define CNF_FOR_EVER 0xffffffffffffffff

/* When an entry of limits.deny has dropped packets. How many is in the element of limit_denied_counters at the same
 * place. An entry keeps its place for as long as rule sets have it. */
struct limit_denied {
	__u64 first_seen; /* jiffies; 0 = none yet */
	__u64 last_seen; /* jiffies */
};

/*
 * A rule's number is never given to another; its place in the arrays is its lowest bits. CNF_ENFORCE beside it says
 * that what is over the limit is dropped, not only counted.
 */
#define CNF_ENFORCE 0x800000

struct limit_policy { /* at (bank * CNF_MAX_POLICIES + policy) * CNF_LIMIT_GROUPS + group */
	__u32 rule; /* number and CNF_ENFORCE; 0 = none */
	__u32 shared; /* 1 + index in limit_shared; 0 = a bucket a source */
	__u32 home; /* the group whose slot holds the bucket: the first that has the same rule */
	__u32 zero;
};

/*
 * A token bucket as virtual scheduling (GCRA: ITU-T I.371, annex A): one word says when the bucket will be full again,
 * its theoretical arrival time. It advances by a packet's cost, and may run ahead of now by at most the burst.
 * Unit: 1 / (rate / g) ns, where g makes a cost a whole number: cost = 10^9 / g for packets, 8 * 10^9 / g a byte. Now,
 * in that unit, is clock * rate modulo 2^64; so costs, rates and bursts are exact, and nothing is ever rounded.
 */
struct limit_rule {
	__u64 packet_cost; /* 0 = no limit of packets */
	__u64 packet_rate; /* units a tick of the rule's clock */
	__u64 packet_burst; /* units; at most 2^61, as is byte_burst */
	__u64 byte_cost; /* 0 = no limit of bytes */
	__u64 byte_rate;
	__u64 byte_burst;
	/* Jiffies unused after which both limits are full, whatever their words say: a word wraps. More than either
	 * burst lasts, and less than jiffies are at boot, so that last_used 0 is full. */
	__u64 full_after;
	__u64 fine; /* clock: 1 = CLOCK_MONOTONIC in ns, 0 = jiffies, for a burst that lasts many of them */
};

struct limit_bucket {
	__u64 packet_time; /* theoretical arrival times */
	__u64 byte_time;
	__u64 last_used; /* jiffies at which the words were last debited; 0 = full */
};

/* Label `verdict` of cnf_limit_*. A rule's counters are the CNF_VERDICTS elements of limit_counters from its place *
 * CNF_VERDICTS on. */
enum cnf_verdict { CNF_PASSED, CNF_LIMITED, CNF_WOULD_LIMIT, CNF_VERDICTS };

struct limit4_key {
	__u32 addr;
	__u32 group;
};

struct limit6_key {
	__u64 addr[2]; /* masked */
	__u32 group;
	__u32 part; /* as in limit_match: a part and its source may have the same first address */
};

/* A source, or all that share a bucket. */
struct limit_source {
	__u64 decision; /* generation << 32 | home group << 24 | rule as in limit_policy; not of a shared bucket */
	struct limit_bucket bucket;
	__u64 packets; /* within the limit */
	__u64 bytes;
	__u64 over_packets; /* over it: dropped, or in shadow would have been */
	__u64 over_bytes;
	__u64 last_over; /* jiffies */
	__u64 dropped_packets; /* of those over it */
	__u64 dropped_bytes;
	__u64 last_drop; /* jiffies */
	__u64 last_seen; /* jiffies; not of a shared bucket */
};

/* A source in a cache. Begins like struct limit_source: with what a packet within its limit touches. */
struct limit4_slot { /* a cache line */
	__u64 decision; /* 0 = empty */
	struct limit_bucket bucket;
	__u64 packets;
	__u64 bytes;
	__u64 over_packets;
	struct limit4_key key;
};

struct limit6_slot {
	__u64 decision;
	struct limit_bucket bucket;
	__u64 packets;
	__u64 bytes;
	__u64 over_packets;
	struct limit6_key key;
};

struct limit_over { /* the element of a slot that has over_packets; like limit_source from over_bytes on */
	__u64 bytes;
	__u64 last;
	__u64 dropped_packets;
	__u64 dropped_bytes;
	__u64 last_drop;
};

/* What the program tells the daemon as it happens. Label `kind` of cnf_events_lost_total; the order is that of
 * abi.EVENT_KINDS. */
enum cnf_event {
	CNF_EVENT_FIRST_DROP, /* of a source, of all that share a bucket, or of an entry of limits.deny */
	CNF_EVENT_RULE_GENERATION, /* a packet has seen a rule set for the first time */
	CNF_EVENT_FLOW_EVICTED, /* a flow had to make room before it was idle */
	CNF_EVENT_FLOW_EXPIRED, /* a flow has made room, or begun anew, that had not expired at the latest drain */
	CNF_EVENT_KINDS,
};

/* With the 8 bytes that the kernel puts before each, a record of 128: the ring is a matrix to user space. */
struct event {
	__u16 kind; /* enum cnf_event */
	__u16 family; /* CNF_TABLE_IPV4 or CNF_TABLE_IPV6 */
	__u32 slot; /* of a flow: which it was in, counted from the table's first; else 0 */
	__u64 jiffies;
	/* Of a flow: its flow4_key or flow6_key. Of a drop: the source's address in 0 and 1, the rule's number in 2 (0:
	 * it is denied), the interface's index in 3. Of a rule set: its generation in 0. The rest is 0. */
	__u64 key[6];
	struct flow_value value; /* of a flow */
};

/* The verdict on a packet. In the order of abi.LIMIT_VERDICTS. */
enum cnf_limit {
	CNF_LIMIT_PASS,
	CNF_LIMIT_DROP,
	CNF_LIMIT_DENY,
	CNF_LIMIT_UNREADABLE,
	CNF_LIMIT_WOULD, /* it passes, since what would drop it only counts; of what is captured only */
};

/*
 * Capturing. While there is a client, the daemon moves capture_until on, in jiffies, so that a capture ends without the
 * daemon, too; 0 = nobody captures.
 */
#define CNF_CAPTURE_BYTES 2048 /* of a frame, at most */
#define CNF_CAPTURE_RING_BYTES 0x100000

/* Where a program hangs. */
enum cnf_hook { CNF_HOOK_XDP, CNF_HOOK_INGRESS, CNF_HOOK_EGRESS };

struct capture_settings {
	__u64 session; /* which capture this is: the ring may still have records of another one */
	__u64 verdicts; /* those whose frames are captured: the bits 1 << enum cnf_limit */
	__u64 snaplen; /* bytes of a frame that are copied */
	__u64 budget; /* frames that are copied in a second */
};

/* What becomes of a frame that is asked for, in the order of abi.CAPTURE_RESULTS. */
enum cnf_capture { CNF_CAPTURED, CNF_CAPTURE_OVER_BUDGET, CNF_CAPTURE_RING_FULL, CNF_CAPTURE_RESULTS };

/* In the ring, the bytes of the frame follow. */
struct capture_record {
	__u64 time; /* CLOCK_MONOTONIC, in ns */
	__u64 session;
	__u64 generation; /* of the rule set in force; 0 = none */
	__u32 ifindex; /* that its flow has */
	__u32 length; /* of the frame */
	__u32 packets; /* on the wire: a frame of TC may be many */
	__u32 tag; /* a VLAN tag that stands beside the frame: its type, and its control << 16; 0 = none */
	__u8 outcome; /* enum cnf_outcome */
	__u8 verdict; /* enum cnf_limit */
	__u8 hook; /* enum cnf_hook */
	__u8 family; /* 0: no IP packet, or its addresses cannot be read; else 1 + CNF_TABLE_IPV4 or CNF_TABLE_IPV6 */
	__u8 tcp_flags;
	__u8 zero[3];
	__u64 key[6]; /* flow4_key or flow6_key; of what is in no flow, too, as far as it can be read */
};

struct capture_draft {
	struct capture_record record;
	__u8 bytes[CNF_CAPTURE_BYTES];
	__u64 size; /* of the record and the bytes behind it; 0 = there is no budget for it */
	__u64 would; /* jiffies; of a packet of CNF_LIMIT_WOULD */
};

/* handover: page 0 says where the document is, see cnf/datapath/handover_map.py; two banks share the other
 * pages. With a limiter there are more. */
#define CNF_HANDOVER_PAGES 513

struct handover_page {
	__u8 bytes[4096];
};

_Static_assert(sizeof(struct flow4_key) == 24, "flow4_key");
_Static_assert(sizeof(struct flow6_key) == 48, "flow6_key");
_Static_assert(sizeof(struct flow_value) == 56, "flow_value");
_Static_assert(sizeof(struct cache_head) == 64, "cache_head");
_Static_assert(sizeof(struct flow4_slot) == 64, "flow4_slot");
_Static_assert(sizeof(struct flow6_slot) == 96, "flow6_slot");
_Static_assert(sizeof(struct flow_recorded) == 40, "flow_recorded");
_Static_assert(sizeof(struct counter) == 16, "counter");
_Static_assert(sizeof(struct interface) == 16, "interface");
_Static_assert(sizeof(struct limit_settings) == 120, "limit_settings");
_Static_assert(sizeof(struct limit_match) == 32, "limit_match");
_Static_assert(sizeof(struct limit_denied) == 16, "limit_denied");
_Static_assert(sizeof(struct limit_policy) == 16, "limit_policy");
_Static_assert(sizeof(struct limit_rule) == 64, "limit_rule");
_Static_assert(sizeof(struct limit_source) == 104, "limit_source");
_Static_assert(sizeof(struct limit4_slot) == 64, "limit4_slot");
_Static_assert(sizeof(struct limit6_slot) == 80, "limit6_slot");
_Static_assert(sizeof(struct event) == 120, "event");
_Static_assert(sizeof(struct capture_settings) == 32, "capture_settings");
_Static_assert(sizeof(struct capture_record) == 96, "capture_record");

#endif
