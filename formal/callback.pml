/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Callbacks: src/callback/, src/worker.rs and src/chain.rs: a shard's chain, whose putting falls back to
 * an exchange that cuts it for a moment (CHAIN-PUT), the worker that takes all off, waits for a grace
 * period and calls, in order; its sleep (WAKE); and rcu_barrier() (DONE). Naps are sleeps. All that
 * is shared here is locked, or stored by the worker alone and released; the link is stored plainly by
 * who puts, and acquired by who takes: so order is the program's, and no buffers are modelled.
 */
#ifndef PUTTERS
#define PUTTERS 2
#endif
#define HEADS PUTTERS
#define END 9
#define NONE 0
#define AWAKE 0
#define SLEEPS 1

byte head = END, link[HEADS + 1];
byte queued, done, rest, rounds, sleepers;
byte called[HEADS + 1];
bit worker_asleep, barrier_asleep, barrier_done;
/* The grace period: the section that is old for a callback is open while its head is not yet covered. */
bit old_ended[HEADS + 1], put[HEADS + 1];
/* Its call_rcu() has returned. */
bit returned[HEADS + 1];

inline wake()
{
	/* Worker::wake. WAKE: the put, a full fence, then whether it sleeps. */
	if
	:: rest == SLEEPS ->
		d_step { was = rest; rest = AWAKE };
		if :: was == SLEEPS -> worker_asleep = 0 :: else fi;
		was = 0
	:: else
	fi
}

proctype Putter(byte item)
{
	byte seen, was;
#ifdef BROKEN_wake_order
	wake();
#endif
	queued++;
	put[item] = 1;
	seen = head;
	if
	:: true ->
		link[item] = seen;
		/* A compare-exchange that succeeds, */
		if
#ifdef BROKEN_chain_put
		:: head = item
#else
		:: d_step { head == seen -> head = item }
#endif
		:: d_step { head != seen -> link[item] = NONE } -> goto exchange
		fi
	:: true ->
		/* or all attempts are lost: */
exchange:
		link[item] = NONE;
		d_step { seen = head; head = item };
		link[item] = seen
	fi;
#ifndef BROKEN_wake_order
	wake();
#endif
	returned[item] = 1
}

/* One round: Flavour::advance. */
proctype Worker()
{
	byte at, first, next, i;
	bit covers[HEADS + 1];
	do
	:: head != END ->
#ifdef BROKEN_callback_cookie
		atomic { i = 1; do :: i <= HEADS -> covers[i] = put[i]; i++ :: else -> break od; i = 0 };
#endif
		/* Chain::take, and the order turned round: Callbacks::collect. */
#ifdef BROKEN_chain_take
		at = head;
		head = END;
#else
		d_step { at = head; head = END };
#endif
		first = END;
		do
		:: at == END -> break
		:: else ->
#ifndef BROKEN_chain_cut
			link[at] != NONE;
#endif
			next = link[at];
			d_step { link[at] = first; first = at; at = next; next = 0 }
		od;
#ifndef BROKEN_callback_grace_period
		/* A cookie, after the taking; then its grace period. */
#ifndef BROKEN_callback_cookie
		atomic { i = 1; do :: i <= HEADS -> covers[i] = put[i]; i++ :: else -> break od; i = 0 };
#endif
		atomic {
			i = 1;
			do :: i <= HEADS -> old_ended[i] = old_ended[i] | covers[i]; covers[i] = 0; i++
			:: else -> break od;
			i = 0
		};
#endif
		do
		:: first == END -> break
		:: else ->
			assert(first != NONE);
			assert(old_ended[first]);
			next = link[first];
#ifdef BROKEN_done_order
			done++;
#endif
			d_step { assert(called[first] == 0); called[first] = 1 };
#ifndef BROKEN_done_order
			/* DONE: after the callback has returned. */
			done++;
#endif
			d_step { first = next; next = 0 }
		od;
		first = 0; at = 0;
		rounds++;
		if
		:: sleepers != 0 -> barrier_asleep = 0
		:: else
		fi
	:: head == END ->
		/* Worker::rest. WAKE: it says that it sleeps, a full fence, then looks. */
#ifdef BROKEN_rest_order
		if
		:: head == END -> rest = SLEEPS; d_step { if :: rest == SLEEPS -> worker_asleep = 1 :: else fi }
#else
		rest = SLEEPS;
		if
		:: head == END -> d_step { if :: rest == SLEEPS -> worker_asleep = 1 :: else fi }
#endif
		:: else
		fi;
end:		!worker_asleep;
		rest = AWAKE
	od
}

/* rcu_barrier() */
proctype Barrier()
{
	byte goal, seen, was, i;
	bit before[HEADS + 1];
	atomic { i = 1; do :: i <= HEADS -> before[i] = returned[i]; i++ :: else -> break od; i = 0 };
	goal = queued;
	do
	:: true ->
		seen = rounds;
#ifdef BROKEN_callback_barrier
		break;
#endif
		if
		:: done >= goal -> break
		:: else
		fi;
		sleepers++;
		wake();
		d_step { if :: rounds == seen -> barrier_asleep = 1 :: else fi };
		!barrier_asleep;
		sleepers--
	od;
	i = 1;
	do :: i <= HEADS -> assert(!before[i] || called[i]); i++ :: else -> break od;
	barrier_done = 1
}

#define GOAL (barrier_done && done == PUTTERS)
#include "progress.h"

/* At the end of everything nothing is left on the chain, nor asleep beside work. */
proctype End()
{
end:	timeout;
	assert(head == END && barrier_done && done == queued)
}

init {
	atomic {
		byte n = 1;
		run Worker();
#ifdef LIVE
		WITNESS;
#else
		run End();
#endif
		run Barrier();
		do :: n <= PUTTERS -> run Putter(n); n++ :: else -> break od
	}
}
