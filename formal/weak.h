/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A thread of a weakly ordered processor (Armv8, other-multi-copy-atomic): a set of instructions, numbered in
 * program order, each executed in one step, when its store is seen by others or its load takes its value; in
 * any order that acquires, releases, fences and dependencies leave open. What is executed is a mask. Which
 * instructions order others is a mask too: an ordering is removed by taking its bit out of it.
 *
 *   ACQUIRE: nothing behind it is executed before it. RELEASE: it is executed after all before it.
 *   A fence is both. An atomic exchange is two instructions, a load (ACQUIRE) and a store (RELEASE).
 *   SEQUENTIAL: acquires that are not executed before a release in front of them (LDAR; LDAPR is none).
 */
#define bit_of(x) (1 << (x))
#define below(x) (bit_of(x) - 1)
#define all_of(done, mask) (((done) & (mask)) == (mask))

#define has_done(done, x) ((done) & bit_of(x))
#define may(done, x, ACQUIRE, RELEASE, SEQUENTIAL) \
	(!has_done(done, x) && \
	 all_of(done, (ACQUIRE) & below(x)) && \
	 (!((RELEASE) & bit_of(x)) || all_of(done, below(x))) && \
	 (!((SEQUENTIAL) & bit_of(x)) || all_of(done, (RELEASE) & below(x))))
