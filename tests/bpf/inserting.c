/* SPDX-License-Identifier: GPL-2.0-only */
/* flow.c, in which another CPU may insert the same just before, or the kernel refuse to insert: as a test writes down.
 */
BPF_ARRAY(test_insert, __s64, 1); /* 1: another CPU does; below 0: refused with this error */

static __always_inline long test_insert_happens(void)
{
	__u32 zero = 0;
	__s64 *happens = test_insert.lookup(&zero);

	return happens ? *happens : 0;
}

/* What BCC makes of insert(). */
#define bpf_map_update_elem(map, key, value, flags)                                                                    \
	({                                                                                                             \
		long test_happens = test_insert_happens();                                                             \
		if (test_happens > 0)                                                                                  \
			bpf_map_update_elem(map, key, value, flags);                                                   \
		test_happens < 0 ? test_happens : bpf_map_update_elem(map, key, value, flags);                         \
	})

#include "../../cnf/bpf/flow.c"
