/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Callers, leader and callbacks on weakly ordered processors (weak.h): the orderings of src/seq.rs,
 * src/grace_period.rs, src/chain.rs and src/callback/ that are labels of accesses or fences, against a
 * counted section (src/transient.rs), for which no heavy barrier makes up.
 *
 * A caller publishes a new version, takes the sequence, and reclaims the old one when the sequence has got
 * there: a leader counts it up twice, and looks at the count in between. With LEADS the caller is that leader.
 * With REMOVES the update is a plain store and no rcu_assign_pointer(). With CALLBACK the update is another
 * thread's, which puts a callback on a chain, and the caller is the worker: it takes the chain off, waits
 * likewise, and calls; and somebody waits for that in rcu_barrier().
 *
 * Left out: sleep; the second side of the counts; listed readers (weak.pml). Of locked operations in between,
 * the one on the number of callers is here, which comes between the snapshot and all else. No store waits for a
 * branch before it, though Arm has it wait: compilers know of no such order.
 */
#include "weak.h"

/* The pointer's version; whether what the new one points to was stored; what is reclaimed. */
byte current_version, reclaimed, version;
bit initialised;
/* The sequence; the count of the reader's section; what the section stores. */
byte seq, goal, count;
bit stored, sees_stored;
/* The chain; the callback's arguments, its effect, and that it counts as done. */
bit chain, argument, called, is_done;

/* ---- the reader: a counted section ---- */
#define R_ADD_LOAD 0
#define R_ADD 1
#define R_NOTE_LOAD 2	/* the compare-exchange of `counted` */
#define R_NOTE 3
#define R_POINTER 4
#define R_USE 5		/* by the pointer: a dependency */
#define R_STORE 6
#define R_EXIT_LOAD 7	/* the exchange of `counted`, and the countdown, as one */
#define R_EXIT 8
#define R_ALL 511
short reader;

#ifdef BROKEN_single_exchange
#define R_ACQUIRE bit_of(R_ADD_LOAD)
#else
#define R_ACQUIRE (bit_of(R_ADD_LOAD) | bit_of(R_NOTE_LOAD))
#endif
#ifdef BROKEN_exit_release
#define R_RELEASE (bit_of(R_ADD) | bit_of(R_NOTE))
#else
#define R_RELEASE (bit_of(R_ADD) | bit_of(R_NOTE) | bit_of(R_EXIT))
#endif
#define R(x) may(reader, x, R_ACQUIRE, R_RELEASE, R_ACQUIRE)
#define READ(x) reader = reader | bit_of(x)
#define was_read(x) has_done(reader, x)

proctype Reader()
{
	do
	:: d_step { R(R_ADD_LOAD) -> READ(R_ADD_LOAD) }
	:: d_step { R(R_ADD) && was_read(R_ADD_LOAD) -> READ(R_ADD); count++ }
	:: d_step { R(R_NOTE_LOAD) -> READ(R_NOTE_LOAD) }
	:: d_step { R(R_NOTE) && was_read(R_NOTE_LOAD) -> READ(R_NOTE) }
	:: d_step { R(R_POINTER) -> READ(R_POINTER); version = current_version }
	/* ASSIGN: who finds the new version finds it initialised. */
	:: d_step { R(R_USE) && was_read(R_POINTER) ->
		READ(R_USE);
		assert(version >= reclaimed);
#if !defined(USED) && !defined(REMOVES)
		assert(version == 0 || initialised)
#endif
		}
	:: d_step { R(R_STORE) -> READ(R_STORE); stored = 1 }
	:: d_step { R(R_EXIT_LOAD) -> READ(R_EXIT_LOAD) }
	/* Of the same place as the add. */
	:: d_step { R(R_EXIT) && was_read(R_EXIT_LOAD) && was_read(R_ADD) -> READ(R_EXIT); count-- }
	:: reader == R_ALL -> break
	od
}

/* ---- the caller, and the leader ---- */
#ifdef CALLBACK
#define TAKE_LOAD 0	/* Chain::take: the exchange */
#define TAKE 1
#else
#define INITIALISE 0
#define PUBLISH 1
#endif
#define GP_FENCE 2
#define SNAP 3
#define CALLERS_LOAD 4
#define CALLERS 5
#define START 6		/* the sequence is odd */
#define START_FENCE 7	/* GP-START */
#define LOOK 8		/* until the count is zero */
#define SEQ_END 9	/* the sequence is even */
#define DONE 10		/* until the sequence is there */
#define END_FENCE 11
#define LOAD 12		/* what a section stored; the callback's arguments */
#define RECLAIM 13	/* or the call */
#define COUNT_DONE 14
#define ALL 32767
#define LEADS_FROM (below(LOOK + 2) & ~below(START))
#ifdef LEADS
#define leader caller
int caller = bit_of(DONE) | bit_of(COUNT_DONE);
#else
#ifdef CALLBACK
int caller = LEADS_FROM;
#else
int caller = LEADS_FROM | bit_of(COUNT_DONE);
#endif
int leader = below(START);
#endif

/* What is broken is no such thing: a bit less. */
#ifdef BROKEN_assign_release
#define OF_PUBLISH 0
#elif defined(REMOVES) || defined(CALLBACK)
#define OF_PUBLISH 0
#else
#define OF_PUBLISH bit_of(PUBLISH)
#endif
#ifdef BROKEN_gp_fence
#define OF_GP_FENCE 0
#else
#define OF_GP_FENCE bit_of(GP_FENCE)
#endif
#ifdef BROKEN_gp_start_fence
#define OF_START_FENCE 0
#else
#define OF_START_FENCE bit_of(START_FENCE)
#endif
#ifdef BROKEN_gp_end_fence
#define OF_END_FENCE 0
#else
#define OF_END_FENCE bit_of(END_FENCE)
#endif
#ifdef BROKEN_start_release
#define OF_START 0
#else
#define OF_START bit_of(START)
#endif
#ifdef BROKEN_look_acquire
#define OF_LOOK 0
#else
#define OF_LOOK bit_of(LOOK)
#endif
#ifdef BROKEN_seq_release
#define OF_END 0
#else
#define OF_END bit_of(SEQ_END)
#endif
#ifdef BROKEN_seq_acquire
#define OF_DONE 0
#else
#define OF_DONE bit_of(DONE)
#endif
#ifdef BROKEN_done_release
#define OF_COUNT_DONE 0
#else
#define OF_COUNT_DONE bit_of(COUNT_DONE)
#endif
#if !defined(CALLBACK) || defined(BROKEN_chain_acquire)
#define OF_TAKE_LOAD 0
#define OF_TAKE 0
#else
#define OF_TAKE_LOAD bit_of(TAKE_LOAD)
#define OF_TAKE bit_of(TAKE)
#endif
#define C_FENCES (OF_GP_FENCE | OF_START_FENCE | OF_END_FENCE)
#define C_LOADS (OF_TAKE_LOAD | bit_of(SNAP) | bit_of(CALLERS_LOAD) | OF_LOOK | OF_DONE)
#define C_ACQUIRE (C_FENCES | C_LOADS)
#define C_RELEASE (C_FENCES | OF_PUBLISH | OF_TAKE | bit_of(CALLERS) | OF_START | OF_END | OF_COUNT_DONE)
#define C(x) may(caller, x, C_ACQUIRE, C_RELEASE, C_LOADS)
#define CALL(x) caller = caller | bit_of(x)
#define was_called(x) has_done(caller, x)
#define L(x) may(leader, x, C_ACQUIRE, C_RELEASE, C_LOADS)
#define LEAD(x) leader = leader | bit_of(x)
#define was_led(x) has_done(leader, x)

/* Flavour::run */
#define GRACE_PERIOD \
	:: d_step { L(START) -> LEAD(START); seq++ } \
	:: d_step { L(START_FENCE) -> LEAD(START_FENCE) } \
	:: d_step { L(LOOK) && count == 0 -> LEAD(LOOK) } \
	/* Of the same place as the start. */ \
	:: d_step { L(SEQ_END) && was_led(START) -> LEAD(SEQ_END); seq++ }

proctype Caller()
{
	do
#ifdef CALLBACK
	:: d_step { C(TAKE_LOAD) && chain -> CALL(TAKE_LOAD) }
	:: d_step { C(TAKE) && was_called(TAKE_LOAD) -> CALL(TAKE) }
#else
	:: d_step { C(INITIALISE) -> CALL(INITIALISE); initialised = 1 }
	:: d_step { C(PUBLISH) -> CALL(PUBLISH); current_version = 1 }
#endif
	:: d_step { C(GP_FENCE) -> CALL(GP_FENCE) }
	:: d_step { C(SNAP) -> CALL(SNAP); goal = (seq + 3) & 254 }
	:: d_step { C(CALLERS_LOAD) -> CALL(CALLERS_LOAD) }
	:: d_step { C(CALLERS) && was_called(CALLERS_LOAD) -> CALL(CALLERS) }
#ifdef LEADS
	GRACE_PERIOD
#else
	:: d_step { C(DONE) && was_called(SNAP) && seq >= goal -> CALL(DONE) }
#endif
	:: d_step { C(END_FENCE) -> CALL(END_FENCE) }
#ifdef CALLBACK
	/* By the pointer that was taken off the chain: a dependency. */
	:: d_step { C(LOAD) && was_called(TAKE_LOAD) ->
		CALL(LOAD);
#ifndef USED
		assert(argument)
#endif
		}
	:: d_step { C(RECLAIM) && was_called(LOAD) && was_called(DONE) -> CALL(RECLAIM); called = 1; reclaimed = 1 }
	:: d_step { C(COUNT_DONE) -> CALL(COUNT_DONE); is_done = 1 }
#else
	:: d_step { C(LOAD) -> CALL(LOAD); sees_stored = stored }
	/* What frees is called when this has returned. */
	:: d_step { C(RECLAIM) && was_called(DONE) && was_called(SEQ_END) -> CALL(RECLAIM); reclaimed = 1 }
#endif
	:: caller == ALL -> break
	od;
	/* What an old section stored is seen. */
#if !defined(USED) && !defined(CALLBACK)
	assert(!(was_read(R_POINTER) && version == 0) || sees_stored)
#endif
}

#ifndef LEADS
/* One grace period, perhaps before the caller comes, and as many as it needs afterwards: if it comes in the middle
 * of one, the next too. */
proctype Leader()
{
	do
	GRACE_PERIOD
	:: d_step { leader == below(DONE) && was_called(SNAP) && !was_called(DONE) -> leader = below(START) }
	:: leader == below(DONE) && was_called(DONE) -> break
	od
}
#endif

#ifdef CALLBACK
/* ---- call_rcu(), after an update ---- */
#define P_UPDATE 0
#define P_ARGUMENT 1
#define P_LOAD 2	/* Chain::put: the compare-exchange */
#define P_PUT 3
#define P_ALL 15
byte putter;
#ifdef BROKEN_chain_release
#define P_RELEASE 0
#else
#define P_RELEASE bit_of(P_PUT)
#endif
#define P(x) may(putter, x, bit_of(P_LOAD), P_RELEASE, bit_of(P_LOAD))
#define PUT(x) putter = putter | bit_of(x)

proctype Putter()
{
	do
	:: d_step { P(P_UPDATE) -> PUT(P_UPDATE); initialised = 1; current_version = 1 }
	:: d_step { P(P_ARGUMENT) -> PUT(P_ARGUMENT); argument = 1 }
	:: d_step { P(P_LOAD) -> PUT(P_LOAD) }
	:: d_step { P(P_PUT) && has_done(putter, P_LOAD) -> PUT(P_PUT); chain = 1 }
	:: putter == P_ALL -> break
	od
}

/* ---- rcu_barrier(): the count, then what the callback did ---- */
#define B_DONE 0
#define B_LOAD 1
#define B_ALL 3
byte barrier;
#ifdef BROKEN_done_acquire
#define B_ACQUIRE 0
#else
#define B_ACQUIRE bit_of(B_DONE)
#endif
#define B(x) may(barrier, x, B_ACQUIRE, 0, B_ACQUIRE)

proctype Barrier()
{
	bit sees_called;
	do
	:: d_step { B(B_DONE) && is_done -> barrier = barrier | bit_of(B_DONE) }
	:: d_step { B(B_LOAD) -> barrier = barrier | bit_of(B_LOAD); sees_called = called }
	:: barrier == B_ALL -> break
	od;
#ifndef USED
	assert(sees_called)
#endif
}
#endif

init {
	atomic {
		run Reader();
#ifdef CALLBACK
		run Putter();
		run Barrier();
#endif
#ifndef LEADS
		run Leader();
#endif
		run Caller()
	}
}
