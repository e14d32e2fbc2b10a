/* SPDX-License-Identifier: GPL-2.0-only */
/* The program's clocks: a test writes what they show into a map. */
BPF_ARRAY(test_clock, __u64, 2); /* jiffies, CLOCK_MONOTONIC in ns */

static __always_inline __u64 test_clock_read(__u32 which)
{
	__u64 *time = test_clock.lookup(&which);

	return time ? *(volatile __u64 *)time : 0;
}

#define bpf_jiffies64() test_clock_read(0)
#define bpf_ktime_get_ns() test_clock_read(1)
