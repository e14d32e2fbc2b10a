/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Arrays whose memory the program addresses, where CNF_DIRECT_* is 1. A lookup by number takes 11 instructions, an
 * address none. The kernel has an address for the first element of a map only: so such an array is one element, and
 * user space maps it. BCC makes a map for one element of `type`; cnf.datapath.load makes the one for CNF_COUNT_*
 * elements.
 *
 * Where it is 0, elements are looked up. CNF_MAP_* is a map's number, in place of which cnf.datapath.program puts its
 * descriptor.
 */
#ifndef CNF_DIRECT_H
#define CNF_DIRECT_H

#include "verifier.h"

#define DIRECT_ARRAY(name, type)                                                                                       \
	struct name##_array {                                                                                          \
		type elements[CNF_COUNT_##name];                                                                       \
	};                                                                                                             \
	BPF_F_TABLE("array", __u32, type, name, CNF_DIRECT_##name ? 1 : CNF_COUNT_##name, BPF_F_MMAPABLE)

#define DIRECT_AT(name, index) (&((struct name##_array *)bpf_pseudo_fd(2, CNF_MAP_##name))->elements[index])

/* Tell whether an element is not there: it does not happen, but has to be asked of one that was looked up. */
#define MISSING(name, element) (!CNF_DIRECT_##name && !(element))

/* Return an element, of which the verifier must know that it is there. */
#define ELEMENT(name, index)                                                                                           \
	({                                                                                                             \
		typeof(DIRECT_AT(name, 0)) element_;                                                                   \
		typeof(index) number_ = (index);                                                                       \
		__u32 key_;                                                                                            \
                                                                                                                       \
		if (CNF_DIRECT_##name) {                                                                               \
			element_ = DIRECT_AT(name, number_);                                                           \
		} else {                                                                                               \
			key_ = number_;                                                                                \
			element_ = bpf_map_lookup_elem_(bpf_pseudo_fd(5, CNF_MAP_##name), &key_);                      \
		}                                                                                                      \
		element_;                                                                                              \
	})

/* The same of an element that the verifier does not know to be there. */
#define CHECKED_ELEMENT(name, index)                                                                                   \
	({                                                                                                             \
		__u64 checked_ = (index);                                                                              \
                                                                                                                       \
		WITHOUT_BRANCH(checked_);                                                                              \
		CNF_DIRECT_##name &&checked_ >= CNF_COUNT_##name ? NULL : ELEMENT(name, checked_);                     \
	})

#endif
