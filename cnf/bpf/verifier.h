/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The verifier follows the rest of the program once for each different state in which it reaches a point. With limits
 * there would be a state for each way to parse and judge a packet, and more than a million instructions to follow,
 * which is the kernel's limit. These tools make states alike.
 */
#ifndef CNF_VERIFIER_H
#define CNF_VERIFIER_H

/* Keep the compiler from turning the arithmetic behind a number into branches. */
#define WITHOUT_BRANCH(number) asm volatile("" : "+r"(number))

/* Align a key on the stack so that it can be read and written in words of 64 bits. */
#define ALIGNED_FOR_WORDS __attribute__((aligned(sizeof(__u64))))

/* Return 0 in a way the verifier cannot see through: adding it to a value makes the verifier forget that value. */
static __always_inline __u64 unknown_zero(__u64 any)
{
	__u64 zero = any;

	asm volatile("%0 -= %1" : "+r"(zero) : "r"(any));
	return zero;
}

/* Make the verifier forget the value of the number, and the compiler how it was computed. */
#define FORGET(number, zero) asm volatile("%0 += %1" : "+r"(number) : "r"(zero))

#endif
