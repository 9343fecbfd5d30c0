/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Countdown of src/sys/futex.rs: readers finish, a waiter sleeps until nothing is open (REPORT). All
 * operations are locked and on one word, so that store buffers change nothing. The futex compares and
 * sleeps in one step, as the kernel does under its lock; it may wake for nothing, and its patience may
 * end: TIMEOUT. Without TIMEOUT a wake-up that is lost is an invalid end state.
 */
#ifndef READERS
#define READERS 3
#endif
byte open = READERS;
bit sleeper, asleep, returned;

proctype Reader()
{
	bit last;
	/* finish() */
#ifdef BROKEN_count_atomic
	byte seen;
	seen = open;
	atomic { open = seen - 1; last = (open == 0 && sleeper) };
#else
	d_step { assert(open > 0); open--; last = (open == 0 && sleeper) };
#endif
	if
#ifndef BROKEN_report_wake
	:: last -> asleep = 0
#else
	:: last
#endif
	:: else
	fi
}

proctype Waiter()
{
	byte seen;
#ifdef BROKEN_sleep_order
	bit early;
#endif
	do
	:: open == 0 -> break
	:: else ->
		/* sleep() */
#ifdef BROKEN_sleep_order
		early = (open != 0);
		d_step { seen = open; sleeper = 1 };
		if
		:: seen == 0 && !early
#else
		d_step { seen = open; sleeper = 1 };
		if
		:: seen == 0
#endif
		:: else ->
#ifdef BROKEN_futex_compare
			asleep = 1;
#else
			/* FUTEX_WAIT: sleeps while the word holds what was seen. */
			d_step { if :: open == seen && sleeper -> asleep = 1 :: else fi };
#endif
#ifdef TIMEOUT
			if
			:: !asleep
			:: asleep = 0
			fi
#else
			!asleep
#endif
		fi;
		d_step { sleeper = 0; seen = 0 }
	od;
	assert(open == 0);
	returned = 1
}

#define GOAL returned
#include "progress.h"

init {
	atomic {
		byte i = 0;
		WITNESS;
		run Waiter();
		do :: i < READERS -> run Reader(); i++ :: else -> break od
	}
}
