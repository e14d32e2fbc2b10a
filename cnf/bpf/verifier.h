/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The verifier follows all that comes behind a point once for each thing that it knows there: with limits, once for
 * each way in which a packet can be parsed and judged, which is more than a million instructions.
 */
#ifndef CNF_VERIFIER_H
#define CNF_VERIFIER_H

/* Have the number worked out as it is written: from what it is made of, some compilers make branches. */
#define WITHOUT_BRANCH(number) asm volatile("" : "+r"(number))

/* Align a key so that it can be read and written in words: halves on the stack may be at no place for one. */
#define ALIGNED_FOR_WORDS __attribute__((aligned(sizeof(__u64))))

/* Return 0, made of `any` number so that the verifier does not know; what that is added to, it knows no more. */
static __always_inline __u64 unknown_zero(__u64 any)
{
	__u64 zero = any;

	asm volatile("%0 -= %1" : "+r"(zero) : "r"(any));
	return zero;
}

/* Have the verifier forget what it knows of the number, and the compiler what it is made of. */
#define FORGET(number, zero) asm volatile("%0 += %1" : "+r"(number) : "r"(zero))

#endif
