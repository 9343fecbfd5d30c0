/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The portable reader, src/word/two.rs, on weakly ordered processors (Armv8, other-multi-copy-atomic).
 *
 * A section is a set of instructions, each executed in one step, in any order that dependencies,
 * acquires, releases and fences leave open; a compiler's fence orders nothing. A store is executed when others
 * see it. A load may run ahead of branches before it: if one then turns to the slow path, what ran
 * ahead is squashed. An atomic exchange is a load-acquire and a store-release, no full fence. The heavy
 * barrier's point P lies between two instructions in program order: all before it are executed, none after it.
 *
 * The reader is registered and has two sections, and with PARK the waiter may park it. A locked operation that
 * joins is one step: the next one's load, an acquire, is not executed before its store, a release. The waiter's own
 * steps are in order: fences, exchanges and acquires stand between them; but those of parking are instructions as
 * in weak.h. With LDAPR its loads that acquire (and are no more) may come before a release in front of them, as
 * compilers have it on Armv8.3. Counted sections and what else a waiter orders: weak_grace.pml.
 */
#include "weak.h"

#ifndef GPS
#define GPS 2
#endif
byte current_version, reclaimed;
bit nesting, settled = 1;
byte request, holdouts, tag;

#define REGISTERED 0
#define PARKED 1
#define JOINING 2
byte mark = REGISTERED, count;
bit listed = 1, newcomer;

/* Positions in program order. */
#ifdef BROKEN_two_lock_order
#define A 1
#define B 0
#else
#define A 0	/* nesting = 1 */
#define B 1	/* load settled; the slow path follows if it is 0 */
#endif
#define M 2	/* fence */
#define N 3	/* load the mark, acquire; if it is PARKED, */
#define T 4	/* Transient::enter adds, */
#define J 5	/* the mark is exchanged for JOINING, unless it is REGISTERED again, */
#define U 6	/* and the reader pushed; */
#ifdef BROKEN_flag_request_order
#define K 12
#define V 7
#define R 8
#define L 9
#define S 10
#define H 11
#else
#define K 7	/* settled = 1 */
#define V 8	/* mark = REGISTERED, release; if it was PARKED */
#define R 9	/* load request; relaxed */
#define L 10	/* the exchange's load, */
#define S 11	/* its store, */
#define H 12	/* and the countdown */
#endif
#define W 13	/* the count is given back, if it was taken */
#define C 14	/* load the pointer */
#define D 15	/* use what it points to */
#ifdef BROKEN_two_unlock_order
#define E 17
#define F 16
#else
#define E 16	/* nesting = 0; release */
#define F 17	/* load settled; the slow path follows if it is 0 */
#endif
#define G 18	/* load request; relaxed */
#define X 19	/* the exchange's load, */
#define Y 20	/* its store, */
#define Z 21	/* and the countdown */
#define ALL 4194303

/* What is executed, and what the program's branches pass by. */
int done[2], passed[2];
byte version[2], got[2];
bit bad[2];

#define over_with(i) (done[i] | passed[i])
#define has(i, x) (over_with(i) & bit_of(x))
#define todo(i, x) (!has(i, x))
#define did(i, x) done[i] = done[i] | bit_of(x)
#define pass(i, x) passed[i] = passed[i] | bit_of(x)
/* From x to y. */
#define pass_all(i, x, y) passed[i] = passed[i] | ((bit_of(y + 1) - bit_of(x)) & ~done[i])
/* All before x in its section. */
#define before(i, x) ((over_with(i) & (bit_of(x) - 1)) == bit_of(x) - 1)
/* Nothing is executed behind the first instruction that is not. */
#define first_left(i) (~over_with(i) & (over_with(i) + 1))
#define prefix(i) ((done[i] & ~(first_left(i) - 1)) == 0)
#define at_a_point ((over_with(0) == ALL && prefix(1)) || (prefix(0) && over_with(1) == 0))

inline squash_next(i) {
	if
	:: i == 0 -> done[1] = 0; passed[1] = 0; version[1] = 0; bad[1] = 0; got[1] = 0
	:: else
	fi
}

/* A branch was mispredicted: whatever is behind x, in this section and the next, is executed again. */
inline squash(i, x) {
	done[i] = done[i] & (bit_of(x + 1) - 1);
	passed[i] = passed[i] & (bit_of(x + 1) - 1 | bit_of(W));
	squash_next(i)
}

/* The section before this one is over. */
#define over(i) (i == 0 || over_with(0) == ALL)

#define report(i, load, exchange, put, countdown) \
	:: d_step { todo(i, load) && READY_##load(i) -> \
		did(i, load); \
		if \
		:: request == 0 -> pass_all(i, exchange, countdown) \
		:: else -> squash(i, load) \
		fi } \
	:: d_step { todo(i, exchange) && has(i, load) && EXCHANGE_##load(i) -> did(i, exchange); got[i] = request } \
	:: d_step { todo(i, put) && has(i, exchange) && RELEASE_##load(i) -> \
		if \
		/* The exclusive store fails, and the exchange begins again. */ \
		:: request != got[i] -> squash(i, load); got[i] = 0 \
		:: else -> did(i, put); request = 0 \
		fi } \
	/* Nothing was taken: the waiter was faster. */ \
	:: d_step { todo(i, countdown) && has(i, put) && COUNT_##load(i) -> \
		did(i, countdown); \
		if :: got[i] != 0 -> assert(holdouts > 0); holdouts-- :: else fi; \
		got[i] = 0 }

/* In lock. Of the joining only the push's load, an acquire, holds the load of the request up; the exchange's
 * load, an acquire, comes after the mark's store, a release. */
#define READY_R(i) (has(i, N) && has(i, U))
#ifdef BROKEN_flag_request_order
#define BEFORE_R(i) has(i, V)
#define READY_K(i) (has(i, N) && has(i, J) && has(i, H))
#define READY_V(i) has(i, U)
#else
#define BEFORE_R(i) (has(i, K) && has(i, V))
#define READY_K(i) (has(i, N) && has(i, J))
#define READY_V(i) (has(i, K) && has(i, U))
#endif
/* PARK */
#ifdef BROKEN_park_reader_order
#define READY_N(i) (has(i, B) && over(i))
#else
#define READY_N(i) has(i, M)
#endif
/* In unlock: the branch may be foreseen, and the load of the request run ahead; it is executed after the
 * lock's own exchange (acquire). */
#define READY_G(i) (has(i, H) && has(i, F))
#define EXCHANGE_R(i) has(i, V)
#define EXCHANGE_G(i) true
#define BEFORE_G(i) (before(i, E) && has(i, E))
/* REPORT: the exchange's store is a release, and the countdown's. If it is none, branches hold it up still. */
#ifdef BROKEN_report_release
#define RELEASE_R(i) AFTER_UNLOCK(i)
#define RELEASE_G(i) AFTER_UNLOCK(i)
#else
#define RELEASE_R(i) BEFORE_R(i)
#define RELEASE_G(i) BEFORE_G(i)
#endif
#ifdef BROKEN_count_release
#define COUNT_R(i) true
#define COUNT_G(i) true
#else
#define COUNT_R(i) BEFORE_R(i)
#define COUNT_G(i) BEFORE_G(i)
#endif
#ifdef BROKEN_unlock_release
#define RELEASE_E(i) (has(i, A) && has(i, B) && has(i, H) && has(i, W))
#else
#define RELEASE_E(i) (before(i, C) && has(i, C) && has(i, D))
#endif

#define SECTION(i) \
	/* A store waits for the branches before it; the unlock's store before it is to the same place. */ \
	:: d_step { todo(i, A) && AFTER_UNLOCK(i) -> did(i, A); nesting = 1 } \
	/* Loads of one place are in order. */ \
	:: d_step { todo(i, B) && (i == 0 || has(0, F)) && NO_ACQUIRE(i) -> \
		did(i, B); \
		if \
		:: settled -> pass_all(i, M, W) \
		:: else -> \
			done[i] = done[i] & (bit_of(A) | bit_of(B)); \
			version[i] = 0; bad[i] = 0; \
			squash_next(i) \
		fi } \
	:: d_step { todo(i, M) && has(i, A) && has(i, B) && over(i) -> did(i, M) } \
	:: d_step { todo(i, N) && READY_N(i) -> \
		did(i, N); \
		if \
		:: mark == REGISTERED -> pass_all(i, T, U); pass(i, V); pass(i, W) \
		:: else \
		fi } \
	:: d_step { todo(i, T) && has(i, N) -> did(i, T); count++ } \
	:: d_step { todo(i, J) && has(i, T) -> \
		did(i, J); \
		if \
		:: mark == PARKED -> mark = JOINING \
		/* The waiter has taken it back. */ \
		:: else -> pass_all(i, U, H) \
		fi } \
	:: d_step { todo(i, U) && has(i, J) -> did(i, U); newcomer = 1 } \
	:: d_step { todo(i, K) && READY_K(i) -> did(i, K); settled = 1 } \
	:: d_step { todo(i, V) && READY_V(i) -> did(i, V); mark = REGISTERED } \
	:: d_step { todo(i, W) && before(i, W) -> did(i, W); count-- } \
	report(i, R, L, S, H) \
	/* Not before the fence, nor the exchange's load, where the slow path is taken. It may be foreseen \
	 * that it is not: then B is not yet executed. */ \
	:: d_step { todo(i, C) && NO_ACQUIRE(i) && (!has(i, B) || (has(i, M) && has(i, N) && has(i, R) && has(i, L) && has(i, W))) -> \
		did(i, C); version[i] = current_version } \
	:: d_step { todo(i, D) && has(i, C) -> did(i, D); bad[i] = (version[i] < reclaimed) } \
	:: d_step { todo(i, E) && has(i, A) && has(i, B) && RELEASE_E(i) -> \
		did(i, E); nesting = 0 } \
	:: d_step { todo(i, F) && has(i, B) && has(i, N) && has(i, K) && has(i, L) && has(i, W) -> \
		did(i, F); \
		if \
		:: settled -> pass_all(i, G, Z) \
		:: else -> squash_next(i) \
		fi } \
	report(i, G, X, Y, Z) \
	/* What ran ahead counts when it is retired. */ \
	:: d_step { bad[i] && has(i, B) && has(i, M) && has(i, H) && has(i, C) && has(i, D) && over(i) -> assert(version[i] >= reclaimed) }

/* No fence or acquire of the section before is still to come, unless behind a branch that may be foreseen. */
#define NO_ACQUIRE(i) (i == 0 || ((!has(0, B) || (has(0, M) && has(0, N) && has(0, R) && has(0, L) && has(0, W))) && (!has(0, G) || has(0, X))))
#define AFTER_UNLOCK(i) (i == 0 || (has(0, E) && has(0, F) && has(0, G) && has(0, Y)))

proctype Reader()
{
	do
	:: over_with(0) == ALL && over_with(1) == ALL -> break
	SECTION(0)
	SECTION(1)
	od
}

inline ask() {
	if
	:: !asked -> asked = 1; d_step { holdouts++; request = tag }
	:: else
	fi
}

/* P */
inline heavy_barrier() {
#ifndef BROKEN_heavy_barrier
	at_a_point
#else
	skip
#endif
}

inline withdraw() {
	if
	:: asked -> d_step { if :: request == tag -> request = 0; holdouts-- :: else fi }
	:: else
	fi
}

/* Word::load */
inline load_word() {
#ifdef BROKEN_two_load_order
	is_settled = settled;
	is_in = nesting
#else
	is_in = nesting;
	is_settled = settled
#endif
}

/* Flavour::try_park, in any order that is left open. */
#ifdef BROKEN_two_load_order
#define P_SETTLED 0
#define P_IN 1
#define P_SETTLED_AGAIN 5
#define P_IN_AGAIN 6
#else
#define P_IN 0		/* the word, acquire */
#define P_SETTLED 1
#define P_IN_AGAIN 5	/* and again */
#define P_SETTLED_AGAIN 6
#endif
#define P_LOAD 2	/* the exchange of the mark: its load, */
#define P_MARK 3	/* its store */
#define P_FENCE 4
#define P_ALL 127
#ifdef BROKEN_park_waiter_fence
#define OF_P_FENCE 0
#else
#define OF_P_FENCE bit_of(P_FENCE)
#endif
/* The first load of a word acquires. */
#define P_LOADS (bit_of(0) | bit_of(5))
#define P_ACQUIRE (P_LOADS | bit_of(P_LOAD) | OF_P_FENCE)
#define P_RELEASE (bit_of(P_MARK) | OF_P_FENCE)
#ifdef LDAPR
#define P_SEQUENTIAL bit_of(P_LOAD)
#else
#define P_SEQUENTIAL (P_LOADS | bit_of(P_LOAD))
#endif
#define P(x) may(parked, x, P_ACQUIRE, P_RELEASE, P_SEQUENTIAL)
#define PARKS(x) parked = parked | bit_of(x)

inline try_park() {
	do
	:: d_step { P(P_IN) -> PARKS(P_IN); is_in = nesting }
	:: d_step { P(P_SETTLED) -> PARKS(P_SETTLED); is_settled = settled }
	:: d_step { P(P_LOAD) -> PARKS(P_LOAD); is_parked = (mark == REGISTERED) }
	:: d_step { P(P_MARK) && has_done(parked, P_LOAD) ->
		if
		/* What ran ahead of the branch is of no consequence. */
		:: is_in || is_settled || !is_parked -> parked = P_ALL; is_parked = 0
		:: else -> PARKS(P_MARK); assert(mark == REGISTERED); mark = PARKED
		fi }
	:: d_step { P(P_FENCE) -> PARKS(P_FENCE) }
	:: d_step { P(P_IN_AGAIN) -> PARKS(P_IN_AGAIN); is_in_again = nesting }
	/* Of the same place as the first look. */
	:: d_step { P(P_SETTLED_AGAIN) && has_done(parked, P_SETTLED) ->
		PARKS(P_SETTLED_AGAIN); is_settled_again = settled }
	:: parked == P_ALL -> break
	od;
	/* Whether the array's entry goes. */
	if
#ifdef BROKEN_park_waiter_order
	:: false
#else
	:: is_parked && (is_in_again || is_settled_again) ->
		d_step { is_parked = (mark != PARKED); if :: !is_parked -> mark = REGISTERED :: else fi }
#endif
	:: else
	fi;
	d_step {
		if :: is_parked -> is_parked = 0; listed = 0 :: else fi;
		parked = 0; is_in_again = 0; is_settled_again = 0
	}
}

proctype Waiter()
{
	byte left = GPS;
	bit asked, is_in, is_settled, is_registered, is_parked, parking, is_in_again, is_settled_again;
	byte parked;
	do
	:: left == 0 -> break
	:: else ->
		d_step { left--; current_version++; tag++; asked = 0 };
		count == 0;
		d_step { if :: newcomer -> newcomer = 0; listed = 1 :: else fi };
		/* Glance, or not. */
		if
		:: !listed -> goto ended
		:: listed -> ask(); settled = 0
#ifdef PARK
		:: listed -> parking = 1; settled = 0
#endif
		:: listed
		fi;
		heavy_barrier();
		if
		:: parking -> parking = 0; try_park()
		:: else
		fi;
		if
		:: !listed -> goto ended
		:: else
		fi;
		do
		:: true ->
			is_registered = (mark == REGISTERED);
			load_word();
			if
			:: asked && request != tag -> break
			:: else ->
				if
				:: !is_in || !is_registered -> withdraw(); break
				:: is_in && is_registered && asked && !is_settled -> break
				:: is_in && is_registered && !(asked && !is_settled) ->
					if
					/* Sampled. */
					:: skip
					/* Flagged. */
					:: ask(); settled = 0;
#ifndef BROKEN_flag_barrier
						heavy_barrier()
#else
						skip
#endif
					fi
				fi
			fi
		od;
		holdouts == 0;
ended:		skip;
		d_step { asked = 0; is_in = 0; is_settled = 0; is_registered = 0; reclaimed = current_version }
	od
}

init { atomic { run Reader(); run Waiter() } }
