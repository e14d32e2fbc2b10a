/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A flow table in a cache of the program's own: see cache.h. Nobody deletes flows. A flow that has expired begins anew
 * with its next packet, or makes room for another. A flow that makes room earlier is evicted. Both are counted.
 *
 * A packet that finds its flow while another CPU gives the slot away counts in the flow that takes the slot: sums stay
 * exact.
 */
#ifndef CNF_FLOW_CACHE_H
#define CNF_FLOW_CACHE_H

#include "cache_find.h"

#define FLOW_ENDED (TCP_FIN | TCP_RST)

DIRECT_ARRAY(flow_settings, struct flow_settings);
struct flow_place {
	struct cache_place cache;
};

static __always_inline void flow_find(enum cnf_table table, void *key, struct flow_place *place)
{
	place->cache.found = 0;
	if (cache_locate(table, key, &place->cache))
		cache_look(table, key, &place->cache, bpf_jiffies64());
}

/* Return the flow in a slot of the place's set; a slot begins like a flow_value. */
static __always_inline struct flow_value *flow_at(enum cnf_table table, struct cache_place *place)
{
	return cache_slot(table, place, place->way);
}

/* Return whether a flow, which has `ended` or not, has expired: it was idle, or ended, for as long as the settings say.
 */
static __always_inline int flow_expired(struct flow_value *flow, __u64 ended, __u64 now)
{
	/* Signed: another CPU may have written a later jiffy than this one read. */
	__s64 age = now - READ_ONCE(flow->last_seen);
	struct flow_settings *settings = DIRECT_AT(flow_settings, 0);

	return (age > (__s64)settings->idle) | (!!ended & (age > (__s64)settings->ended));
}

/* Note that the place's flow has had a packet: when it expires now, if no other comes. */
static __always_inline void flow_stamp(struct cache_place *place, __u64 ended, __u64 now)
{
	struct flow_settings *settings = DIRECT_AT(flow_settings, 0);
	__u64 stays = settings->idle;

	if (ended && settings->ended < stays)
		stays = settings->ended;
	cache_stamp(place, now + stays + 1);
}

/*
 * Begin the event of a flow that goes, with its key, before another key is written over it. There is none of a flow
 * that had expired at the latest drain, which has recorded it.
 */
static __always_inline struct event *finish_begin(enum cnf_table table, struct cache_place *cache, int expired,
						  __u64 now)
{
#if CNF_FINISHED_EVENTS
	struct flow_value *flow = flow_at(table, cache);
	__u64 *words = cache_key(table, flow);
	struct event *event;

	if (!READ_ONCE(flow->packets) ||
	    (expired && flow_expired(flow, flow->tcp_flags & FLOW_ENDED, DIRECT_AT(flow_settings, 0)->drained)))
		return NULL;
	event = event_begin(expired ? CNF_EVENT_FLOW_EXPIRED : CNF_EVENT_FLOW_EVICTED, table, now);
	if (!event)
		return NULL;
	event->slot = cache_index(cache);
#pragma clang loop unroll(full)
	for (int index = 0; index < cache_shape(table).words; index++)
		event->key[index] = READ_ONCE(words[index]);
	return event;
#else
	return NULL;
#endif
}

/* Complete the event with what the flow has counted, and send it. */
static __always_inline void finish_send(struct event *event, struct flow_value *flow, struct flow_drops *drops,
					__u64 packets, __u64 bytes)
{
#if CNF_FINISHED_EVENTS
	if (!event)
		return;
	event->value = (struct flow_value){
		.packets = packets,
		.bytes = bytes,
		.first_seen = flow->first_seen,
		.last_seen = flow->last_seen,
		.tcp_flags = flow->tcp_flags & ~CNF_SLOT_DROPS,
		.dropped_packets = drops ? drops->packets : 0,
		.dropped_bytes = drops ? drops->bytes : 0,
	};
	event_send(event);
#endif
}

/* Give a slot of the claimed set to the key's flow, whose first packet this is; count the flow that was in it. */
static __always_inline void flow_begin(enum cnf_table table, void *key, struct cache_place *cache, struct wire wire,
				       struct transport *transport, __u64 now)
{
	struct flow_value *flow;
	__u64 packets, before;
	struct flow_drops *drops = NULL;
	struct event *event;
	enum cnf_direction direction;
	int expired;

	if (!cache->found)
		cache_settle(table, cache, now);
	flow = flow_at(table, cache);
	expired = flow_expired(flow, flow->tcp_flags & FLOW_ENDED, now);
	event = finish_begin(table, cache, expired, now);
	direction = flow_direction(table, cache_key(table, flow));
	cache_set_tag(cache, 0);
	cache_write_key(table, flow, key, 0);
	packets = __sync_lock_test_and_set(&flow->packets, wire.packets);
	before = __sync_lock_test_and_set(&flow->bytes, wire.bytes);
	if (packets) {
		count_table(table, direction, expired ? CNF_EXPIRED : CNF_EVICTED, packets, before);
		count_table(table, direction, expired ? CNF_EXPIRED_FLOWS : CNF_EVICTED_FLOWS, 1, 0);
	}
	if (flow->tcp_flags & CNF_SLOT_DROPS)
		drops = cache_aside(table, cache_index(cache));
	finish_send(event, flow, drops, packets, before);
	if (drops)
		*drops = (struct flow_drops){};
	flow->first_seen = now;
	flow->last_seen = now;
	flow->tcp_flags = flow_first_flags(transport);
	flow_stamp(cache, transport->tcp_flags & FLOW_ENDED, now);
	cache_write_key(table, flow, key, 1);
	cache_set_tag(cache, cache->tag);
	count_table(table, flow_direction(table, key), CNF_INSERT_DONE, 1, wire.bytes);
}

static __always_inline void account_flow(enum cnf_table table, void *key, struct flow_place *place, struct wire wire,
					 struct transport *transport)
{
	struct cache_place *cache = &place->cache;
	__u64 now = bpf_jiffies64();

	if (!cache->head)
		return; /* does not happen */
#pragma unroll
	for (int tries = 0; tries < CACHE_TRIES; tries++) {
		struct flow_value *flow;

		if (tries) {
			cache_wait(cache);
			cache_look(table, key, cache, now);
		}
		flow = flow_at(table, cache);
		if (cache->found && !flow_expired(flow, flow->tcp_flags & FLOW_ENDED, now)) {
			flow_add(flow, wire, transport->tcp_flags, now);
			flow_stamp(cache, flow->tcp_flags & FLOW_ENDED, now);
			return;
		}
		if (cache_claim(cache))
			goto claimed;
	}
	count_table(table, flow_direction(table, key), CNF_INSERT_BUSY, wire.packets, wire.bytes);
	return;
claimed: /* one copy for all tries: it is long */
	flow_begin(table, key, cache, wire, transport, now);
	cache_release_place(cache);
}

/* A flow that has expired has no more packets, dropped ones neither: it has been recorded. */
static __always_inline int flow_is_alive(enum cnf_table table, struct flow_place *place)
{
	struct flow_value *flow;

	if (!CNF_LIMITER || !place->cache.head || !place->cache.found)
		return 0;
	flow = flow_at(table, &place->cache);
	return !flow_expired(flow, flow->tcp_flags & FLOW_ENDED, bpf_jiffies64());
}

static __always_inline void account_drop(enum cnf_table table, void *key, struct flow_place *place, struct wire wire)
{
#if CNF_LIMITER
	struct flow_value *flow;
	struct flow_drops *drops;

	if (!place->cache.head || !place->cache.found)
		return;
	flow = flow_at(table, &place->cache);
	drops = cache_aside(table, cache_index(&place->cache));
	if (!drops)
		return; /* does not happen */
	if (!(flow->tcp_flags & CNF_SLOT_DROPS))
		__sync_fetch_and_or(&flow->tcp_flags, (__u64)CNF_SLOT_DROPS);
	__sync_fetch_and_add(&drops->packets, wire.packets);
	__sync_fetch_and_add(&drops->bytes, wire.bytes);
#endif
}

#endif
