#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"

static void plain_allocations(void **state) {
    cleanup_free char *zero = xmalloc(0), *text = xstrdup("text"), *part = xstrndup("text", 2);
    cleanup_free char *made = xasprintf("%d-%s", 7, "x");
    cleanup_free int *numbers = xcalloc(100, sizeof(int));
    assert_non_null(zero);
    assert_string_equal(text, "text");
    assert_string_equal(part, "te");
    assert_string_equal(made, "7-x");
    for (int i = 0; i < 100; i++)
        assert_int_equal(numbers[i], 0);
    text = xrealloc(text, 1000);
    assert_string_equal(text, "text");
}

static void arena_memory_is_zeroed_aligned_and_apart(void **state) {
    cleanup_arena struct arena *a = arena_new(64, 0);
    unsigned char *was = NULL;
    size_t was_n = 0;
    for (size_t n = 0; n < 2000; n += 7) {
        unsigned char *p = arena_alloc(a, n);
        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xAA, n);
        for (size_t i = 0; i < was_n; i++)
            assert_int_equal(was[i], 0x55);
        memset(p, 0x55, n);
        was = p;
        was_n = n;
    }
}

static void the_arenas_limit(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 1000);
    assert_non_null(arena_try_alloc(a, 500));
    assert_null(arena_try_alloc(a, 600));
    assert_null(arena_try_alloc(a, SIZE_MAX));
    assert_null(arena_try_alloc(a, SIZE_MAX - 8));
    assert_non_null(arena_try_alloc(a, 400)); /* a refusal costs nothing */
    assert_in_range(arena_used(a), 900, 1000);
}

static void beyond_the_limit_arena_alloc_aborts(void **state) {
    pid_t pid = fork();
    if (pid == 0) {
        struct arena *a = arena_new(0, 100);
        close(STDERR_FILENO);
        arena_alloc(a, 200);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void arena_strings(void **state) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    assert_string_equal(arena_strdup(a, "abc"), "abc");
    assert_string_equal(arena_strndup(a, "abc", 2), "ab");
    assert_string_equal(arena_strndup(a, NULL, 0), "");
    assert_string_equal(arena_printf(a, "%s/%05d", "x", 42), "x/00042");
    char long_text[5000];
    memset(long_text, 'y', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = 0;
    assert_string_equal(arena_printf(a, "%s", long_text), long_text);
}

static void note(void *arg) {
    char **log = arg;
    *(*log)++ = 'x';
}

static char *order;

static void note_a(void *arg) {
    *order++ = *(char *)arg;
}

static void deferred_calls_run_last_first(void **state) {
    char log[4] = {0}, letters[] = "abc";
    order = log;
    struct arena *a = arena_new(0, 0);
    for (int i = 0; i < 3; i++)
        arena_defer(a, note_a, &letters[i]);
    assert_string_equal(log, "");
    arena_free(a);
    assert_string_equal(log, "cba");
    char *p = log;
    a = arena_new(0, 0);
    arena_defer(a, note, &p);
    arena_free(a);
    assert_ptr_equal(p, log + 1);
    arena_free(NULL);
}

static void taking_ownership(void **state) {
    cleanup_free char *p = xstrdup("x");
    cleanup_close int fd = dup(STDOUT_FILENO);
    char *mine = TAKE_PTR(p);
    int mine_fd = TAKE_FD(fd);
    assert_null(p);
    assert_int_equal(fd, -1);
    assert_string_equal(mine, "x");
    assert_int_equal(close(mine_fd), 0);
    free(mine);
}

static void references(void **state) {
    struct ref r;
    ref_init(&r);
    ref_get(&r);
    assert_false(ref_put(&r));
    assert_true(ref_put(&r));
}

static void vectors(void **state) {
    VEC(int) v = {0};
    for (int i = 0; i < 1000; i++)
        vec_push(&v, i);
    assert_int_equal(v.n, 1000);
    vec_remove(&v, 0);
    vec_remove(&v, 998);
    vec_remove(&v, 500);
    assert_int_equal(v.n, 997);
    assert_int_equal(v.items[0], 1);
    assert_int_equal(v.items[499], 500);
    assert_int_equal(v.items[500], 502);
    assert_int_equal(v.items[996], 998);
    vec_fini(&v);
    assert_null(v.items);
    assert_int_equal(v.n, 0);
}

struct thing {
    int n;
    struct list link;
};

static void lists(void **state) {
    struct list head = LIST_INIT(head);
    struct thing things[4] = {{.n = 0}, {.n = 1}, {.n = 2}, {.n = 3}};
    assert_true(list_empty(&head));
    assert_null(list_pop_front(&head));
    for (int i = 0; i < 3; i++)
        list_push_back(&head, &things[i].link);
    list_push_front(&head, &things[3].link);
    int order[4], n = 0;
    LIST_FOREACH (it, &head) {
        struct thing *t = LIST_ITEM(it, struct thing, link);
        order[n++] = t->n;
        if (t->n == 1)
            list_remove(it); /* the current one may go */
    }
    assert_memory_equal(order, ((int[]){3, 0, 1, 2}), sizeof(order));
    list_remove(&things[1].link); /* again: harmless */
    assert_ptr_equal(list_pop_front(&head), &things[3].link);
    assert_ptr_equal(list_pop_front(&head), &things[0].link);
    assert_ptr_equal(list_pop_front(&head), &things[2].link);
    assert_true(list_empty(&head));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_allocations), cmocka_unit_test(arena_memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(the_arenas_limit),  cmocka_unit_test(beyond_the_limit_arena_alloc_aborts),
        cmocka_unit_test(arena_strings),     cmocka_unit_test(deferred_calls_run_last_first),
        cmocka_unit_test(taking_ownership),  cmocka_unit_test(references),
        cmocka_unit_test(vectors),           cmocka_unit_test(lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
