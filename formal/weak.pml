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
 * The reader is registered and has two sections, or (TRANSIENT) none is known of it and it is counted.
 * The waiter's own steps are in order: fences, exchanges and acquires stand between them.
 */
#ifndef GPS
#define GPS 2
#endif
byte current_version, reclaimed;
bit nesting, settled = 1;
byte request, holdouts, tag;

#ifndef TRANSIENT
/* Positions in program order. */
#define A 0	/* nesting = 1 */
#define B 1	/* load settled; the slow path follows if it is 0 */
#define M 2	/* fence */
#define K 3	/* settled = 1 */
#define R 4	/* load request; relaxed */
#define L 5	/* the exchange's load, */
#define S 6	/* its store, */
#define H 7	/* and the countdown */
#define C 8	/* load the pointer */
#define D 9	/* use what it points to */
#ifdef BROKEN_two_unlock_order
#define E 11
#define F 10
#else
#define E 10	/* nesting = 0; release */
#define F 11	/* load settled; the slow path follows if it is 0 */
#endif
#define G 12	/* load request; relaxed */
#define X 13	/* the exchange's load, */
#define Y 14	/* its store, */
#define Z 15	/* and the countdown */
#define ALL 65535

int done[2];
byte version[2], got[2];
bit bad[2];

#define bit_of(x) (1 << (x))
#define has(i, x) (done[i] & bit_of(x))
#define did(i, x) done[i] = done[i] | bit_of(x)
/* All before x in its section. */
#define before(i, x) ((done[i] & (bit_of(x) - 1)) == bit_of(x) - 1)
/* Not executed, and all of the section before is, where that is wanted. */
#define todo(i, x) (!has(i, x))
#define prefix(i) ((done[i] & (done[i] + 1)) == 0)
/* Where a mutation has an instruction later than its bit: a point between the others and it. */
#ifdef BROKEN_two_unlock_order
#define LATE(i) (done[i] == (ALL & ~bit_of(E)))
#else
#ifdef BROKEN_flag_request_order
#define LATE(i) (done[i] == (255 & ~bit_of(K)))
#else
#define LATE(i) false
#endif
#endif
#define at_a_point ((LATE(0) && done[1] == 0) || (done[0] == ALL && LATE(1)) || (done[0] == ALL && prefix(1)) || (prefix(0) && done[1] == 0))

/* A branch was mispredicted: whatever is behind x, in this section and the next, is executed again. */
inline squash(i, x) {
	done[i] = done[i] & (bit_of(x + 1) - 1);
	if :: i == 0 -> done[1] = 0; version[1] = 0; bad[1] = 0; got[1] = 0 :: else fi
}

/* The section before this one is over. */
#define over(i) (i == 0 || done[0] == ALL)

#define report(i, load, exchange, put, count) \
	:: d_step { todo(i, load) && READY_##load(i) -> \
		did(i, load); \
		if \
		:: request == 0 -> done[i] = done[i] | bit_of(exchange) | bit_of(put) | bit_of(count) \
		:: else -> squash(i, load) \
		fi } \
	:: d_step { todo(i, exchange) && has(i, load) -> did(i, exchange); got[i] = request } \
	:: d_step { todo(i, put) && has(i, exchange) && RELEASE_##load(i) -> \
		if \
		/* The exclusive store fails, and the exchange begins again. */ \
		:: request != got[i] -> squash(i, load); got[i] = 0 \
		:: else -> did(i, put); request = 0 \
		fi } \
	/* Nothing was taken: the waiter was faster. */ \
	:: d_step { todo(i, count) && has(i, put) -> \
		did(i, count); \
		if :: got[i] != 0 -> assert(holdouts > 0); holdouts-- :: else fi; \
		got[i] = 0 }

#ifdef BROKEN_flag_request_order
/* In lock: the flag is cleared when the request is taken. */
#define READY_R(i) has(i, M)
#define RELEASE_R(i) true
#define READY_K(i) has(i, H)
#else
#define READY_R(i) has(i, M)
#define RELEASE_R(i) has(i, K)
#define READY_K(i) has(i, M)
#endif
/* In unlock: the branch may be foreseen, and the load of the request run ahead; it is executed after the
 * lock's own exchange (acquire). */
#define READY_G(i) (has(i, H) && has(i, F))
#define RELEASE_G(i) (before(i, E) && has(i, E))
#ifdef BROKEN_unlock_release
#define RELEASE_E(i) (has(i, A) && has(i, B) && has(i, H))
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
		:: settled -> done[i] = done[i] | bit_of(M) | bit_of(K) | bit_of(R) | bit_of(L) | bit_of(S) | bit_of(H) \
		:: else -> \
			done[i] = done[i] & (bit_of(A) | bit_of(B)); \
			version[i] = 0; bad[i] = 0; \
			if :: i == 0 -> done[1] = 0; version[1] = 0; bad[1] = 0; got[1] = 0 :: else fi \
		fi } \
	:: d_step { todo(i, M) && has(i, A) && has(i, B) && over(i) -> did(i, M) } \
	:: d_step { todo(i, K) && READY_K(i) -> did(i, K); settled = 1 } \
	report(i, R, L, S, H) \
	/* Not before the fence, nor the exchange's load, where the slow path is taken. It may be foreseen \
	 * that it is not: then B is not yet executed. */ \
	:: d_step { todo(i, C) && NO_ACQUIRE(i) && (!has(i, B) || (has(i, M) && has(i, R) && has(i, L))) -> \
		did(i, C); version[i] = current_version } \
	:: d_step { todo(i, D) && has(i, C) -> did(i, D); bad[i] = (version[i] < reclaimed) } \
	:: d_step { todo(i, E) && has(i, A) && has(i, B) && RELEASE_E(i) -> \
		did(i, E); nesting = 0 } \
	:: d_step { todo(i, F) && has(i, B) && has(i, K) && has(i, L) -> \
		did(i, F); \
		if \
		:: settled -> done[i] = done[i] | bit_of(G) | bit_of(X) | bit_of(Y) | bit_of(Z) \
		:: else -> squash_after_F(i) \
		fi } \
	report(i, G, X, Y, Z) \
	/* What ran ahead counts when it is retired. */ \
	:: d_step { bad[i] && has(i, B) && has(i, M) && has(i, H) && has(i, C) && has(i, D) && over(i) -> assert(false) }

/* No fence or acquire of the section before is still to come, unless behind a branch that may be foreseen. */
#define NO_ACQUIRE(i) (i == 0 || ((!has(0, B) || (has(0, M) && has(0, R) && has(0, L))) && (!has(0, G) || has(0, X))))
#define AFTER_UNLOCK(i) (i == 0 || (has(0, E) && has(0, F) && has(0, G) && has(0, Y)))

inline squash_after_F(i) {
	if :: i == 0 -> done[1] = 0; version[1] = 0; bad[1] = 0; got[1] = 0 :: else fi
}

proctype Reader()
{
	do
	:: done[0] == ALL && done[1] == ALL -> break
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

proctype Waiter()
{
	byte left = GPS;
	bit asked, is_in, is_settled;
	do
	:: left == 0 -> break
	:: else ->
		d_step { left--; current_version++; tag++; asked = 0 };
		/* Glance, or not. */
		if
		:: ask(); settled = 0
		:: skip
		fi;
		heavy_barrier();
		do
		:: true ->
			is_in = nesting;
			is_settled = settled;
			if
			:: asked && request != tag -> break
			:: else ->
				if
				:: !is_in -> withdraw(); break
				:: is_in && asked && !is_settled -> break
				:: is_in && !(asked && !is_settled) ->
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
		d_step { asked = 0; is_in = 0; is_settled = 0; reclaimed = current_version }
	od
}

init { atomic { run Reader(); run Waiter() } }

#else
/* A counted section: Transient::enter adds to a side, then notes it by a compare-exchange; exit. */
byte count, version;
bit used;
byte done;
#define has(x) (done & (1 << (x)))
#define did(x) done = done | (1 << (x))

proctype Reader()
{
	do
	/* The add's load (acquire) and store (release); the other exchange's. */
	:: d_step { !has(0) -> did(0) }
	:: d_step { !has(1) && has(0) -> did(1); count++ }
#ifndef BROKEN_single_exchange
	/* A load-acquire is not executed before a store-release that it follows. */
	:: d_step { !has(2) && has(1) -> did(2) }
	:: d_step { !has(3) && has(2) -> did(3) }
	:: d_step { !has(4) && has(2) -> did(4); version = current_version }
#else
	:: d_step { !has(2) -> did(2) }
	:: d_step { !has(3) -> did(3) }
	:: d_step { !has(4) && has(0) -> did(4); version = current_version }
#endif
	:: d_step { !has(5) && has(4) -> did(5); assert(version >= reclaimed) }
	/* The count goes back: release. */
#ifndef BROKEN_exit_release
	:: d_step { !has(6) && done == 63 -> did(6); count-- }
#else
	:: d_step { !has(6) && has(3) && has(1) -> did(6); count-- }
#endif
	:: done == 127 -> break
	od
}

proctype Waiter()
{
	byte left = GPS;
	do
	:: left == 0 -> break
	:: else -> left--; current_version++; count == 0; reclaimed = current_version
	od
}

init { atomic { run Reader(); run Waiter() } }
#endif
