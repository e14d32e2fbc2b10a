/* SPDX-License-Identifier: GPL-2.0-only */
/* BCC's helper header defines its map functions only under this option. */
#define CONFIG_BPF_SYSCALL 1
