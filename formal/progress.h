/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Progress: that GOAL is reached in the end, under weak fairness (whoever can take a step for ever takes
 * one), and stays so. The witness steps for ever, and makes progress from then on: so a state in which nobody
 * else can do anything is a cycle without progress too, and a wake-up that is lost is found.
 */
#ifdef LIVE
proctype Witness()
{
end:	do
	:: !(GOAL)
	:: GOAL ->
progress:	skip
	od
}
#define WITNESS run Witness()
#else
#define WITNESS skip
#endif
