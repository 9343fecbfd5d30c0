/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Batching: Flavour::synchronize_here of src/grace_period.rs and src/seq.rs: callers elect a leader, share
 * its grace period (SEQ), and none sleeps past its own (LEADER). A polled cookie is a caller that does
 * not wait. The priority-inheriting way to lead and the yields before sleep are left out: they go
 * back to the same loop. A grace period covers what was updated before its barrier, as reader.pml has it.
 */
#ifndef CALLERS
#define CALLERS 3
#endif
#define START 250	/* a sequence that wraps, even */

byte seq = START, leader, ended, sleepers;
bit updated[CALLERS];		/* the caller's update was made */
bit covered[CALLERS];		/* a full grace period began after it and has ended */
bit in_sight[CALLERS];		/* it came before the grace period that runs */
bit asleep[CALLERS];
byte periods, returned;

#define done(goal) (((seq - goal) & 255) < 128)
#ifdef BROKEN_cookie
#define SNAP 2
#else
#define SNAP 3
#endif

inline wake_all()
{
	d_step {
		i = 0;
		do :: i < CALLERS -> asleep[i] = 0; i++ :: else -> break od;
		i = 0
	}
}

inline run_grace_period()
{
#ifndef BROKEN_start_order
	d_step { seq = seq + 1; periods++ };
#endif
	d_step {
		i = 0;
		do :: i < CALLERS -> in_sight[i] = updated[i]; i++ :: else -> break od;
		i = 0
	};
#ifdef BROKEN_start_order
	d_step { seq = seq + 1; periods++ };
#endif
#ifdef BROKEN_end_order
	seq = seq + 1;
#endif
	d_step {
		i = 0;
		do :: i < CALLERS -> covered[i] = covered[i] | in_sight[i]; i++ :: else -> break od;
		i = 0
	}
#ifndef BROKEN_end_order
	;
	seq = seq + 1
#endif
}

proctype Caller(byte me)
{
	byte goal, seen, i;
	bit got, led;
#ifdef BROKEN_snap_first
	goal = (seq + SNAP) & 254;
	updated[me] = 1;
#else
	updated[me] = 1;
	/* A full fence, then the snapshot. */
	goal = (seq + SNAP) & 254;
#endif
	do
	:: true ->
#ifndef BROKEN_leader_sleep_order
		seen = ended;
#endif
		if
		:: done(goal) -> break
		:: else
		fi;
		atomic { got = (leader == 0); if :: got -> leader = me + 1 :: else fi };
		if
		:: got ->
			led = !done(goal);
			if :: led -> run_grace_period() :: else fi;
#ifdef BROKEN_leader_end_order
			ended++;
			leader = 0;
#else
			/* LEADER: first the lock, then the count. */
			leader = 0;
			ended++;
#endif
			if
#ifdef BROKEN_leader_wake
			:: sleepers != 0
#else
			:: sleepers != 0 -> wake_all()
#endif
			:: else
			fi;
			if :: led -> break :: else fi
		:: else ->
#ifdef BROKEN_leader_sleep_order
			seen = ended;
#endif
#ifndef BROKEN_sleepers
			sleepers++;
#endif
			d_step { if :: ended == seen -> asleep[me] = 1 :: else fi };
			!asleep[me];
#ifndef BROKEN_sleepers
			sleepers--
#else
			skip
#endif
		fi
	od;
	/* What poll() finds done, and what synchronize() returns from, has been waited for. */
	assert(covered[me]);
	/* N callers that came at once share: a caller waits for two grace periods at most. */
	assert(periods <= CALLERS);
	returned++
}

/* get_state_synchronize_rcu() and poll_state_synchronize_rcu() */
#ifdef POLLED
proctype Poller()
{
	byte goal;
	updated[CALLERS - 1] = 1;
	goal = (seq + SNAP) & 254;
end:	done(goal);
	assert(covered[CALLERS - 1])
}
#endif

#ifdef POLLED
#define GOAL (returned == CALLERS - 1)
#else
#define GOAL (returned == CALLERS)
#endif
#include "progress.h"

init {
	atomic {
		byte n = 0;
		WITNESS;
#ifdef POLLED
		run Poller();
		do :: n < CALLERS - 1 -> run Caller(n); n++ :: else -> break od
#else
		do :: n < CALLERS -> run Caller(n); n++ :: else -> break od
#endif
	}
}
