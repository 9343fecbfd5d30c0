/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What crowd.c and its shared objects share. */
#ifndef CROWD_H
#define CROWD_H

#include <rcu_notrace.h>

#define EXPORT __attribute__((visibility("default")))

/* In the object whose constructors come first, which outlives the modules. */
EXPORT extern unsigned crowd_modules_arrived, crowd_modules_left;
/* How many sections an IFUNC resolver had, and what its function answers. */
EXPORT extern unsigned crowd_sections_of_a_resolver;
EXPORT int crowd_chosen(void);
/* What the first constructor of all did. */
EXPORT extern unsigned crowd_first_sections, crowd_first_callbacks, crowd_first_waits;

#endif
