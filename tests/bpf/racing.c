/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * flow.c, but for its clocks, in which something happens at chosen steps that another CPU could do just then: a test
 * writes down at which pass of which step, and what. So one CPU goes through any order of two.
 */
#define CNF_SHORT_WAY 0 /* each step is that of the general code */
#include "clock.h"
#include "../../cnf/bpf/abi.h"
#include "../../cnf/bpf/once.h"

enum test_step {
	TEST_LOOKED,   /* the sequence and tags of a set have been read */
	TEST_CLAIM,    /* it is about to be claimed */
	TEST_WAIT,     /* it could not be */
	TEST_TAG,      /* a slot's tag is about to be written */
	TEST_SWAP,     /* a bucket's word is about to be debited */
	TEST_ANNOUNCE, /* the generation told of is about to be written */
	TEST_READ,     /* a set is read while another CPU has it, or to choose a slot */
	TEST_STEPS,
};

enum test_what {
	TEST_NOTHING,
	TEST_PUT,  /* another CPU has left the set as `image` */
	TEST_SHOW, /* `image` becomes what the set is */
	TEST_ADD,  /* another CPU has added `value` to the word */
	TEST_TAKE, /* the source has become another rule's: its decision is `value`, and its bucket full */
};

#define TEST_PASSES 8
#define TEST_IMAGE 1024 /* no set is larger */

struct test_act {
	__u64 what; /* enum test_what */
	__u64 value;
	__u8 image[TEST_IMAGE];
};

BPF_ARRAY(test_acts, struct test_act, TEST_STEPS *TEST_PASSES);
BPF_ARRAY(test_passes, __u64, TEST_STEPS);

static __always_inline struct test_act *test_pass(__u32 step)
{
	__u64 *passes = test_passes.lookup(&step);
	__u32 place;

	if (!passes || *passes >= TEST_PASSES)
		return NULL;
	place = step * TEST_PASSES + *passes;
	*passes += 1;
	return test_acts.lookup(&place);
}

static __always_inline void test_on_set(__u32 step, void *set, const __u32 size)
{
	struct test_act *act = test_pass(step);

	if (!act)
		return;
	if (act->what == TEST_PUT)
		bpf_probe_read_kernel(set, size, act->image);
	else if (act->what == TEST_SHOW)
		bpf_probe_read_kernel(act->image, size, set);
}

static __always_inline void test_on_word(__u32 step, __u64 *word, __u64 *decision)
{
	struct test_act *act = test_pass(step);

	if (!act)
		return;
	if (act->what == TEST_ADD)
		*(volatile __u64 *)word += act->value;
	if (act->what == TEST_TAKE && decision) {
		*(volatile __u64 *)decision = act->value;
		*(volatile __u64 *)word = 0;
	}
}

#undef READ_ONCE
#define READ_ONCE(word) (test_on_word(TEST_READ, (void *)&(word), NULL), *(volatile typeof(word) *)&(word))
#include "../../cnf/bpf/cache.h"
#undef READ_ONCE
#define READ_ONCE(word) (*(volatile typeof(word) *)&(word))

/* The set's size is a constant wherever these are called: all have a `table`. */
#define TEST_SIZE (sizeof(struct cache_head) + CNF_WAYS * cache_shape(TEST_TABLE).slot_bytes)
#define cache_matches(tags, tag)                                                                                       \
	({                                                                                                             \
		__u64 test_tags = (tags);                                                                              \
		test_on_set(TEST_LOOKED, place->head, TEST_SIZE);                                                      \
		(cache_matches)(test_tags, tag);                                                                       \
	})
#define cache_claim(place) (test_on_set(TEST_CLAIM, (place)->head, TEST_SIZE), (cache_claim)(place))
#define cache_wait(place) (test_on_set(TEST_WAIT, (place)->head, TEST_SIZE), (cache_wait)(place))
#define cache_set_tag(place, tag) (test_on_set(TEST_TAG, (place)->head, TEST_SIZE), (cache_set_tag)(place, tag))

#define TEST_TABLE table
#include "../../cnf/bpf/cache_find.h"
#undef TEST_TABLE

#define __sync_val_compare_and_swap(word, old, new)                                                                    \
	(test_on_word(TEST_ANNOUNCE, word, NULL), __sync_val_compare_and_swap(word, old, new))
#include "../../cnf/bpf/events.h"
#undef __sync_val_compare_and_swap

#define __sync_val_compare_and_swap(word, old, new)                                                                    \
	(test_on_word(TEST_SWAP, word, &source->decision), __sync_val_compare_and_swap(word, old, new))
#include "../../cnf/bpf/token_bucket.h"
#undef __sync_val_compare_and_swap

#define TEST_TABLE source_table(table)
#include "../../cnf/bpf/source_table.h"
#undef TEST_TABLE

#define TEST_TABLE table
#include "../../cnf/bpf/flow.c"
