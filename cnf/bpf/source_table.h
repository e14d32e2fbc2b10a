/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tables of sources, one a family, shared by all CPUs. source_find() finds a source's slot. source_remember()
 * writes a decision into it, and gives the source a slot if it has none. Then the source goes whose bucket has been
 * full for longest.
 *
 * CNF_CACHE chooses what a table is made of: source_cache.h or source_hash.h. Both define struct source_place,
 * source_find(), source_found(), source_remember(), source_seen(), source_full() and source_over(). A packet whose slot
 * is given away between two of them may be counted with the source that comes, and debit its bucket.
 */
#ifndef CNF_SOURCE_TABLE_H
#define CNF_SOURCE_TABLE_H

#include "abi.h"
#include "counters.h"
#include "token_bucket.h"

/* `table` is a constant wherever these are called, so that one branch remains of each. A key is a limit4_key or
 * limit6_key. */
static __always_inline enum cnf_table source_table(enum cnf_table table)
{
	return table == CNF_TABLE_IPV6 ? CNF_TABLE_SOURCES6 : CNF_TABLE_SOURCES4;
}

/* In one store: keys are hashed and compared in words of 64 bits, for which two halves make it wait. */
static __always_inline void key_set_group(enum cnf_table table, void *key, __u32 group)
{
	if (table == CNF_TABLE_IPV6)
		*(volatile __u64 *)&((struct limit6_key *)key)->group = group | (__u64)((struct limit6_key *)key)->part
											<< 32;
	else
		*(volatile __u64 *)key = ((struct limit4_key *)key)->addr | (__u64)group << 32;
}

/* Return the part of a source that the key is for; 0 = all of it. */
static __always_inline __u32 key_part(enum cnf_table table, void *key)
{
	return table == CNF_TABLE_IPV6 ? ((struct limit6_key *)key)->part : 0;
}

/* Let the source be no more than the prefix of `part` bits, 1 to 128, that holds `addr`. */
static __always_inline void key_set_part(enum cnf_table table, void *key, void *addr, __u32 part, __u64 zero)
{
	if (table == CNF_TABLE_IPV6) {
		struct limit6_key *source = key;
		__u64 *words = addr;

		source->part = part + zero;
		source->addr[0] = zero + (part < 64 ? words[0] & __builtin_bswap64(~(~0ULL >> (part & 63))) : words[0]);
		source->addr[1] = zero + (part <= 64   ? 0
					  : part < 128 ? words[1] & __builtin_bswap64(~(~0ULL >> (part & 63)))
						       : words[1]);
	}
}

#if CNF_CACHE
#include "source_cache.h"
#else
#include "source_hash.h"
#endif

#endif
