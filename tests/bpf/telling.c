/* SPDX-License-Identifier: GPL-2.0-only */
/* flow.c, and a program that tells of what its frame holds: a struct event, whose `kind` says how. */
#include "../../cnf/bpf/flow.c"

#define TELL_AND_DISCARD 100
#define TELL_SLOWLY 101
#define SLOWNESS 20000 /* about a millisecond */

BPF_PERCPU_ARRAY(test_told, __u64, 1);

int test_tell(struct xdp_md *ctx)
{
	struct event *asked = (void *)(long)ctx->data, *event, copy;
	__u64 *told;
	__u32 zero = 0;

	if ((void *)(asked + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	told = test_told.lookup(&zero);
	if (!told)
		return XDP_ABORTED;
	switch (asked->kind) {
	case CNF_EVENT_FLOW_EVICTED: /* its packets are how many this CPU has told of before, its bytes the CPU */
		copy = *asked;
		copy.value.packets = (*told)++;
		copy.value.bytes = bpf_get_smp_processor_id();
		event_send(&copy);
		return XDP_PASS;
	case TELL_AND_DISCARD:
		event = events.ringbuf_reserve(sizeof(*event));
		if (event)
			events.ringbuf_discard(event, 0);
		return XDP_PASS;
	case TELL_SLOWLY:
		event = events.ringbuf_reserve(sizeof(*event));
		if (!event)
			return XDP_PASS;
		__builtin_memset(event, 0, sizeof(*event));
		event->kind = CNF_EVENT_RULE_GENERATION;
#pragma clang loop unroll(disable)
		for (int i = 0; i < SLOWNESS; i++)
			event->key[1] = bpf_ktime_get_ns();
		event->key[0] = (*told)++;
		events.ringbuf_submit(event, 0);
		return XDP_PASS;
	}
	return XDP_ABORTED;
}
