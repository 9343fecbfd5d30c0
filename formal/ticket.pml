/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Lock of src/sys/futex.rs: mutual exclusion in order of arrival, by tickets; who waits sleeps on the ticket
 * that is served, with its own ticket's bit, and an unlock wakes the next one's bit. All operations are locked,
 * but for the unlock's look at the tickets, a load after a locked add: no buffers. The futex compares and sleeps
 * in one step, as the kernel does under its lock, and wakes all who sleep with that bit. Limits of sleep are
 * left out: a wake-up that is lost is an invalid end state.
 */
#ifndef THREADS
#define THREADS 3
#endif
#define ROUNDS 2
#define BITS 2		/* fewer than threads, so that two share one */
#define TICKETS 8	/* both counts wrap */
#define START 6

byte next_ticket = START, serving = START, holders, returned;
bit asleep[THREADS], slept_with[THREADS];

inline wake(which)
{
	d_step {
		i = 0;
		do
		:: i < THREADS -> if :: asleep[i] && slept_with[i] == which -> asleep[i] = 0 :: else fi; i++
		:: else -> break
		od;
		i = 0
	}
}

proctype Thread(byte me)
{
	byte left = ROUNDS, ticket, seen, i;
	bit free, too_early;
	do
	:: left == 0 -> break
	:: else ->
		left--;
		/* try_lock(), or not. */
		if
		:: seen = serving;
			d_step {
				free = (next_ticket == seen);
				if :: free -> next_ticket = (seen + 1) % TICKETS :: else fi;
				seen = 0
			};
			if :: free -> goto locked :: else fi
		:: true
		fi;
		/* lock() */
		d_step { ticket = next_ticket; next_ticket = (next_ticket + 1) % TICKETS };
		do
		:: true ->
			seen = serving;
			if
			:: seen == ticket -> break
			:: else
			fi;
			/* FUTEX_WAIT_BITSET: sleeps while the word holds what was seen. */
			d_step {
				if
#ifdef BROKEN_futex_compare
				:: true ->
#else
				:: serving == seen ->
#endif
					asleep[me] = 1; slept_with[me] = ticket % BITS
				:: else
				fi
			};
			!asleep[me];
			slept_with[me] = 0
		od;
locked:		skip;
		d_step { ticket = 0; seen = 0; free = 0; holders++; assert(holders == 1) };
		holders--;
		/* unlock(): the next is served, then it is looked whether somebody waits for that. */
#ifdef BROKEN_lock_wake_order
		too_early = (next_ticket == (serving + 1) % TICKETS);
#endif
		d_step { serving = (serving + 1) % TICKETS; seen = serving };
		if
		:: next_ticket != seen && !too_early -> wake(seen % BITS)
		:: else
		fi;
		d_step { seen = 0; too_early = 0 }
	od;
	returned++
}

#define GOAL (returned == THREADS)
#include "progress.h"

init {
	atomic {
		byte n = 0;
		WITNESS;
		do :: n < THREADS -> run Thread(n); n++ :: else -> break od
	}
}
