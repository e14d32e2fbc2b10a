/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * flow.c, but for its clocks, in which something happens at chosen steps that another CPU could do just then: a test
 * writes down at which pass of which step, and what. So one CPU goes through any order of two.
 */
#include "clock.h"
#include "../../cnf/bpf/abi.h"
#include "../../cnf/bpf/once.h"

enum test_step {
	TEST_LOOKED,   /* a bucket's sequence and tags have been read */
	TEST_CLAIM,    /* it is about to be claimed */
	TEST_WAIT,     /* it could not be */
	TEST_TAG,      /* a slot's tag is about to be written */
	TEST_SWAP,     /* a bucket's word is about to be debited */
	TEST_ANNOUNCE, /* the generation told of is about to be written */
	TEST_READ,     /* a bucket of the cache is read while another CPU has it, or to choose a slot */
	TEST_STEPS,
};

enum test_what {
	TEST_NOTHING,
	TEST_PUT,  /* another CPU has left the cache's bucket as `image` */
	TEST_SHOW, /* `image` becomes what the cache's bucket is */
	TEST_ADD,  /* another CPU has added `value` to the word */
	TEST_TAKE, /* the source has become another rule's: its decision is `value`, and its bucket full */
};

#define TEST_PASSES 8
#define TEST_IMAGE 1024 /* no bucket is larger */

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

static __always_inline void test_on_bucket(__u32 step, void *bucket, const __u32 size)
{
	struct test_act *act = test_pass(step);

	if (!act)
		return;
	if (act->what == TEST_PUT)
		bpf_probe_read_kernel(bucket, size, act->image);
	else if (act->what == TEST_SHOW)
		bpf_probe_read_kernel(act->image, size, bucket);
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

/* In the caches' own files, whose functions all have a `table`: the size of a bucket is a constant. */
#define TEST_SIZE (table == CNF_TABLE_IPV6 ? sizeof(TEST_BUCKET6) : sizeof(TEST_BUCKET4))
#define cache_matches(tags, tag)                                                                                       \
	({                                                                                                             \
		__u64 test_tags = (tags);                                                                              \
		test_on_bucket(TEST_LOOKED, place->head, TEST_SIZE);                                                   \
		(cache_matches)(test_tags, tag);                                                                       \
	})
#define cache_claim(place) (test_on_bucket(TEST_CLAIM, (place)->head, TEST_SIZE), (cache_claim)(place))
#define cache_wait(place) (test_on_bucket(TEST_WAIT, (place)->head, TEST_SIZE), (cache_wait)(place))
#define cache_tag(place, tag) (test_on_bucket(TEST_TAG, (place)->head, TEST_SIZE), (cache_tag)(place, tag))

#define __sync_val_compare_and_swap(word, old, new)                                                                    \
	(test_on_word(TEST_ANNOUNCE, word, NULL), __sync_val_compare_and_swap(word, old, new))
#include "../../cnf/bpf/events.h"
#undef __sync_val_compare_and_swap

#define __sync_val_compare_and_swap(word, old, new)                                                                    \
	(test_on_word(TEST_SWAP, word, &source->decision), __sync_val_compare_and_swap(word, old, new))
#include "../../cnf/bpf/token_bucket.h"
#undef __sync_val_compare_and_swap

#define TEST_BUCKET4 struct limit4_bucket
#define TEST_BUCKET6 struct limit6_bucket
#include "../../cnf/bpf/source_table.h"
#undef TEST_BUCKET4
#undef TEST_BUCKET6

#define TEST_BUCKET4 struct flow4_bucket
#define TEST_BUCKET6 struct flow6_bucket
#include "../../cnf/bpf/flow.c"
