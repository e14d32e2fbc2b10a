/* SPDX-License-Identifier: GPL-2.0-only */
/* What the daemon has to know again after its own end. The program never looks at it; here it lives as long as the
 * maps. */
#ifndef CNF_DAEMON_MEMORY_H
#define CNF_DAEMON_MEMORY_H

#include "abi.h"

#if CNF_LIMITER /* room for the rules, too */
BPF_ARRAY(daemon_memory, struct memory_page, CNF_MEMORY_PAGES + CNF_MAX_RULES / 64);
#else
BPF_ARRAY(daemon_memory, struct memory_page, CNF_MEMORY_PAGES);
#endif

#endif
