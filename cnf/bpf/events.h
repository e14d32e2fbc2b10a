/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Events: what the daemon is told as it happens, by a ring buffer. Where that is full an event is lost, and counted.
 * An event wakes the daemon only if the ring was empty, so that a flood of events does not wake it for each.
 */
#ifndef CNF_EVENTS_H
#define CNF_EVENTS_H

#include "abi.h"
#include "counters.h"

#define PAGE_SIZE 4096 /* what rings are counted in; the machine's does not matter */

#if CNF_RING_BYTES

BPF_RINGBUF_OUTPUT(events, CNF_RING_BYTES / PAGE_SIZE);
BPF_PERCPU_ARRAY(events_lost, struct counter, CNF_EVENT_KINDS);

static __always_inline void event_lost(__u32 kind)
{
	struct counter *counter = events_lost.lookup(&kind);

	if (counter) /* always */
		counter->packets += 1;
}

/*
 * Where an event is made: one a CPU, since XDP is not interrupted by XDP. The stack has no room for it. In the ring
 * itself, the verifier of Linux 6.1 loses a record that is compared with NULL twice, as some compilers do.
 */
BPF_PERCPU_ARRAY(event_draft, struct event, 1);

/* Begin an event with all but its key and value 0; NULL never. */
static __always_inline struct event *event_begin(enum cnf_event kind, enum cnf_table family, __u64 jiffies)
{
	__u32 zero = 0;
	struct event *event = event_draft.lookup(&zero);

	if (event)
		*event = (struct event){.kind = kind, .family = family, .jiffies = jiffies};
	return event;
}

static __always_inline void event_send(struct event *event)
{
	if (events.ringbuf_output(event, sizeof(*event), 0))
		event_lost(event->kind);
}

/* Send that `rule`, a number, has dropped a packet from `addr` for the first time, on an interface; 0: a denied one. */
static __always_inline void event_first_drop(enum cnf_table table, void *addr, __u32 rule, __u32 ifindex, __u64 jiffies)
{
	struct event *event = event_begin(CNF_EVENT_FIRST_DROP, table, jiffies);

	if (!event)
		return;
	if (table == CNF_TABLE_IPV6) {
		event->key[0] = ((__u64 *)addr)[0];
		event->key[1] = ((__u64 *)addr)[1];
	} else {
		event->key[0] = *(__u32 *)addr;
	}
	event->key[2] = rule;
	event->key[3] = ifindex;
	event_send(event);
}

/* Send that a packet has seen the rule set `generation`, once for each; `announced` is the latest that was sent. */
static __always_inline void event_generation(__u64 generation, __u64 *announced)
{
	__u64 before = READ_ONCE(*announced);
	struct event *event;

	/* Not merely another one: a CPU that was held up here may have an older one than has been told of. */
	if (generation <= before || __sync_val_compare_and_swap(announced, before, generation) != before)
		return;
	event = event_begin(CNF_EVENT_RULE_GENERATION, CNF_TABLE_IPV4, bpf_jiffies64());
	if (!event)
		return;
	event->key[0] = generation;
	event_send(event);
}

#endif

#endif
