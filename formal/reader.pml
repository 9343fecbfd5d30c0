/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Readers against a waiter: the state word, its slow paths, the handler, registration, transient
 * sections, parking, leaving, requests and reports, in one IPI mode: invariants 1 to 6 of
 * src/lib.rs.
 *
 * Configuration (formal/table): MODE; START, what the first reader is; SECTIONS of its thread; SIGNALS of
 * the program, each a section in a handler that lands anywhere; LEVELS, how deep handlers nest; GPS, grace
 * periods, before each of which the pointer is replaced and after which what it pointed to is reclaimed;
 * PARK: waiters may park; LEAVE: the thread exits, with a section after its exit hook; NR readers; TWO: the
 * word is two words; ENTRIES: places in the array, where a reader can have two; RESCUE: waiters run out of
 * patience; ENDLESS: sections never cease, and stragglers are sampled and flagged so many times.
 */
#define AUTO 0
#define SIGNAL 1
#define MEMBARRIER 2
#define MIXED 3
#ifndef MODE
#define MODE AUTO
#endif
#ifndef START
#define START 2
#endif
#ifndef SECTIONS
#define SECTIONS 2
#endif
#ifndef SIGNALS
#define SIGNALS 0
#endif
#ifndef LEVELS
#define LEVELS 1
#endif
#ifndef GPS
#define GPS 2
#endif
#ifndef NR
#define NR 1
#endif
#ifndef ENTRIES
#define ENTRIES NR
#endif
#if NR == 1
#define OF(e) 0
#else
#define OF(e) e
#endif
#define END 1
#define UNLINKED 0
#define LINK_TO(r) (r + 2)
#define MAY_JOIN(r) true

/* Of each reader. */
byte request[NR], counted[NR], ipi[NR], link[NR];
/* For assertions alone: the grace period that the last IPI was sent for, and the one that is promised a
 * report at the end of the section that is open. */
byte sent[NR], owed[NR];
bit is_leaving[NR], is_gone[NR], signalled[NR];
/* The flavour's. */
byte head = END;
byte sides[2], current_side, holdouts;
bit registry_lock, finished;
/* The array's entries: of each reader, and, where a reader can have two, the second ones behind them. */
bit listed[ENTRIES];
/* The pointer's version, and how many versions are reclaimed. */
byte current_version, reclaimed;
/* How many handlers deep the first reader's thread is, and whether the IPI's is among them (its signal
 * is blocked meanwhile); signals of the program still to come. */
byte level, signals_left = SIGNALS;
bit in_ipi;

#include "tso.h"
#include "reader.h"
#include "waiter.h"

#define LOCALS byte got, side, before, depth_here, version, kind, answers, taken, next; bit slow

inline life(r) {
	LOCALS;
	byte left = SECTIONS;
#ifdef ENDLESS
	/* Sections never cease. */
	do
	:: section(r)
	od;
#else
	do
	:: left > 0 -> left--; section(r)
	:: else -> break
	od;
#endif
#ifdef LEAVE
	leave(r);
	section(r);
#endif
	/* The thread's end, or its sleep for ever: no stores of its own are left in flight. */
	full_fence(r)
}

#if LEVELS > 0
proctype Main() provided (level == 0)
{
	life(0);
#ifdef LEAVE
	d_step { level = 9; is_gone[0] = 1 }
#endif
}

#define HANDLER(own) \
	LOCALS; \
end:	do \
	:: atomic { level == own - 1 && signals_left > 0 -> level = own; signals_left-- }; \
		section(0); \
		level = own - 1 \
	:: atomic { level == own - 1 && signalled[0] && !in_ipi -> \
			level = own; signalled[0] = 0; in_ipi = 1 }; \
		on_ipi(0); \
		atomic { in_ipi = 0; level = own - 1 } \
	od

proctype Handler1() provided (level == 0 || level == 1) { HANDLER(1) }
#if LEVELS > 1
proctype Handler2() provided (level == 1 || level == 2) { HANDLER(2) }
#endif
#if LEVELS > 2
proctype Handler3() provided (level == 2 || level == 3) { HANDLER(3) }
#endif
#else
proctype Main()
{
	life(0);
#ifdef LEAVE
	is_gone[0] = 1
#endif
}
#endif

#if NR > 1
/* Readers without handlers, that begin unregistered. */
proctype Other(byte me) { life(me) }
#endif

#define GOAL finished
#include "progress.h"

init {
	atomic {
		WITNESS;
#if START == 2
		mark[0] = REGISTERED; settled[0] = 1; listed[0] = 1;
#else
		mark[0] = START;
#endif
		start_memory();
		run Processor(0);
		run Main();
#if LEVELS > 0
		run Handler1();
#endif
#if LEVELS > 1
		run Handler2();
#endif
#if LEVELS > 2
		run Handler3();
#endif
#if NR > 1
		run Processor(1);
		run Other(1);
#endif
		run Waiter()
	}
}
