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

bit parking[ENTRIES], straggler[ENTRIES], asked[ENTRIES];
/* Where a look at the reader's state was made before it was asked. */
bit w_fresh;
byte tag, w_nesting, w_settled, w_mark, w_look;

#define touch(e) assert(!is_gone[OF(e)])

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
inline ask(e) {
	if
	:: !asked[e] ->
		d_step { asked[e] = 1; holdouts++ };
		d_step {
			touch(e);
			if
			:: request[OF(e)] != 0 -> assert(holdouts > 0); holdouts--
			:: else
			fi;
			request[OF(e)] = tag
		}
	:: else
	fi
}

/* Flavour::withdraw */
inline withdraw(e) {
	if
	:: asked[e] ->
		d_step {
			touch(e);
			w_fresh = (request[OF(e)] == tag);
			if :: w_fresh -> request[OF(e)] = 0 :: else fi
		};
#ifdef BROKEN_withdraw_exchange
		w_fresh = 1;
#endif
		d_step { if :: w_fresh -> assert(holdouts > 0); holdouts-- :: else fi; w_fresh = 0 }
	:: else
	fi
}

/* Flavour::look */
inline look(e) {
	w_look = STRAGGLER;
	touch(e);
	if
	:: asked[e] && request[OF(e)] != tag -> w_look = QUIESCENT
	:: else ->
		/* JOIN: a reader that is REGISTERED has cleared the flag of its birth. */
		waiter_reads_mark(OF(e));
		waiter_reads_word(OF(e));
		if
		/* BROKEN_outside: nobody is found outside, and what is sampled never ends. */
#ifndef BROKEN_outside
		:: w_nesting == 0 || w_mark != REGISTERED -> withdraw(e); w_look = QUIESCENT
#endif
		/* FLAG-REQUEST, REMOTE-FLAG */
		:: w_nesting != 0 && w_mark == REGISTERED && asked[e] && !w_settled ->
			w_look = HOLDOUT
		:: else
		fi
	fi;
	d_step { w_nesting = 0; w_settled = 0; w_mark = 0 }
}

/* A holdout is promised to report at the end of its section. */
inline becomes_holdout(e) {
	d_step { if :: request[OF(e)] == tag -> owed[OF(e)] = tag :: else fi }
}

/* Flavour::try_park, without the entry's removal: w_look says whether. */
inline try_park(e) {
	touch(e);
	waiter_reads_word(OF(e));
	d_step {
#ifdef BROKEN_park_unflagged
		w_look = (w_nesting == 0);
#else
		w_look = (w_nesting == 0 && !w_settled);
#endif
		w_nesting = 0; w_settled = 0
	};
	if
	:: w_look ->
		d_step { w_look = (mark[OF(e)] == REGISTERED); if :: w_look -> mark[OF(e)] = TAKEN_OUT :: else fi };
		if
		:: w_look ->
			/* PARK: the mark, a full fence, then the word. */
			waiter_fence();
#if defined(BROKEN_park_unflagged) || defined(BROKEN_park_waiter_order)
			skip
#else
			waiter_reads_word(OF(e));
			d_step {
				w_look = (w_nesting == 0 && !w_settled);
				w_nesting = 0; w_settled = 0
			};
			if
			:: !w_look ->
				/* put_back() */
				d_step {
					w_look = (mark[OF(e)] != TAKEN_OUT);
					if :: !w_look -> mark[OF(e)] = REGISTERED :: else fi
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
inline glance(e) {
	if
	:: !listed[e]
#ifdef PARK
	:: listed[e] -> touch(e); parking[e] = 1; waiter_flags(OF(e))
#endif
	:: listed[e] ->
		touch(e);
		waiter_reads_mark(OF(e));
		waiter_reads_word(OF(e));
		if
		:: w_mark == REGISTERED && w_nesting != 0 -> ask(e); waiter_flags(OF(e))
		:: else
		fi
	:: listed[e]
	fi;
	d_step { w_nesting = 0; w_settled = 0; w_mark = 0 }
}

/* Flavour::snapshot */
inline snapshot(e) {
	if
	:: listed[e] && parking[e] ->
		parking[e] = 0;
		try_park(e);
		if
		:: w_look ->
			w_look = 0;
			/* A mark that was left: this grace period may have asked. */
#ifndef BROKEN_park_withdraw
			withdraw(e);
#endif
			listed[e] = 0
		:: else
		fi
	:: else
	fi;
	if
	:: listed[e] ->
		waiter_reads_mark(OF(e));
		if
		:: IS_PARKED(w_mark) -> w_mark = 0; withdraw(e); listed[e] = 0
		:: else ->
			w_mark = 0;
			look(e);
			straggler[e] = (w_look == STRAGGLER);
			if :: w_look == HOLDOUT -> becomes_holdout(e) :: else fi;
			w_look = 0
		fi
	:: else
	fi
}

/* Flavour::settle, of one reader */
inline settle(e) {
	look(e);
	if
	:: w_look == STRAGGLER
	:: else ->
		straggler[e] = 0;
		if :: w_look == HOLDOUT -> becomes_holdout(e) :: else fi
	fi;
	w_look = 0
}

/* Flavour::flag_once, of one reader. REMOTE-FLAG: the flag, a barrier, and the flag looked for again. */
inline flag_once(e) {
	ask(e);
	waiter_flags(OF(e));
#ifdef BROKEN_flag_recheck
	straggler[e] = 0;
	heavy_barrier();
#else
#ifndef BROKEN_flag_barrier
	heavy_barrier();
#endif
	settle(e)
#endif
}

/* ipi::send */
inline send(e, what) {
	touch(e);
#ifdef BROKEN_ipi_order
	signalled[OF(e)] = 1;
	d_step { waiter_drains(); ipi[OF(e)] = what; sent[OF(e)] = tag }
#else
	d_step { waiter_drains(); ipi[OF(e)] = what; sent[OF(e)] = tag };
	signalled[OF(e)] = 1
#endif
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
inline settle_straggler(e) {
#ifdef ENDLESS
	samples = ENDLESS;
#endif
	do
	:: !straggler[e] -> break
	/* Sampled. */
	:: straggler[e] && MAY_SAMPLE -> SAMPLED; settle(e)
	/* Flagged: in mode membarrier for ever, in mode auto for some rounds. */
	:: straggler[e] && MAY_SAMPLE -> SAMPLED; flag_once(e)
#if MODE == AUTO || MODE == MIXED
	/* Interrupted. */
	:: straggler[e] ->
		w_fresh2 = !asked[e];
#ifdef BROKEN_fresh_request
		w_fresh2 = 0;
#endif
		ask(e);
		look(e);
		if
		:: w_look == STRAGGLER || (w_look == HOLDOUT && w_fresh2) -> send(e, SENT)
		:: else
		fi;
		d_step { w_look = 0; w_fresh2 = 0; straggler[e] = 0 }
#endif
	od
}

/* Flavour::interrupt_everybody, of one reader */
inline interrupt(e) {
	touch(e);
#ifndef BROKEN_park_stale
	parking[e] = 0;
#endif
	waiter_reads_mark(OF(e));
	if
	:: w_mark == REGISTERED ->
		w_mark = 0;
		ask(e);
		if
		:: send(e, SENT)
#ifdef PARK
		:: send(e, SENT_MAY_PARK)
#endif
		fi
	:: IS_PARKED(w_mark) -> w_mark = 0; withdraw(e); listed[e] = 0
	:: else -> w_mark = 0; withdraw(e)
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

#if ENTRIES > 1
#define EACH(what) what(0); what(1)
#define SOME_LISTED (listed[0] || listed[1])
#else
#define EACH(what) what(0)
#define SOME_LISTED (listed[0])
#endif

inline forget_asked(e) {
	straggler[e] = 0;
#ifdef BROKEN_request_tag
	skip
#else
	asked[e] = 0
#endif
}
inline interrupt_listed(e) { if :: listed[e] -> interrupt(e) :: else fi }

/* Flavour::rescue, of one reader: its patience has ended, and it may have at any moment. */
inline find_silent(e) {
	if
	:: listed[e] && asked[e] && request[OF(e)] == tag ->
		waiter_reads_word(OF(e));
		d_step { straggler[e] = !(w_nesting != 0 && !w_settled); w_nesting = 0; w_settled = 0 }
	:: else
	fi
}
inline settle_silent(e) { if :: straggler[e] -> settle(e) :: else fi }
inline flag_silent(e) {
	do
	:: straggler[e] -> flag_once(e)
	:: !straggler[e] -> break
	od
}
inline rescue() {
	d_step { !registry_lock -> registry_lock = 1 };
	EACH(find_silent);
	heavy_barrier();
	EACH(settle_silent);
	EACH(flag_silent);
	registry_lock = 0
}

/* Flavour::await_holdouts: REPORT. How it sleeps: countdown.pml. */
inline await_holdouts() {
#if defined(RESCUE) && !defined(BROKEN_rescue)
	do
	:: holdouts == 0 -> break
	:: holdouts != 0 -> rescue()
	od;
#else
	holdouts == 0;
#endif
	waiter_fence()
}

inline signal_everybody() { EACH(interrupt_listed) }
inline after_the_barrier() {
	heavy_barrier();
	EACH(snapshot);
	EACH(settle_straggler)
}

/* Flavour::run */
inline grace_period() {
	/* GP-START: the updates, a full fence, then the counts and the chain. */
	current_version++;
	waiter_fence();
#ifdef BROKEN_request_tag
	tag = 1;
#else
	tag++;
#endif
#ifdef BROKEN_newcomers_order
	admit();
#endif
	transient_wait();
#ifndef BROKEN_holdouts_own
	holdouts++;
#endif
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
		signal_everybody()
#else
#if MODE == MIXED
		/* The mode is switched, and a barrier may be refused. */
		if
		:: EACH(glance)
		:: skip
		fi;
		if
		:: after_the_barrier()
		:: signal_everybody()
		fi
#else
		EACH(glance);
		after_the_barrier()
#endif
#endif
	fi;
	registry_lock = 0;
#ifndef BROKEN_holdouts_own
	d_step { assert(holdouts > 0); holdouts-- };
#endif
	await_holdouts();
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
	finished = 1;
end:	false
}
