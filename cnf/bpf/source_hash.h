/* SPDX-License-Identifier: GPL-2.0-only */
/* A table of sources in an LRU hash of the kernel. User space deletes those that are idle. */
#ifndef CNF_SOURCE_HASH_H
#define CNF_SOURCE_HASH_H

BPF_TABLE("lru_hash", struct limit4_key, struct limit_source, limit_sources4, CNF_MAX_SOURCES);
BPF_TABLE("lru_hash", struct limit6_key, struct limit_source, limit_sources6, CNF_MAX_SOURCES);

struct source_place {
	struct limit_source *source; /* NULL if there is none */
};

static __always_inline void source_find(enum cnf_table table, void *key, struct source_place *place, __u64 now)
{
	if (table == CNF_TABLE_IPV6) {
		place->source = limit_sources6.lookup((struct limit6_key *)key);
		return;
	}
	place->source = limit_sources4.lookup((struct limit4_key *)key);
}

/* Return the source that was found; NULL if there is none. */
static __always_inline struct limit_source *source_found(enum cnf_table table, struct source_place *place)
{
	return place->source;
}

static __always_inline long source_insert(enum cnf_table table, void *key, struct limit_source *source)
{
	if (table == CNF_TABLE_IPV6)
		return limit_sources6.insert((struct limit6_key *)key, source);
	return limit_sources4.insert((struct limit4_key *)key, source);
}

/* Give the source that was looked for an element with this decision. Return 0 if the table refuses, which is counted.
 */
static __always_inline int source_remember(enum cnf_table table, void *key, struct source_place *place, __u64 decision,
					   __u64 now)
{
	struct limit_source *source = place->source, fresh = {.decision = decision};
	long error;

	if (source) {
		if (decision_differs(source->decision, decision))
			WRITE_ONCE(source->bucket.last_used, 0); /* another rule's bucket starts full */
		if (source->decision != decision)
			WRITE_ONCE(source->decision, decision);
		return 1;
	}
	error = source_insert(table, key, &fresh);
	if (!error)
		count_table(source_table(table), CNF_DIRECTION_INGRESS, CNF_INSERT_DONE, 1, 0);
	else if (error != -EEXIST)
		count_table(source_table(table), CNF_DIRECTION_INGRESS, insert_error(error), 1, 0);
	source_find(table, key, place, now);
	return place->source != 0;
}

/* Note a packet of the source; the kernel has the LRU's order from the lookup. */
static __always_inline void source_seen(struct source_place *place, __u64 now)
{
	if (place->source->last_seen != now)
		place->source->last_seen = now;
}

static __always_inline void source_full(struct source_place *place, __u64 jiffy)
{
}

static __always_inline void source_in_use(struct source_place *place, __u64 now)
{
}

/* Return where the source counts what was over the limit. */
static __always_inline struct limit_over *source_over(enum cnf_table table, struct source_place *place)
{
	return (void *)&place->source->over_bytes;
}

#endif
