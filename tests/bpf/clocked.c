/* SPDX-License-Identifier: GPL-2.0-only */
/* flow.c, but for its clocks. */
#include "clock.h"
#include "../../cnf/bpf/flow.c"
