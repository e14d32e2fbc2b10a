/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CNF_ONCE_H
#define CNF_ONCE_H

/* Read or write a word that other CPUs use, at this point of the program and exactly once. */
#define READ_ONCE(word) (*(volatile typeof(word) *)&(word))
#define WRITE_ONCE(word, value) (*(volatile typeof(word) *)&(word) = (value))

#endif
