/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is published is converted as by an assignment; free_rcu() takes any struct with a head. C and C++; each argument
 * is evaluated once. */
#ifdef WITH_URCU
#include <rcu_notrace/urcu.h>
#else
#include <rcu_notrace.h>
#endif

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("    FAILED: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
            return 1; \
        } \
    } while (0)

struct item {
    int number;
    struct item *next;
};

static struct item one = {1, NULL}, two = {2, &one};
static struct item *shared, *array[4];
static struct item *volatile changing;
static const struct item *read_only;
static void *whatever;
static int (*function)(void);
static int (*volatile changing_function)(void);
static unsigned long word;

static unsigned places, values;

static struct item **next_place(void)
{
    return &array[places++];
}

static struct item *next_value(struct item *item)
{
    values++;
    return item;
}

static int three(void)
{
    return 3;
}

static int assigned(void)
{
    struct item items[2] = {{5, NULL}, {6, NULL}};
    unsigned i = 0;

    rcu_assign_pointer(shared, &one);
    rcu_assign_pointer(read_only, &one);
    rcu_assign_pointer(whatever, &one);
    rcu_assign_pointer(changing, &one);
    CHECK(shared == &one && read_only == &one && whatever == &one && changing == &one);
    rcu_assign_pointer(function, three);
    rcu_assign_pointer(changing_function, &three);
    CHECK(function() == 3 && changing_function() == 3);
    rcu_assign_pointer(shared, items);
    CHECK(shared == items);
    rcu_assign_pointer(shared, NULL);
    rcu_assign_pointer(changing, 0);
    rcu_assign_pointer(function, NULL);
    CHECK(!shared && !changing && !function);
    rcu_assign_pointer(array[i++], &two);
    CHECK(i == 1 && array[0] == &two && !array[1]);
    places = values = 0;
    rcu_assign_pointer(*next_place(), next_value(&one));
    CHECK(places == 1 && values == 1 && array[0] == &one);
    if (values)
        rcu_assign_pointer(shared, &one);
    else
        rcu_assign_pointer(shared, &two);
    CHECK(shared == &one);
    return 0;
}

static int exchanged(void)
{
    unsigned i = 0;

    shared = array[0] = NULL;
    CHECK(!rcu_xchg_pointer(&shared, &one));
    CHECK(rcu_xchg_pointer(&shared, &two)->number == 1);
    CHECK(rcu_xchg_pointer(&shared, NULL) == &two && !shared);
    rcu_xchg_pointer(&changing, &one);
    CHECK(rcu_xchg_pointer(&changing, 0) == &one && !changing);
    CHECK(rcu_xchg_pointer(&array[i++], &one) == NULL && i == 1 && array[0] == &one);
    places = values = 0;
    CHECK(rcu_xchg_pointer(next_place(), next_value(&two)) == &one && places == 1 && values == 1);
    CHECK(rcu_xchg_pointer(&word, 7) == 0 && word == 7);
    /* One in the other. */
    shared = &one;
    rcu_assign_pointer(array[1], rcu_xchg_pointer(&shared, rcu_cmpxchg_pointer(&array[0], &two, NULL)));
    CHECK(array[1] == &one && shared == &two && !array[0]);
    return 0;
}

static int compared(void)
{
    unsigned i = 0;

    shared = NULL;
    changing = &one;
    CHECK(rcu_cmpxchg_pointer(&shared, NULL, &one) == NULL && shared == &one);
    CHECK(rcu_cmpxchg_pointer(&shared, &two, NULL)->number == 1 && shared == &one);
    CHECK(rcu_cmpxchg_pointer(&shared, &one, NULL) == &one && !shared);
    CHECK(rcu_cmpxchg_pointer(&changing, &one, &two) == &one && changing == &two);
    CHECK(rcu_cmpxchg_pointer(&read_only, read_only, &two) && read_only == &two);
    array[0] = NULL;
    CHECK(!rcu_cmpxchg_pointer(&array[i++], NULL, &one) && i == 1 && array[0] == &one);
    places = values = 0;
    CHECK(rcu_cmpxchg_pointer(next_place(), next_value(&one), next_value(&two)) == &one && places == 1 && values == 2);
    return 0;
}

struct block {
    int number;
    struct {
        struct rcu_head head;
    } in;
};

static struct block *block_of(struct block *block)
{
    values++;
    return block;
}

static int freed(void)
{
    struct block *blocks[2] = {(struct block *)malloc(sizeof(struct block)), NULL};
    unsigned i = 0;

    values = 0;
    CHECK(free_rcu(block_of(blocks[i++]), in.head) == 0 && i == 1 && values == 1);
    CHECK(free_rcu(block_of(blocks[i++]), in.head) == 0 && i == 2 && values == 2);
    rcu_barrier();
    return 0;
}

#ifdef __cplusplus
struct first {
    int a;
};
struct second {
    int b;
};
struct both : first, second {
};

static second *base;

static int of_a_derived_class(void)
{
    static both object, another;
    second *from = &object, *to = &another;

    rcu_assign_pointer(base, &object);
    CHECK(base == from);
    CHECK(rcu_xchg_pointer(&base, &another) == from && base == to);
    CHECK(rcu_cmpxchg_pointer(&base, &another, &object) == to && base == from);
    rcu_assign_pointer(base, nullptr);
    CHECK(!base && !rcu_xchg_pointer(&base, nullptr));
    CHECK(!rcu_cmpxchg_pointer(&base, nullptr, &object) && base == from);
#ifdef WITH_URCU
    rcu_set_pointer(&base, &another);
    CHECK(base == to);
#endif
    return 0;
}

template <class P> static int of_a_template(P &p, P value)
{
    rcu_assign_pointer(p, value);
    CHECK(rcu_xchg_pointer(&p, nullptr) == value && !p);
    CHECK(!rcu_cmpxchg_pointer(&p, nullptr, value) && p == value);
    return 0;
}

template <class P> static int of_a_templates_block(P none)
{
    CHECK(free_rcu(none, in.head) == 0);
    return 0;
}
#endif

int main(void)
{
#ifdef WITH_URCU
    rcu_set_pointer(&shared, &two);
    CHECK(shared == &two);
#endif
#ifdef __cplusplus
    if (of_a_derived_class() || of_a_template(shared, &one) || of_a_templates_block<block *>(nullptr))
        return 1;
#endif
    return assigned() || exchanged() || compared() || freed();
}
