/* SPDX-License-Identifier: GPL-2.0-only */
/* changing.c, but for its clocks. */
#include "clock.h"
#include "changing.c"
