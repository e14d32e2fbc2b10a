/* SPDX-License-Identifier: GPL-2.0-only */
/* The handover: what the next daemon has to know. The program does not use it; in a map it lives as long as the others.
 */
#ifndef CNF_DAEMON_MEMORY_H
#define CNF_DAEMON_MEMORY_H

#include "abi.h"

#if CNF_LIMITER /* room for the rules, too */
BPF_ARRAY(daemon_memory, struct memory_page, CNF_MEMORY_PAGES + CNF_MAX_RULES / 64);
#else
BPF_ARRAY(daemon_memory, struct memory_page, CNF_MEMORY_PAGES);
#endif

#endif
