/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Arrays whose memory the program addresses directly. A lookup by number takes 11 instructions, an address none. The
 * kernel has an address for the first element of a map only: so such an array is one element, and user space maps it.
 *
 * BCC makes a map for one element of `type`. cnf.datapath.load makes the one for CNF_COUNT_* elements.
 */
#ifndef CNF_DIRECT_H
#define CNF_DIRECT_H

#if CNF_CACHE
#define DIRECT_ARRAY(name, type)                                                                                       \
	struct name##_array {                                                                                          \
		type elements[CNF_COUNT_##name];                                                                       \
	};                                                                                                             \
	BPF_F_TABLE("array", __u32, type, name, 1, BPF_F_MMAPABLE)
#else /* may be loaded without CAP_PERFMON: then the verifier follows offsets that vary on too many paths */
#define DIRECT_ARRAY(name, type) BPF_F_TABLE("array", __u32, type, name, CNF_COUNT_##name, BPF_F_MMAPABLE)
#endif

/* Return the address of the array. CNF_MAP_* is the map's number, in place of which cnf.datapath.program puts
 * its descriptor. */
#define MAP_VALUE(name) ((struct name##_array *)bpf_pseudo_fd(2, CNF_MAP_##name))

/* Return the address of an element, of which the verifier must know that it is there. */
#define DIRECT_AT(name, index) (&MAP_VALUE(name)->elements[index])

#endif
