/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * liburcu's hash table, list and queue on rcu_notrace_flavor. A node that is freed is poisoned and
 * kept for a while: a section that sees poison is a grace period that ended too early.
 */
#ifdef __has_include
#if __has_include(<urcu/rculfhash.h>)
#define HAVE_LIBURCU 1
#endif
#endif

#ifndef HAVE_LIBURCU
#include <stdio.h>

int main(void)
{
    printf("ok urcu: liburcu's headers are missing: apt-get install liburcu-dev # SKIP\n");
    return 0;
}
#else

#define _GNU_SOURCE
#include <rcu_notrace/urcu.h>

#include "seccomp.h"
#include "test.h"

#include <urcu/rculfhash.h>
#include <urcu/rculfqueue.h>
#include <urcu/rculist.h>

enum { ALIVE = 0x600d600d, POISON = 0x5eadbeef };

struct node {
    struct cds_lfht_node in_table;
    struct cds_lfq_node_rcu in_queue;
    struct cds_list_head in_list;
    struct rcu_head head;
    atomic_uint a, b;
    unsigned long key;
};

static atomic_bool stop;
static atomic_ulong added, freed, looked, found, poisoned, registrations, waits;

static struct node *new_node(unsigned long key)
{
    struct node *node = calloc(1, sizeof(*node));

    CHECK(node);
    node->a = node->b = ALIVE;
    node->key = key;
    added++;
    return node;
}

/* Callbacks run one after the other, so this needs no lock. */
static void free_node(struct rcu_head *head)
{
    static struct node *kept[65536];
    static unsigned next;
    struct node *node = caa_container_of(head, struct node, head);

    node->a = node->b = POISON;
    free(kept[next]);
    kept[next] = node;
    next = (next + 1) % 65536;
    freed++;
}

static void look_at(struct node *node)
{
    if (atomic_load_explicit(&node->a, memory_order_relaxed) != ALIVE)
        poisoned++;
    for (int i = 0; i < 20; i++)
        __asm__ volatile("pause");
    if (atomic_load_explicit(&node->b, memory_order_relaxed) != ALIVE)
        poisoned++;
}

/* ---- the hash table --------------------------------------------------------------------------- */

enum { KEYS = 16384, WRITERS = 2, LOOKERS = 2 };

static struct cds_lfht *table;

/* The flavour, counting what the table's worker thread does: it registers when it begins to resize,
 * and each step down waits for a grace period. */
static struct rcu_notrace_urcu_table counting;

static void register_and_count(void)
{
    registrations++;
    rcu_register_thread();
}

static void synchronize_and_count(void)
{
    waits++;
    synchronize_rcu();
}

static void new_table(void)
{
    counting = rcu_notrace_urcu_table;
    counting.flavor.register_thread = register_and_count;
    counting.flavor.update_synchronize_rcu = synchronize_and_count;
    table = cds_lfht_new_flavor(1, 1, 0, CDS_LFHT_AUTO_RESIZE | CDS_LFHT_ACCOUNTING,
                                &counting.flavor, NULL);
    CHECK(table);
}

static unsigned long hash(unsigned long key)
{
    return key * 0x9e3779b97f4a7c15;
}

static int matches(struct cds_lfht_node *node, const void *key)
{
    return caa_container_of(node, struct node, in_table)->key == *(const unsigned long *)key;
}

static struct node *find(unsigned long key)
{
    struct cds_lfht_iter iterator;
    struct cds_lfht_node *node;

    cds_lfht_lookup(table, hash(key), matches, &key, &iterator);
    node = cds_lfht_iter_get_node(&iterator);
    return node ? caa_container_of(node, struct node, in_table) : NULL;
}

static void add(unsigned long key)
{
    struct node *node = new_node(key);

    rcu_read_lock_notrace();
    cds_lfht_add(table, hash(key), &node->in_table);
    rcu_read_unlock_notrace();
}

static bool take_out(unsigned long key)
{
    struct node *node;
    bool ours;

    rcu_read_lock_notrace();
    node = find(key);
    ours = node && cds_lfht_del(table, &node->in_table) == 0;
    rcu_read_unlock_notrace();
    if (ours)
        call_rcu(&node->head, free_node);
    return ours;
}

/* Fills its half of the keys and empties it, again and again: the table grows and shrinks. */
static void *write_table(void *argument)
{
    unsigned long first = (unsigned long)(uintptr_t)argument, left = 0;

    while (!stop) {
        for (unsigned long key = first; key < KEYS; key += WRITERS, left++)
            add(key);
        for (unsigned long key = first; key < KEYS && !(stop && key > KEYS / 2);
             key += WRITERS, left--)
            CHECK(take_out(key));
    }
    return (void *)(uintptr_t)left;
}

static void *look_up(void *argument)
{
    unsigned long random = (unsigned long)(uintptr_t)argument;

    while (!stop) {
        struct node *node;

        random = random * 6364136223846793005 + 1442695040888963407;
        rcu_read_lock_notrace();
        node = find((random >> 33) % KEYS);
        if (node)
            look_at(node);
        rcu_read_unlock_notrace();
        looked++;
        if (node)
            found++;
    }
    return NULL;
}

static unsigned long count_nodes(void)
{
    unsigned long count;
    long before, after;

    rcu_read_lock_notrace();
    cds_lfht_count_nodes(table, &before, &count, &after);
    rcu_read_unlock_notrace();
    return count;
}

/* Takes everything out. */
static void empty(void)
{
    struct cds_lfht_iter iterator;
    struct cds_lfht_node *node;

    rcu_read_lock_notrace();
    cds_lfht_for_each(table, &iterator, node) {
        if (cds_lfht_del(table, node) == 0)
            call_rcu(&caa_container_of(node, struct node, in_table)->head, free_node);
    }
    rcu_read_unlock_notrace();
    CHECK(count_nodes() == 0);
}

static void empty_and_destroy(void)
{
    empty();
    CHECK(cds_lfht_destroy(table, NULL) == 0);
    rcu_barrier();
}

static pthread_t threads[WRITERS + LOOKERS];

static void start_load(void)
{
    new_table();
    for (int i = 0; i < WRITERS; i++)
        threads[i] = start(write_table, (void *)(uintptr_t)i);
    for (int i = 0; i < LOOKERS; i++)
        threads[WRITERS + i] = start(look_up, (void *)(uintptr_t)(i + 1));
}

static unsigned long end_load(void)
{
    unsigned long left = 0;

    stop = true;
    for (int i = 0; i < WRITERS + LOOKERS; i++) {
        void *ours;

        pthread_join(threads[i], &ours);
        left += (unsigned long)(uintptr_t)ours;
    }
    return left;
}

static void print_load(void)
{
    printf("    %lu added, %lu freed, %lu lookups, %lu found, %lu poisoned; %lu resizes, "
           "%lu waits for them\n",
           added, freed, looked, found, poisoned, registrations, waits);
    print_stats();
}

/* Of what must have happened: that depends on what else the machine has to do. */
static bool has_had_enough(void)
{
    return added > KEYS && looked > 1000 && found > 100 && registrations > 3 && waits > 0;
}

static void grow_and_shrink(unsigned ms)
{
    unsigned long left;

    uint64_t begin = now_ns(), shortest = ms * UINT64_C(1000000), longest = 15 * shortest;

    start_load();
    for (unsigned i = 0; now_ns() - begin < (has_had_enough() ? shortest : longest); i++) {
        sleep_ms(20);
        cds_lfht_resize(table, 64ul << i % 8);
    }
    left = end_load();
    CHECK(count_nodes() == left && left > 0);
    empty_and_destroy();
    print_load();
    CHECK(poisoned == 0);
    CHECK(added == freed && has_had_enough());
}

static void a_table_grows_and_shrinks_under_load_and_shows_no_freed_node(void)
{
    grow_and_shrink(1500);
}

/* The table's worker thread blocks all signals, and resizes in sections. */
static void the_same_where_membarrier_is_refused(void)
{
    refuse_membarrier();
    grow_and_shrink(1000);
    CHECK(rcu_notrace_get_ipi_mode() == RCU_NOTRACE_IPI_SIGNAL);
}

static void in_the_child(bool was_busy)
{
    struct cds_lfht *inherited = table;
    unsigned long resizes = registrations, was = count_nodes();

    alarm(20);
    /* A small one, for the worker that the child was given: it grows. */
    new_table();
    for (unsigned long key = 0; key < 1000; key++)
        add(key);
    while (registrations == resizes)
        sleep_ms(1);
    CHECK(count_nodes() == 1000);
    empty_and_destroy();
    table = inherited;
    /* Its own rules may have left it with one bucket, at a fork that came early. */
    cds_lfht_resize(table, KEYS);
    for (unsigned long key = KEYS; key < 2 * KEYS; key++)
        add(key);
    CHECK(count_nodes() == was + KEYS);
    for (unsigned long key = KEYS; key < 2 * KEYS; key++) {
        struct node *node;

        rcu_read_lock_notrace();
        node = find(key);
        CHECK(node);
        look_at(node);
        rcu_read_unlock_notrace();
    }
    for (unsigned long key = KEYS; key < 2 * KEYS; key += 2)
        CHECK(take_out(key));
    if (was_busy)
        /* A writer that is not here may have been taking a node out: destroying finds half of it. */
        empty();
    else
        empty_and_destroy();
    rcu_barrier();
    CHECK(poisoned == 0);
}

static void fork_leaves_a_table_in_use_usable_in_child_and_parent(void)
{
    unsigned long left;

    start_load();
    for (int i = 0; i < 4; i++) {
        pid_t child;
        int status;

        sleep_ms(50);
        child = fork();
        if (!child) {
            in_the_child(true);
            _exit(PASS);
        }
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != PASS)
            fail("child %d ended with status %#x", i, (unsigned)status);
    }
    left = end_load();
    CHECK(count_nodes() == left);
    empty_and_destroy();
    print_load();
    CHECK(poisoned == 0 && added == freed && registrations >= 1);
    /* And with no table left. */
    left = (unsigned long)fork();
    if (!left) {
        synchronize_rcu();
        _exit(PASS);
    }
    waitpid((pid_t)left, NULL, 0);
}

static void two_tables_fork_once(void)
{
    struct cds_lfht *other;
    pid_t child;
    int status;

    new_table();
    other = cds_lfht_new_flavor(1, 1, 0, CDS_LFHT_AUTO_RESIZE, &rcu_notrace_flavor, NULL);
    CHECK(other);
    for (int round = 0; round < 2; round++) {
        child = fork();
        if (!child) {
            in_the_child(false);
            if (round == 0)
                CHECK(cds_lfht_destroy(other, NULL) == 0);
            _exit(PASS);
        }
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == PASS);
        if (round == 0)
            CHECK(cds_lfht_destroy(other, NULL) == 0);
    }
    in_the_child(false);
}

/* ---- list and queue ------------------------------------------------------------------------------ */

static CDS_LIST_HEAD(list);

static void *walk(void *unused)
{
    while (!stop) {
        struct node *node;

        rcu_read_lock_notrace();
        cds_list_for_each_entry_rcu(node, &list, in_list) {
            look_at(node);
            found++;
        }
        rcu_read_unlock_notrace();
        looked++;
    }
    return unused;
}

static void a_list_is_walked_while_its_nodes_come_and_go(void)
{
    pthread_t walkers[2];
    uint64_t end;

    for (int i = 0; i < 2; i++)
        walkers[i] = start(walk, NULL);
    end = now_ns() + 500000000;
    for (unsigned long key = 0; now_ns() < end; key++) {
        cds_list_add_tail_rcu(&new_node(key)->in_list, &list);
        if (key >= 20) {
            struct node *first = cds_list_entry(list.next, struct node, in_list);

            CHECK(first->key == key - 20);
            cds_list_del_rcu(&first->in_list);
            call_rcu(&first->head, free_node);
        }
        if (key % 1000 == 0)
            synchronize_rcu();
    }
    stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(walkers[i], NULL);
    rcu_barrier();
    print_load();
    CHECK(poisoned == 0 && freed > 100 && added == freed + 20 && found > 100);
}

static struct cds_lfq_queue_rcu queue;
static atomic_ulong taken, sum_in, sum_out;

static void *put_in(void *argument)
{
    unsigned long key = (unsigned long)(uintptr_t)argument;

    while (!stop) {
        struct node *node = new_node(key);

        cds_lfq_node_init_rcu(&node->in_queue);
        rcu_read_lock_notrace();
        cds_lfq_enqueue_rcu(&queue, &node->in_queue);
        rcu_read_unlock_notrace();
        sum_in += key++;
    }
    return NULL;
}

static bool take_one(void)
{
    struct cds_lfq_node_rcu *first;
    struct node *node;

    rcu_read_lock_notrace();
    first = cds_lfq_dequeue_rcu(&queue);
    rcu_read_unlock_notrace();
    if (!first)
        return false;
    node = caa_container_of(first, struct node, in_queue);
    look_at(node);
    sum_out += node->key;
    taken++;
    call_rcu(&node->head, free_node);
    return true;
}

static void *take(void *unused)
{
    while (!stop)
        take_one();
    return unused;
}

static void a_queue_gives_back_what_was_put_in_and_frees_its_dummies(void)
{
    pthread_t takers[2], putters[2];

    cds_lfq_init_rcu(&queue, call_rcu);
    for (int i = 0; i < 2; i++) {
        takers[i] = start(take, NULL);
        putters[i] = start(put_in, (void *)(uintptr_t)(i * 1000000));
    }
    rcu_register_thread();
    sleep_ms(500);
    stop = true;
    for (int i = 0; i < 2; i++) {
        pthread_join(takers[i], NULL);
        pthread_join(putters[i], NULL);
    }
    while (take_one())
        ;
    rcu_barrier();
    printf("    %lu nodes went through\n", taken);
    print_load();
    CHECK(cds_lfq_destroy_rcu(&queue) == 0);
    CHECK(poisoned == 0 && taken == added && added == freed && sum_in == sum_out && taken > 1000);
}

/* ---- the table of functions ------------------------------------------------------------------------ */

static atomic_int deferred;

static void count_deferred(void *argument)
{
    CHECK(argument == &deferred);
    deferred++;
}

static void defer_rcu_calls_once_and_after_sections_that_were_open(void)
{
    CHECK(rcu_notrace_start_worker() == 0);
    rcu_notrace_flavor.read_lock();
    CHECK(rcu_notrace_flavor.read_ongoing());
    rcu_notrace_flavor.update_defer_rcu(count_deferred, &deferred);
    sleep_ms(50);
    CHECK(deferred == 0);
    rcu_notrace_flavor.read_unlock();
    CHECK(!rcu_notrace_flavor.read_ongoing());
    rcu_notrace_flavor.barrier();
    CHECK(deferred == 1);
    rcu_notrace_flavor.read_quiescent_state();
    rcu_notrace_flavor.thread_offline();
    rcu_notrace_flavor.thread_online();
}

/* As liburcu 0.14 declares it: what a library of that version looks at. */
struct later_poll_state {
    unsigned long grace_period_id;
};

struct later_flavor {
    void (*first[14])(void);
    struct later_poll_state (*start_poll)(void);
    bool (*poll)(struct later_poll_state state);
};

static void a_liburcu_of_14_or_16_members_finds_them(void)
{
    const struct rcu_flavor_struct *volatile given = &rcu_notrace_flavor;
    const struct later_flavor *later = (const struct later_flavor *)(const void *)given;
    struct later_poll_state state;

    printf("    compiled against a struct of %zu members\n", sizeof(*given) / sizeof(void *));
    CHECK(later->first[13] == (void (*)(void))given->unregister_rculfhash_atfork);
    for (int i = 0; i < 14; i++)
        CHECK(later->first[i]);
    given->read_lock();
    state = later->start_poll();
    CHECK(!later->poll(state));
    given->read_unlock();
    synchronize_rcu();
    CHECK(later->poll(state));
}

int main(int argc, char **argv)
{
    static const struct scenario list_of_scenarios[] = {
        SCENARIO(a_table_grows_and_shrinks_under_load_and_shows_no_freed_node),
        SCENARIO(the_same_where_membarrier_is_refused),
        SCENARIO(fork_leaves_a_table_in_use_usable_in_child_and_parent),
        SCENARIO(two_tables_fork_once),
        SCENARIO(a_list_is_walked_while_its_nodes_come_and_go),
        SCENARIO(a_queue_gives_back_what_was_put_in_and_frees_its_dummies),
        SCENARIO(defer_rcu_calls_once_and_after_sections_that_were_open),
        SCENARIO(a_liburcu_of_14_or_16_members_finds_them),
    };

    return RUN_SCENARIOS("urcu", list_of_scenarios, argc, argv);
}
#endif
