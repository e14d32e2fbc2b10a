/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CNF_ONCE_H
#define CNF_ONCE_H

/* Read a word that other CPUs write to, at this point of the program, and not again. */
#define READ_ONCE(word) (*(volatile typeof(word) *)&(word))

#endif
