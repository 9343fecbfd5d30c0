/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The waiter: Flavour::run of src/grace_period.rs, src/straggler.rs, Roster of src/registry.rs.
 *
 * Left to chance, which covers whatever the library decides by: for how many grace periods a reader was
 * quiet, how long stragglers are sampled, in how many rounds they are flagged.
 */
#define QUIESCENT 0
#define HOLDOUT 1
#define STRAGGLER 2

bit parking[NR], straggler[NR], asked[NR];
/* Where a look at the reader's state was made before it was asked. */
bit w_fresh;
byte tag, w_nesting, w_settled, w_mark, w_look;

#define touch(r) assert(!is_gone[r])

/* heavy_barrier(): a point P of each thread, in any order relative to all else. BARRIER. */
inline heavy_barrier() {
#ifndef BROKEN_heavy_barrier
	waiter_fence();
	point(0);
#if NR > 1
	point(1);
#endif
	waiter_fence()
#else
	skip
#endif
}

/* Flavour::ask */
inline ask(r) {
	if
	:: !asked[r] ->
		d_step { asked[r] = 1; holdouts++ };
		d_step {
			touch(r);
			if
			:: request[r] != 0 -> assert(holdouts > 0); holdouts--
			:: else
			fi;
			request[r] = tag
		}
	:: else
	fi
}

/* Flavour::withdraw */
inline withdraw(r) {
	if
	:: asked[r] ->
		d_step {
			touch(r);
			w_fresh = (request[r] == tag);
			if :: w_fresh -> request[r] = 0 :: else fi
		};
#ifdef BROKEN_withdraw_exchange
		w_fresh = 1;
#endif
		d_step { if :: w_fresh -> assert(holdouts > 0); holdouts-- :: else fi; w_fresh = 0 }
	:: else
	fi
}

/* Flavour::look */
inline look(r) {
	w_look = STRAGGLER;
	touch(r);
	if
	:: asked[r] && request[r] != tag -> w_look = QUIESCENT
	:: else ->
		/* JOIN: a reader that is REGISTERED has cleared the flag of its birth. */
		waiter_reads_mark(r);
		d_step { waiter_reads_word(r) };
		if
		/* BROKEN_outside: nobody is found outside, and what is sampled never ends. */
#ifndef BROKEN_outside
		:: w_nesting == 0 || w_mark != REGISTERED -> withdraw(r); w_look = QUIESCENT
#endif
		/* FLAG-REQUEST, REMOTE-FLAG */
		:: w_nesting != 0 && w_mark == REGISTERED && asked[r] && !w_settled ->
			w_look = HOLDOUT
		:: else
		fi
	fi;
	d_step { w_nesting = 0; w_settled = 0; w_mark = 0 }
}

/* A holdout is promised to report at the end of its section. */
inline becomes_holdout(r) {
	d_step { if :: request[r] == tag -> owed[r] = tag :: else fi }
}

/* Flavour::try_park, without the entry's removal: w_look says whether. */
inline try_park(r) {
	d_step {
		touch(r);
		waiter_reads_word(r);
#ifdef BROKEN_park_unflagged
		w_look = (w_nesting == 0);
#else
		w_look = (w_nesting == 0 && !w_settled);
#endif
		w_nesting = 0; w_settled = 0
	};
	if
	:: w_look ->
		d_step { w_look = (mark[r] == REGISTERED); if :: w_look -> mark[r] = PARKED :: else fi };
		if
		:: w_look ->
			/* PARK: the mark, a full fence, then the word. */
			waiter_fence();
#if defined(BROKEN_park_unflagged) || defined(BROKEN_park_waiter_order)
			skip
#else
			d_step {
				waiter_reads_word(r);
				w_look = (w_nesting == 0 && !w_settled);
				w_nesting = 0; w_settled = 0
			};
			if
			:: !w_look ->
				/* unpark() */
				d_step {
					w_look = (mark[r] != PARKED);
					if :: !w_look -> mark[r] = REGISTERED :: else fi
				}
			:: else
			fi
#endif
		:: else
		fi
	:: else
	fi
}

/* Flavour::glance */
inline glance(r) {
	if
	:: !listed[r]
#ifdef PARK
	:: listed[r] -> touch(r); parking[r] = 1; waiter_flags(r)
#endif
	:: listed[r] ->
		touch(r);
		waiter_reads_mark(r);
		d_step { waiter_reads_word(r) };
		if
		:: w_mark == REGISTERED && w_nesting != 0 -> ask(r); waiter_flags(r)
		:: else
		fi
	:: listed[r]
	fi;
	d_step { w_nesting = 0; w_settled = 0; w_mark = 0 }
}

/* Flavour::snapshot */
inline snapshot(r) {
	if
	:: listed[r] && parking[r] ->
		parking[r] = 0;
		try_park(r);
		if :: w_look -> listed[r] = 0 :: else fi;
		w_look = 0
	:: else
	fi;
	if
	:: listed[r] ->
		waiter_reads_mark(r);
		if
		:: w_mark == PARKED -> w_mark = 0; withdraw(r); listed[r] = 0
		:: else ->
			w_mark = 0;
			look(r);
			straggler[r] = (w_look == STRAGGLER);
			if :: w_look == HOLDOUT -> becomes_holdout(r) :: else fi;
			w_look = 0
		fi
	:: else
	fi
}

/* Flavour::settle, of one reader */
inline settle(r) {
	look(r);
	if
	:: w_look == STRAGGLER
	:: else ->
		straggler[r] = 0;
		if :: w_look == HOLDOUT -> becomes_holdout(r) :: else fi
	fi;
	w_look = 0
}

/* Flavour::flag_once, of one reader. REMOTE-FLAG: the flag, a barrier, and the flag looked for again. */
inline flag_once(r) {
	ask(r);
	waiter_flags(r);
#ifdef BROKEN_flag_recheck
	straggler[r] = 0;
	heavy_barrier();
#else
#ifndef BROKEN_flag_barrier
	heavy_barrier();
#endif
	settle(r)
#endif
}

/* ipi::send */
inline send(r, what) {
	touch(r);
	d_step { waiter_drains(); ipi[r] = what; sent[r] = tag };
	signalled[r] = 1
}

/*
 * How long the library samples and flags is bounded by time, and time is not modelled: at chance where
 * sections end by themselves, and a number of rounds where a grace period must end though sections never cease.
 */
#ifdef ENDLESS
#define MAY_SAMPLE (samples > 0)
#define SAMPLED samples--
#else
#define MAY_SAMPLE true
#define SAMPLED skip
#endif

/* Flavour::settle_stragglers, of one reader */
inline settle_straggler(r) {
#ifdef ENDLESS
	samples = ENDLESS;
#endif
	do
	:: !straggler[r] -> break
	/* Sampled. */
	:: straggler[r] && MAY_SAMPLE -> SAMPLED; settle(r)
	/* Flagged: in mode membarrier for ever, in mode auto for some rounds. */
	:: straggler[r] && MAY_SAMPLE -> SAMPLED; flag_once(r)
#if MODE == AUTO
	/* Interrupted. */
	:: straggler[r] ->
		w_fresh2 = !asked[r];
#ifdef BROKEN_fresh_request
		w_fresh2 = 0;
#endif
		ask(r);
		look(r);
		if
		:: w_look == STRAGGLER || (w_look == HOLDOUT && w_fresh2) -> send(r, SENT)
		:: else
		fi;
		d_step { w_look = 0; w_fresh2 = 0; straggler[r] = 0 }
#endif
	od
}

/* Flavour::interrupt_everybody, of one reader */
inline interrupt(r) {
	touch(r);
	waiter_reads_mark(r);
	if
	:: w_mark == REGISTERED ->
		w_mark = 0;
		ask(r);
		if
		:: send(r, SENT)
#ifdef PARK
		:: send(r, SENT_MAY_PARK)
#endif
		fi
	:: w_mark == PARKED -> w_mark = 0; withdraw(r); listed[r] = 0
	:: else -> w_mark = 0; withdraw(r)
	fi
}

/* Transient::wait */
inline transient_wait() {
#ifndef BROKEN_transient_wait
	if
	:: sides[0] == 0 ->
		if
		:: sides[1] == 0
		:: else -> goto wait
		fi
	:: else ->
wait:
		w_side = current_side;
#ifndef BROKEN_transient_other_side
		sides[1 - w_side] == 0;
#endif
#ifndef BROKEN_transient_turn
		current_side = 1 - w_side;
#endif
#ifndef BROKEN_transient_current_side
		sides[w_side] == 0;
#endif
		w_side = 0
	fi
#else
	skip
#endif
}

#if NR > 1
#define EACH(what) what(0); what(1)
#define SOME_LISTED (listed[0] || listed[1])
#else
#define EACH(what) what(0)
#define SOME_LISTED (listed[0])
#endif

inline forget_asked(r) { asked[r] = 0; straggler[r] = 0 }
inline interrupt_listed(r) { if :: listed[r] -> interrupt(r) :: else fi }

/* Flavour::run */
inline grace_period() {
	/* GP-START: the updates, a full fence, then the counts and the chain. */
	current_version++;
	waiter_fence();
#ifndef BROKEN_request_tag
	tag++;
#endif
#ifdef BROKEN_newcomers_order
	admit();
#endif
	transient_wait();
	holdouts++;
	d_step { !registry_lock -> registry_lock = 1 };
#if !defined(BROKEN_newcomers) && !defined(BROKEN_newcomers_order)
	admit();
#endif
	d_step { EACH(forget_asked) };
	if
#ifdef BROKEN_alone
	:: true -> skip
#else
	:: !SOME_LISTED
#endif
	:: SOME_LISTED ->
#if MODE == SIGNAL
		EACH(interrupt_listed);
#else
		EACH(glance);
		heavy_barrier();
		EACH(snapshot);
		EACH(settle_straggler);
#endif
	fi;
	registry_lock = 0;
	d_step { assert(holdouts > 0); holdouts-- };
	/* Flavour::await_holdouts: REPORT. How it sleeps: countdown.pml. */
	holdouts == 0;
	waiter_fence();
	d_step {
		EACH(forget_asked);
		reclaimed++
	}
}

proctype Waiter()
{
	byte taken, next, w_side, left = GPS;
	bit w_fresh2;
#ifdef ENDLESS
	byte samples;
#endif
	do
	:: left > 0 -> left--; grace_period()
	:: else -> break
	od;
	/* What ends, for liveness. */
progress:
end:	false
}
