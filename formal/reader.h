/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The read side: src/reader.rs, src/ipi/signal.rs, and what they call of src/registry.rs and
 * src/transient.rs. Each line is one instruction that another thread or a signal handler can come
 * before or after. BROKEN_NAME is the library's cfg!(broken = "NAME").
 */
#define NEW 0
#define JOINING 1
#define REGISTERED 2
#define PARKED 3
#define LEAVING 4
#ifdef BROKEN_park_marks
#define TAKEN_OUT PARKED
#else
#define TAKEN_OUT 5
#endif
#define IS_PARKED(mark) ((mark) == PARKED || (mark) == TAKEN_OUT)

#define SENT 1
#define SENT_MAY_PARK 2

/* What was promised is done: for the assertion in unlock() alone. */
inline kept(r) { if :: got == owed[r] -> owed[r] = 0 :: else fi }

/* Reader::report */
inline report(r) {
	load_request(r, got);
	if
	:: got == 0
	:: else ->
#ifdef BROKEN_report_exchange
		d_step { locked(r); got = request[r] };
		d_step { locked(r); request[r] = 0; kept(r) };
#else
		d_step { locked(r); got = request[r]; request[r] = 0; kept(r) };
#endif
		if
		:: got == 0
		/* REPORT: a full fence, before the count. */
		:: else -> d_step { locked(r); assert(holdouts > 0); holdouts--; got = 0 }
		fi
	fi
}

/* Transient::enter. TRANSIENT: locked, so a full fence before the section's loads. */
inline transient_enter(r) {
	if
	:: counted[r] != 0
	:: counted[r] == 0 ->
		side = current_side;
#ifdef BROKEN_count_atomic
		got = sides[side];
		d_step { locked(r); sides[side] = got + 1; got = 0 };
#else
		d_step { locked(r); sides[side]++ };
#endif
		if
#ifdef BROKEN_counted_claim
		:: d_step { locked(r); counted[r] = side + 1; side = 0 }
#else
		:: d_step { counted[r] == 0 -> locked(r); counted[r] = side + 1; side = 0 }
		:: d_step { counted[r] != 0 -> locked(r); assert(sides[side] > 0); sides[side]--; side = 0 }
#endif
		fi
	fi
}

/* Transient::exit */
inline transient_exit(r) {
	if
	:: counted[r] == 0
	:: counted[r] != 0 ->
#ifdef BROKEN_counted_exchange
		side = counted[r];
		d_step { locked(r); counted[r] = 0 };
#else
		d_step { locked(r); side = counted[r]; counted[r] = 0 };
#endif
		if
		:: side == 0
		:: else -> d_step { locked(r); assert(sides[side - 1] > 0); sides[side - 1]--; side = 0 }
		fi
	fi
}

/* Reader::join */
inline join(r) {
	own_mark(r, before);
	if
#ifdef BROKEN_leaving_mark
	:: before != NEW && !IS_PARKED(before)
#else
	:: (before != NEW && !IS_PARKED(before)) || is_leaving[r]
#endif
	:: else ->
#ifndef BROKEN_join_count
		transient_enter(r);
#endif
#ifdef BROKEN_join_claim
		set_mark(r, JOINING);
		slow = 1;
#else
		d_step { locked(r); slow = (mark[r] == before); if :: slow -> mark[r] = JOINING :: else fi };
#endif
		if
		:: !slow
		:: else ->
			slow = 0;
#ifdef BROKEN_count_back_early
			transient_exit(r);
#endif
			/* CHAIN: our claim of JOINING came before this look. NEWCOMER: a full fence. */
			d_step { locked(r); slow = (link[r] == UNLINKED) };
			if
#ifdef BROKEN_double_push
			:: true ->
#else
			:: slow ->
#endif
				slow = 0;
				d_step { locked(r); assert(head != LINK_TO(r)); link[r] = head; head = LINK_TO(r) }
			:: else
			fi;
			/* JOIN: first the word, then the mark. */
#ifdef BROKEN_join_order
			set_mark(r, REGISTERED);
			set_settled(r, 1)
#else
			set_settled(r, 1);
			set_mark(r, REGISTERED)
#endif
			;
			/* JOIN-REPORT: an IPI may have set the flag that was just cleared. */
#ifndef BROKEN_join_report
			report(r)
#else
			skip
#endif
		fi
	fi;
	d_step { before = 0; slow = 0 }
}

/* Reader::lock_slow, with the word incremented: `depth_here` sections are open. */
inline lock_slow(r) {
	own_nesting(r, depth_here);
	/* PARK: our increment, a full fence, then the mark. */
#ifndef BROKEN_park_reader_order
	full_fence(r);
#endif
	own_mark(r, before);
	if
	:: before == REGISTERED ->
		if
		:: depth_here == 1 ->
			d_step { before = 0; depth_here = 0 };
			/* FLAG-REQUEST: first the flag is cleared, then the request is taken. */
#ifdef BROKEN_flag_request_order
			report(r);
			set_settled(r, 1)
#else
			set_settled(r, 1);
			report(r)
#endif
		:: else -> d_step { before = 0; depth_here = 0 }
		fi
	:: else ->
		d_step { before = 0; depth_here = 0 };
#ifndef BROKEN_transient_count
		transient_enter(r);
#endif
		/* Probation, and whether the exit hook could be armed: either way. */
		if
		:: MAY_JOIN(r) -> join(r)
#ifdef PROBATION
		:: skip
#endif
		fi
#ifdef BROKEN_count_back_mark
		;
		own_mark(r, before);
		if
		:: before == REGISTERED -> before = 0; transient_exit(r)
		:: else -> before = 0
		fi
#endif
	fi;
	/* COUNT-BACK: the unlock gives the count back only if the word is flagged. */
#if !defined(BROKEN_count_back_mark) && !defined(BROKEN_count_back)
	own_settled(r, slow);
	if
	:: slow -> slow = 0; transient_exit(r)
	:: else
	fi
#else
	skip
#endif
}

/* Reader::unlock_slow */
inline unlock_slow(r) {
#ifndef BROKEN_unlock_report
	report(r);
#endif
#ifdef BROKEN_flag_stays
	set_settled(r, 1);
#endif
	transient_exit(r)
}

inline lock(r) {
	word_lock(r, slow);
	if
	:: slow -> slow = 0; lock_slow(r)
	:: else
	fi
}

inline unlock(r) {
	word_unlock(r, slow);
	if
	:: slow -> slow = 0; unlock_slow(r)
	:: else
	fi;
	/* The report is made within the outermost unlock, whoever's it is. */
	d_step {
		own(r);
		if
		:: x_nesting == 0 ->
#ifndef USED
			assert(owed[r] == 0 || request[r] != owed[r]);
#endif
			owed[r] = 0
		:: else
		fi
	}
}

/* A section: it loads the pointer, and uses what it found. */
inline section(r) {
	lock(r);
	section_load(r, version);
	section_use(r, version);
	unlock(r)
}

/* Reader::park_itself */
inline park_itself(r) {
#ifndef BROKEN_park_itself_section
	open_quietly(r);
#endif
	set_settled(r, 0);
	d_step { locked(r); if :: mark[r] == REGISTERED -> mark[r] = PARKED :: else fi };
#ifndef BROKEN_park_itself_section
	close_quietly(r);
#endif
	unlock_slow(r)
}

/* answer() */
inline answer(r) {
	/* IPI: the barrier that the waiter could not execute for us. */
#ifndef BROKEN_handler_fence
	full_fence(r);
#endif
	own_nesting(r, depth_here);
	if
#ifndef BROKEN_handler_report
	:: depth_here > 0 ->
		depth_here = 0;
#ifndef BROKEN_handler_flag
		set_settled(r, 0);
#endif
		d_step { if :: request[r] == answers -> owed[r] = answers :: else fi; answers = 0 }
	:: else ->
#else
	:: true ->
		depth_here = 0;
#endif
		report(r);
		if
		:: kind == SENT_MAY_PARK -> park_itself(r)
		:: else
		fi
	fi
}

/* on_ipi() */
inline on_ipi(r) {
	d_step { locked(r); kind = ipi[r]; ipi[r] = 0; answers = sent[r] };
	if
	:: kind != 0 -> answer(r)
	:: else
	fi;
	d_step { kind = 0; answers = 0 }
}

/* Roster::insert: a reader has one entry, so that the array never has more of them than there are readers. */
inline insert(r) {
#ifdef BROKEN_listed_once
	if
	:: !listed[r] -> listed[r] = 1
#if ENTRIES > NR
	/* As far as there is room. */
	:: listed[r] -> listed[NR + r] = 1
#else
	:: listed[r] -> assert(false)
#endif
	fi
#else
	listed[r] = 1
#endif
}

/* Roster::admit, under the registry's lock. */
inline admit() {
	d_step { taken = head; head = END };
	do
	:: taken == END -> break
	:: else ->
		d_step {
			assert(!is_gone[taken - 2]);
			next = link[taken - 2];
			assert(next != taken);
			link[taken - 2] = UNLINKED
		};
		d_step { insert(taken - 2); taken = next; next = 0 }
	od;
	taken = 0
}

/* Reader::leave, for good. */
inline leave(r) {
	is_leaving[r] = 1;
#ifndef BROKEN_leave_section
	lock(r);
#endif
#ifndef BROKEN_leave_count
	transient_enter(r);
#endif
	d_step { locked(r); mark[r] = LEAVING };
#ifndef BROKEN_leave_flag
	set_settled(r, 0);
#endif
#ifndef BROKEN_exit_removal
	d_step { !registry_lock -> locked(r); registry_lock = 1 };
	admit();
	listed[r] = 0;
#if ENTRIES > NR
	listed[NR + r] = 0;
#endif
	d_step { locked(r); registry_lock = 0 };
#endif
	report(r);
#ifdef BROKEN_leave_section
	unlock_slow(r);
#else
	unlock(r);
#endif
	is_leaving[r] = 0
}
