/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Read-side pairs. */
#include "bench.h"

void bench_section(void)
{
    static const struct peer *const peers[] = {&peer_bare, &peer_bare_static, &peer_notrace,
                                               &peer_notrace_static, &peer_memb, &peer_bp,
                                               &peer_mb, &peer_signal};
    enum { PEERS = COUNT(peers), ROUNDS = 31 };
    static double times[2][PEERS][ROUNDS];
    const unsigned long count = 1000000;
    double bare = 0;

    pin(1);
    for (int p = 0; p < PEERS; p++)
        peers[p]->register_thread();
    for (int r = 0; r < ROUNDS; r++)
        for (int p = 0; p < PEERS; p++)
            for (int depth = 1; depth <= 2; depth++) {
                /* liburcu's full-barrier flavour is fifty times slower. */
                unsigned long pairs = peers[p] == &peer_mb ? count / 20 : count;
                uint64_t begin = now_ns();

                peers[p]->sections(pairs, depth);
                times[depth - 1][p][r] = (double)(now_ns() - begin) / (double)pairs;
            }
    for (int p = 0; p < PEERS; p++)
        peers[p]->unregister_thread();
    printf("section (the last: liburcu)     pair, ns   ratio to bare   nested twice, ns\n");
    for (int p = 0; p < PEERS; p++) {
        double one = quantile(times[0][p], ROUNDS, 0.5), two = quantile(times[1][p], ROUNDS, 0.5);

        if (p == 0)
            bare = one;
        printf("  %-28s %9.2f %15.2f %18.2f\n", peers[p]->name, one, one / bare, two);
    }
}
