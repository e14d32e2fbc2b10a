/* SPDX-License-Identifier: GPL-2.0-only */
/* The handover: what the next daemon has to know. The program does not use it; in a map it lives as long as the others.
 */
#ifndef CNF_HANDOVER_H
#define CNF_HANDOVER_H

#include "abi.h"

#if CNF_LIMITER /* room for the rules, too */
BPF_ARRAY(handover, struct handover_page, CNF_HANDOVER_PAGES + CNF_MAX_RULES / 64);
#else
BPF_ARRAY(handover, struct handover_page, CNF_HANDOVER_PAGES);
#endif

#endif
