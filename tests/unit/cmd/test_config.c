#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../../cmd/dory/config.h"

static char dir[64], file[100];
static struct config cfg;
static struct error err;

static void write_to(const char *path, const char *text) {
    struct error e = {0};
    if (file_write_replace(path, str_c(text), 0600, &e) < 0)
        fail_msg("%s", e.msg);
}

static int set_up(void **state) {
    static const char *const variables[] = {"DORY_DATA_DIR", "DORY_TOKEN", "DORY_DEBUG", "DORY_TLS_SAN", "DORY_WRONG"};
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        unsetenv(variables[i]);
    snprintf(dir, sizeof(dir), "/tmp/dory-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(file, sizeof(file), "%s/config.yaml", dir);
    setenv("DORY_CONFIG_FILE", file, 1);
    write_to(file, "");
    err = (struct error){0};
    return 0;
}
static int tear_down(void **state) {
    config_fini(&cfg);
    return dir_remove_all(dir, NULL);
}

/* Arguments up to NULL. */
static int load(const char *first, ...) {
    char *argv[32];
    int argc = 0;
    va_list ap;
    va_start(ap, first);
    for (const char *a = first; a; a = va_arg(ap, const char *))
        argv[argc++] = (char *)(uintptr_t)a;
    va_end(ap);
    if (cfg.arena)
        config_fini(&cfg);
    return config_load(&cfg, argc, argv, &err);
}
#define LOAD(...) load(__VA_ARGS__ __VA_OPT__(, ) NULL)

#define REFUSED(rc, ...)                                           \
    do {                                                           \
        static const char *const words_[] = {__VA_ARGS__};         \
        assert_int_equal(rc, -EINVAL);                             \
        for (size_t i_ = 0; i_ < ARRAY_LEN(words_); i_++)          \
            if (!strstr(err.msg, words_[i_]))                      \
                fail_msg("no \"%s\" in: %s", words_[i_], err.msg); \
    } while (0)

static void has_defaults(void **state) {
    assert_int_equal(LOAD(), 0);
    assert_string_equal(cfg.data_dir, "/var/lib/dory");
    assert_int_equal(cfg.https_listen_port, 6443);
    assert_string_equal(cfg.cluster_cidr, "10.42.0.0/16");
    assert_string_equal(cfg.write_kubeconfig_mode, "0600");
    assert_int_equal(cfg.max_pods, 110);
    assert_false(cfg.debug);
    assert_null(cfg.token);
    assert_false(config_disabled(&cfg, "ingress"));
}

static void takes_flags_in_every_form(void **state) {
    assert_int_equal(LOAD("--data-dir", "/a", "--https-listen-port=7443", "-t", "secret", "--debug",
                          "--disable=ingress"),
                     0);
    assert_string_equal(cfg.data_dir, "/a");
    assert_int_equal(cfg.https_listen_port, 7443);
    assert_string_equal(cfg.token, "secret");
    assert_true(cfg.debug);
    assert_true(config_disabled(&cfg, "ingress"));
    assert_false(config_disabled(&cfg, "dns"));
    assert_int_equal(LOAD("--debug=false", "--token="), 0);
    assert_false(cfg.debug);
    assert_string_equal(cfg.token, "");
    assert_int_equal(LOAD("--tls-san", "a.example,b.example", "--tls-san=c.example"), 0);
    assert_int_equal(cfg.tls_san.n, 3);
    assert_string_equal(cfg.tls_san.items[2], "c.example");
    assert_null(cfg.tls_san.items[3]);
}

/* The file gives way to the environment, the environment to the command line. */
static void the_closer_one_wins(void **state) {
    write_to(file, "data-dir: /file\ntoken: file\ntls-san: [file.example]\nhttps-listen-port: 7000\n");
    assert_int_equal(LOAD(), 0);
    assert_string_equal(cfg.data_dir, "/file");
    assert_int_equal(cfg.https_listen_port, 7000);
    setenv("DORY_DATA_DIR", "/env", 1);
    setenv("DORY_TLS_SAN", "env.example", 1);
    assert_int_equal(LOAD(), 0);
    assert_string_equal(cfg.data_dir, "/env");
    assert_string_equal(cfg.token, "file");
    assert_int_equal(cfg.tls_san.n, 1);
    assert_string_equal(cfg.tls_san.items[0], "env.example");
    assert_int_equal(LOAD("-d", "/flag", "--tls-san", "flag.example"), 0);
    assert_string_equal(cfg.data_dir, "/flag");
    assert_int_equal(cfg.tls_san.n, 1);
    assert_string_equal(cfg.tls_san.items[0], "flag.example");
}

static void reads_the_drop_ins_behind_the_file(void **state) {
    char path[150];
    write_to(file, "tls-san:\n- a.example\ntoken: one\n");
    snprintf(path, sizeof(path), "%s.d", file);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s.d/20-b.yaml", file);
    write_to(path, "token: three\n");
    snprintf(path, sizeof(path), "%s.d/10-a.yaml", file);
    write_to(path, "token: two\ntls-san+: b.example\n");
    snprintf(path, sizeof(path), "%s.d/30-note.txt", file);
    write_to(path, "not: read\n");
    assert_int_equal(LOAD(), 0);
    assert_string_equal(cfg.token, "three");
    assert_int_equal(cfg.tls_san.n, 2);
    assert_string_equal(cfg.tls_san.items[1], "b.example");
}

static void refuses_the_unknown_by_name(void **state) {
    REFUSED(LOAD("--wrong"), "--wrong", "unknown flag");
    REFUSED(LOAD("--wrong=1"), "--wrong", "unknown flag");
    REFUSED(LOAD("-z"), "-z");
    REFUSED(LOAD("stray"), "\"stray\"");
    write_to(file, "wrong-key: 1\n");
    REFUSED(LOAD(), "wrong-key", "config.yaml", "unknown setting");
    write_to(file, "");
    setenv("DORY_WRONG", "1", 1);
    REFUSED(LOAD(), "DORY_WRONG", "unknown environment variable");
}

static void refuses_bad_values_by_name(void **state) {
    REFUSED(LOAD("--https-listen-port", "http"), "--https-listen-port", "\"http\"");
    REFUSED(LOAD("--https-listen-port", "70000"), "https-listen-port", "70000");
    REFUSED(LOAD("--https-listen-port", "0"), "https-listen-port");
    REFUSED(LOAD("--max-pods", "0"), "--max-pods");
    REFUSED(LOAD("--debug=maybe"), "--debug", "maybe");
    REFUSED(LOAD("--data-dir"), "--data-dir", "needs a value");
    REFUSED(LOAD("--disable", "everything"), "everything", "dns, ingress");
    REFUSED(LOAD("--token", "a", "--token-file", "/b"), "--token-file");
    static const struct {
        const char *text, *word;
    } files[] = {
        {"token: [a, b]\n", "token"},        {"tls-san: [1]\n", "tls-san"},
        {"token: {a: b}\n", "token"},        {"token:\n", "token"},
        {"- a\n", "map of settings"},        {"token: \"unfinished\n", "config.yaml"},
        {"https-listen-port: x\n", "https"}, {"config: /other.yaml\n", "config"},
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        write_to(file, files[i].text);
        int rc = LOAD();
        if (rc == 0 || !strstr(err.msg, files[i].word))
            fail_msg("%s: %d %s", files[i].text, rc, err.msg);
    }
}

static void a_named_file_must_be_there(void **state) {
    char missing[200];
    snprintf(missing, sizeof(missing), "%s/missing.yaml", dir);
    assert_true(LOAD("--config", missing) < 0);
    assert_non_null(strstr(err.msg, "missing.yaml"));
    unlink(file);
    assert_true(LOAD() < 0); /* named by the environment */
}

int main(void) {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(has_defaults),
        TEST(takes_flags_in_every_form),
        TEST(the_closer_one_wins),
        TEST(reads_the_drop_ins_behind_the_file),
        TEST(refuses_the_unknown_by_name),
        TEST(refuses_bad_values_by_name),
        TEST(a_named_file_must_be_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
