/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two archives that come from Rust in one program: no symbol clashes, both work. */
#include "test.h"

size_t other_rust_library(void);

static void both_libraries_work(void)
{
    rcu_read_lock_notrace();
    CHECK(other_rust_library() == 10);
    rcu_read_unlock_notrace();
    synchronize_rcu();
}

int main(int argc, char **argv)
{
    static const struct scenario list[] = {{"both_libraries_work", both_libraries_work, 0, NULL}};

    return RUN_SCENARIOS("two_archives", list, argc, argv);
}
