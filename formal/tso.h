/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The one-word reader's memory: x86-64, total store order, with explicit store buffers.
 *
 * What a reader stores plainly (its word, its mark) goes through its thread's first-in-first-out
 * buffer; its own loads look there first, byte by byte. An increment of the word is no locked
 * instruction: it loads at one moment and stores the whole word, later: whatever a waiter stored into
 * the top byte in between is overwritten. A locked instruction and a fence wait for the buffer to be
 * empty; membarrier empties the buffer of each thread at some moment. The handlers of a thread share its
 * buffer: entering one is not taken for a barrier.
 *
 * With TWO the word is two words, src/word/two.rs: the nesting and what says whether the thread is settled
 * are stored and loaded apart, in the order that the source has.
 *
 * Waiters need no buffer: each of their plain stores is followed by a full fence or a locked instruction, with
 * nothing in between that another thread could tell the order of. So their fences do nothing here: each stands
 * right behind such an instruction (GP-START: the sequence's exchange; PARK: the mark's). Where they count:
 * weak.pml, weak_grace.pml.
 */
#ifndef CAP
#define CAP 4
#endif

/* The word: nesting, and its top byte; settled means not flagged. The reader's mark. */
byte nesting[NR], settled[NR], mark[NR];

typedef Buffer { byte n; byte entry[CAP] };
Buffer buffer[NR];

/* Scratch of single steps, no part of the state. */
hidden byte x_nesting, x_settled, x_mark, x_entry, x_i;

#define WORD 64		/* + nesting + 8 * settled */
#define TOP 128		/* + settled */
#define MARK 192	/* + mark */

inline apply(entry) {
	if
#ifdef TWO
	:: (entry & 192) == WORD -> x_nesting = entry & 7
#else
	:: (entry & 192) == WORD -> x_nesting = entry & 7; x_settled = (entry >> 3) & 1
#endif
	:: (entry & 192) == TOP -> x_settled = entry & 1
	:: else -> x_mark = entry & 7
	fi
}

/* The oldest store reaches memory. */
inline drain(r) {
	x_nesting = nesting[r]; x_settled = settled[r]; x_mark = mark[r];
	x_entry = buffer[r].entry[0];
	apply(x_entry);
	nesting[r] = x_nesting; settled[r] = x_settled; mark[r] = x_mark;
	x_i = 1;
	do
	:: x_i < buffer[r].n -> buffer[r].entry[x_i - 1] = buffer[r].entry[x_i]; x_i++
	:: else -> break
	od;
	buffer[r].n = buffer[r].n - 1;
	buffer[r].entry[buffer[r].n] = 0
}

/* All of them do: in a locked instruction, a fence, a membarrier. */
inline drain_all(r) {
	do
	:: buffer[r].n > 0 -> drain(r)
	:: else -> break
	od
}

/* What the thread itself sees. */
inline own(r) {
	x_nesting = nesting[r]; x_settled = settled[r]; x_mark = mark[r];
	x_i = 0;
	do
	:: x_i < buffer[r].n -> x_entry = buffer[r].entry[x_i]; apply(x_entry); x_i++
	:: else -> break
	od
}

inline store(r, what) {
	buffer[r].entry[buffer[r].n] = what;
	buffer[r].n++
}

#define room(r) (buffer[r].n < CAP)

/* ---- the reader's instructions ---- */

#ifdef TWO
/* Nobody else stores the nesting, and handlers leave it as it was: so its load needs no step of its own. */
inline open_quietly(r) {
	d_step { room(r); own(r); store(r, WORD + x_nesting + 1) }
}

inline close_quietly(r) {
	d_step { room(r); own(r); store(r, WORD + x_nesting - 1) }
}

inline word_lock(r, slow) {
#ifdef BROKEN_two_lock_order
	d_step { own(r); slow = !x_settled };
	open_quietly(r)
#else
	open_quietly(r);
	d_step { own(r); slow = !x_settled }
#endif
}

/* The flag is looked at where the outermost section ends. */
inline word_unlock(r, slow) {
#ifdef BROKEN_two_unlock_order
	d_step { own(r); slow = (x_nesting == 1 && !x_settled) };
	close_quietly(r)
#else
	d_step {
		room(r);
		own(r);
		assert(x_nesting > 0);
		store(r, WORD + x_nesting - 1);
		slow = (x_nesting == 1)
	};
	if
	:: slow -> d_step { own(r); slow = !x_settled }
	:: else
	fi
#endif
}
#else
/* incl and jns */
inline word_lock(r, slow) {
#ifdef BROKEN_one_instruction
	d_step { own(r); depth_here = x_nesting; slow = !x_settled };
	d_step { room(r); store(r, WORD + depth_here + 1 + 8 * !slow); depth_here = 0 }
#else
	d_step {
		room(r);
		own(r);
		store(r, WORD + x_nesting + 1 + 8 * x_settled);
		slow = !x_settled
	}
#endif
}

/* decl and jz */
inline word_unlock(r, slow) {
	d_step {
		room(r);
		own(r);
		assert(x_nesting > 0);
		store(r, WORD + x_nesting - 1 + 8 * x_settled);
		slow = (x_nesting == 1 && !x_settled)
	}
}

inline open_quietly(r) {
	d_step { room(r); own(r); store(r, WORD + x_nesting + 1 + 8 * x_settled) }
}

inline close_quietly(r) {
	d_step { room(r); own(r); store(r, WORD + x_nesting - 1 + 8 * x_settled) }
}
#endif

inline own_nesting(r, to) { d_step { own(r); to = x_nesting } }
inline own_settled(r, to) { d_step { own(r); to = x_settled } }
inline own_mark(r, to) { d_step { own(r); to = x_mark } }
inline set_settled(r, value) { d_step { room(r); store(r, TOP + value) } }
inline set_mark(r, value) { d_step { room(r); store(r, MARK + value) } }

/* A relaxed load of what others store: on this machine, of memory. */
inline load_request(r, to) { to = request[r] }

/* Within a d_step: what a locked instruction does besides. */
#define locked(r) drain_all(r)
inline full_fence(r) { d_step { drain_all(r) } }

/* A section's load of the pointer, and its last use of what it points to. Both are in order. */
inline section_load(r, version) { version = current_version }
inline section_use(r, version) { d_step { assert(version >= reclaimed); version = 0 } }

/* ---- the waiter's ---- */
inline waiter_flags(r) {
#ifdef BROKEN_flag_one_byte
	w_nesting = nesting[r];
	d_step { nesting[r] = w_nesting; w_nesting = 0 };
#endif
	settled[r] = 0
}
#ifdef TWO
inline waiter_reads_word(r) {
#ifdef BROKEN_two_load_order
	w_settled = settled[r];
	w_nesting = nesting[r]
#else
	w_nesting = nesting[r];
	w_settled = settled[r]
#endif
}
#else
inline waiter_reads_word(r) { d_step { w_nesting = nesting[r]; w_settled = settled[r] } }
#endif
inline waiter_reads_mark(r) { w_mark = mark[r] }
inline waiter_fence() { skip }
#define waiter_drains() skip
#define start_memory() skip

/* One point P of one thread. */
inline point(r) { d_step { drain_all(r) } }

/* The processor, which empties the buffer when it likes. */
proctype Processor(byte r)
{
end:	do
	:: d_step { buffer[r].n > 0 -> drain(r) }
	od
}
