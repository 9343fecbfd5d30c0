/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Compiles if headers.sh puts nothing in the place of the mistake. */
#include <rcu_notrace.h>

struct item {
    int number;
};

struct other {
    int number;
};

extern struct item *shared;

void mistaken(struct other *other, const struct item *unchanging, int integer);
void mistaken(struct other *other, const struct item *unchanging, int integer)
{
    (void)other;
    (void)unchanging;
    (void)integer;
    MISTAKE;
}
