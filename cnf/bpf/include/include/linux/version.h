/* SPDX-License-Identifier: GPL-2.0-only */
/* BCC compares this with 4.8 to choose among its macros; the program itself never looks at it. */
#define KERNEL_VERSION(major, minor, patch) (((major) << 16) + ((minor) << 8) + (patch))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 15, 0)
