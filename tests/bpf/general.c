/* SPDX-License-Identifier: GPL-2.0-only */
/* clocked.c without the short way for established packets. */
#define CNF_SHORT_WAY 0
#include "clocked.c"
