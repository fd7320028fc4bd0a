/* sanitizer: thread */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "codec/base64.h"
#include "fake_image.h"
#include "store_env.h"

struct rig {
    struct store_env e;
    struct fake server, other;
    struct fake_image img;
    atomic_int mode, count;
    pthread_mutex_t lock;
    char seen_auth[1024]; /* the last Authorization at the other server */
};

/* What the server does wrong; each test sets one. */
enum {
    FINE,
    WRONG_LAYER,
    WRONG_MANIFEST,
    TRUNCATED_ONCE,
    TRUNCATED_ALWAYS,
    HANG_HEAD,
    HANG_BLOB,
    HUGE_MANIFEST,
    ENDLESS_MANIFEST,
    SCHEMA1,
    BEARER,
    BEARER_DENIED,
    BASIC,
    IDENTITY,
    REDIRECT_BLOBS,
    REDIRECT_LOOP,
    BROKEN_500,
    TOO_MANY,
    JUNK_JSON,
    SHORT_BLOB,
    BOMB,
};

static void challenge(struct rig *r, struct fake_answer *a, const char *scheme) {
    a->status = 401;
    snprintf(a->headers, sizeof(a->headers), "%s", scheme);
    a->body = STR("{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}");
}

/* Whether the request may go on; else the answer is made. */
static bool authorized(struct rig *r, const struct fake_request *rq, struct fake_answer *a, int mode) {
    char have[1024], text[1024];
    const char *auth = fake_header(rq, "Authorization", have);
    if (strncmp(rq->path, "/token", 6) == 0) {
        bool good = auth && strcmp(auth, "Basic dXNlcjpwYXNz") == 0; /* user:pass */
        if (mode == IDENTITY)
            good = strcmp(rq->method, "POST") == 0 && strstr(rq->body, "grant_type=refresh_token") &&
                   strstr(rq->body, "refresh_token=id%2Btok");
        bool scoped = strstr(rq->path, "service=fake") && strstr(rq->path, "scope=repository:app:pull");
        scoped |= strstr(rq->body, "service=fake") && strstr(rq->body, "scope=repository:app:pull");
        atomic_fetch_add(&r->count, 1);
        a->status = good && scoped ? 200 : 401;
        a->body = good ? STR("{\"token\":\"T0k.en\",\"expires_in\":300}") : STR("{}");
        return false;
    }
    if (mode == BASIC) {
        if (auth && strcmp(auth, "Basic dXNlcjpwYXNz") == 0)
            return true;
        challenge(r, a, "WWW-Authenticate: Basic realm=\"x\"\r\n");
        return false;
    }
    if (auth && strcmp(auth, "Bearer T0k.en") == 0 && mode != BEARER_DENIED)
        return true;
    snprintf(
        text, sizeof(text),
        "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"fake\",scope=\"repository:app:pull\"\r\n",
        r->server.port);
    challenge(r, a, text);
    return false;
}

static char big[MiB(5)]; /* blanks */

static void misbehave(struct rig *r, const struct fake_request *rq, struct fake_answer *a, int mode) {
    bool manifest = strstr(rq->path, "/manifests/") != NULL;
    bool layer = strstr(rq->path, r->img.layers[0].digest) != NULL;
    char range[1024];
    switch (mode) {
    case WRONG_LAYER:
        if (layer)
            a->body = buf_str(&r->img.layers[1].bytes);
        if (layer) /* same size, or the size alone would tell */
            a->body = str_n(big, r->img.layers[0].bytes.n);
        break;
    case WRONG_MANIFEST:
        if (manifest && strstr(rq->path, "sha256:"))
            a->body = buf_str(&r->img.index.bytes);
        snprintf(a->headers, sizeof(a->headers), "Content-Type: application/json\r\n");
        break;
    case TRUNCATED_ONCE:
    case TRUNCATED_ALWAYS:
        if (!layer)
            break;
        if (mode == TRUNCATED_ONCE && atomic_fetch_add(&r->count, 1) > 0) {
            if (!fake_header(rq, "Range", range) || strcmp(range, "bytes=50-") != 0)
                a->status = 500;
            a->status = 206;
            snprintf(a->headers, sizeof(a->headers), "Content-Range: bytes 50-%zu/%zu\r\n", a->body.n - 1, a->body.n);
            a->body = str_skip(a->body, 50);
        } else {
            a->cut = 50;
        }
        break;
    case HANG_HEAD:
        a->silent = true;
        break;
    case HANG_BLOB:
        a->cut = layer ? 50 : 0;
        a->hang = layer;
        break;
    case HUGE_MANIFEST:
        a->body = str_n(big, sizeof(big));
        break;
    case ENDLESS_MANIFEST:
        a->body = str_n(big, 65536);
        a->endless = true;
        break;
    case SCHEMA1:
        a->body = STR("{\"schemaVersion\":1,\"name\":\"app\",\"fsLayers\":[]}");
        snprintf(a->headers, sizeof(a->headers),
                 "Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws\r\n");
        break;
    case REDIRECT_BLOBS:
        if (!manifest) {
            a->status = 307;
            snprintf(a->headers, sizeof(a->headers), "Location: http://localhost:%d/store%s\r\n", r->other.port,
                     rq->path);
            a->body = STR("");
        }
        break;
    case REDIRECT_LOOP:
        a->status = 302;
        snprintf(a->headers, sizeof(a->headers), "Location: %s\r\n", rq->path);
        a->body = STR("");
        break;
    case BROKEN_500:
        a->status = 503;
        a->body = STR("{\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"being mended\"}]}");
        break;
    case TOO_MANY:
        a->status = 429;
        a->body = STR("{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"pull rate limit\"}]}");
        break;
    case JUNK_JSON:
        a->body = STR("<html>");
        snprintf(a->headers, sizeof(a->headers), "Content-Type: text/html\r\n");
        break;
    case SHORT_BLOB:
        if (layer)
            a->body.n -= 10;
        break;
    default:
        break;
    }
}

static void handler(void *arg, const struct fake_request *rq, struct fake_answer *a) {
    struct rig *r = arg;
    int mode = atomic_load(&r->mode);
    bool guarded = mode == BEARER || mode == BEARER_DENIED || mode == BASIC || mode == IDENTITY;
    if (guarded && !authorized(r, rq, a, mode))
        return;
    fake_serve(&r->img, rq->path, a);
    misbehave(r, rq, a, mode);
}

static void other_handler(void *arg, const struct fake_request *rq, struct fake_answer *a) {
    struct rig *r = arg;
    char auth[1024];
    pthread_mutex_lock(&r->lock);
    if (fake_header(rq, "Authorization", auth))
        snprintf(r->seen_auth, sizeof(r->seen_auth), "%s", auth);
    pthread_mutex_unlock(&r->lock);
    fake_serve(&r->img, rq->path, a);
}

static int rig_up(void **state) {
    struct rig *r = XNEW(struct rig);
    char yaml[512];
    pthread_mutex_init(&r->lock, NULL);
    memset(big, ' ', sizeof(big));
    fake_image_small(&r->img);
    fake_start(&r->server, handler, r);
    fake_start(&r->other, other_handler, r);
    snprintf(yaml, sizeof(yaml),
             "mirrors:\n  two.example:\n    endpoint: ['http://127.0.0.1:%d', 'http://127.0.0.1:%d']\n"
             "  dead.example:\n    endpoint: ['http://127.0.0.1:1']\n",
             r->server.port, r->other.port);
    env_init(&r->e, yaml);
    *state = r;
    return 0;
}

static int rig_down(void **state) {
    struct rig *r = *state;
    env_fini(&r->e);
    fake_stop(&r->server);
    fake_stop(&r->other);
    fake_image_free(&r->img);
    free(r);
    return 0;
}

static struct env_pull pull(struct rig *r, int mode, const char *reference) {
    static char name[300];
    atomic_store(&r->mode, mode);
    atomic_store(&r->count, 0);
    snprintf(name, sizeof(name), "127.0.0.1:%d/app%s", r->server.port, reference);
    return env_pull(&r->e, name);
}

#define assert_pull_fails(p, want_code, part)                                                \
    do {                                                                                     \
        struct env_pull p_ = (p);                                                            \
        assert_null(p_.img);                                                                 \
        if (!strstr(p_.err.msg, part) || p_.code != (want_code))                             \
            fail_msg("%d \"%s\", expected %d \"%s\"", p_.code, p_.err.msg, want_code, part); \
        assert_non_null(strstr(p_.err.msg, "failed to pull image \""));                      \
    } while (0)

static void assert_good(struct env_pull p) {
    if (!p.img)
        fail_msg("%s", p.err.msg);
    char path[512], value[4];
    struct stat st;
    assert_non_null(p.img->layers[0]);
    assert_non_null(p.img->layers[1]);
    assert_null(p.img->layers[2]);
    snprintf(path, sizeof(path), "%s/etc/one", p.img->layers[0]);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_size, 3);
    snprintf(path, sizeof(path), "%s/etc/one", p.img->layers[1]);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
    snprintf(path, sizeof(path), "%s/tmp", p.img->layers[1]);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 01777); /* as in the layer below, though this layer does not say */
    assert_int_equal(getxattr(path, "trusted.overlay.opaque", value, sizeof(value)), -1);
    assert_string_equal(json_as_str(json_item(json_get_c(p.img->config, "Entrypoint"), 0)).p, "/bin/sh");
    assert_int_equal(p.img->size_bytes, 3 + 10 + 3);
}

static void pulls_an_image_by_tag_and_by_digest(void **state) {
    struct rig *r = *state;
    struct env_pull p = pull(r, FINE, ":v1");
    assert_good(p);
    assert_string_equal(p.img->id.p, r->img.config.digest);
    char name[300];
    snprintf(name, sizeof(name), "127.0.0.1:%d/app:v1", r->server.port);
    assert_int_equal(p.img->repo_tags_n, 1);
    assert_string_equal(p.img->repo_tags[0].p, name);
    snprintf(name, sizeof(name), "127.0.0.1:%d/app@%s", r->server.port, r->img.index.digest);
    assert_string_equal(p.img->repo_digests[0].p, name);
    int before = atomic_load(&r->server.requests);
    char reference[100];
    snprintf(reference, sizeof(reference), "@%s", r->img.manifest.digest);
    struct env_pull q = pull(r, FINE, reference);
    assert_non_null(q.img);
    assert_string_equal(q.img->id.p, p.img->id.p);
    assert_int_equal(q.img->repo_tags_n, 1);
    assert_int_equal(q.img->repo_digests_n, 2);
    assert_int_equal(atomic_load(&r->server.requests), before + 1); /* the manifest: all else was there */
    env_unref(&r->e, p.img);
    env_unref(&r->e, q.img);
    p.img = env_find(&r->e, r->img.config.digest);
    assert_non_null(p.img);
    env_unref(&r->e, p.img);
    p.img = env_find(&r->e, r->img.config.digest + 7);
    assert_non_null(p.img);
    env_unref(&r->e, p.img);
    assert_null(env_find(&r->e, "nothing:like-that"));
}

static void survives_a_restart_of_the_store(void **state) {
    struct rig *r = *state;
    struct env_pull p = pull(r, FINE, ":v1");
    assert_good(p);
    env_unref(&r->e, p.img);
    env_close(&r->e);
    /* what a crash may leave behind */
    char path[256];
    static const char *const torn[] = {"layers/77", "tmp/5", "tmp/5/etc", "layers/junk"};
    for (size_t i = 0; i < ARRAY_LEN(torn); i++) {
        snprintf(path, sizeof(path), "%s/%s", r->e.root, torn[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    static const char *const broken[] = {
        "layers/88.json", "images/x.json",
        "images/0000000000000000000000000000000000000000000000000000000000000000.json"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        snprintf(path, sizeof(path), "%s/%s", r->e.root, broken[i]);
        assert_int_equal(file_write_replace(path, STR("{\"id\":"), 0600, NULL), 0);
    }
    env_loop(&r->e);
    env_reopen(&r->e);
    int before = atomic_load(&r->server.requests);
    p.img = env_find(&r->e, p.name);
    assert_non_null(p.img);
    p.code = 0;
    assert_good(p);
    assert_int_equal(atomic_load(&r->server.requests), before);
    env_unref(&r->e, p.img);
    for (size_t i = 0; i < ARRAY_LEN(torn); i++) {
        snprintf(path, sizeof(path), "%s/%s", r->e.root, torn[i]);
        assert_int_equal(access(path, F_OK), -1);
    }
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        snprintf(path, sizeof(path), "%s/%s", r->e.root, broken[i]);
        assert_int_equal(access(path, F_OK), -1);
    }
    /* a layer that is gone takes its images with it, and the next pull mends it */
    env_close(&r->e);
    snprintf(path, sizeof(path), "%s/layers/1", r->e.root);
    assert_int_equal(dir_remove_all(path, NULL), 0);
    env_loop(&r->e);
    env_reopen(&r->e);
    assert_null(env_find(&r->e, p.name));
    p = pull(r, FINE, ":v1");
    assert_good(p);
    env_unref(&r->e, p.img);
}

static void tells_why_it_failed(void **state) {
    struct rig *r = *state;
    char want[300];
    snprintf(want, sizeof(want),
             "failed to pull image \"127.0.0.1:%d/app:missing\": 127.0.0.1:%d/app:missing: not found", r->server.port,
             r->server.port);
    struct env_pull p = pull(r, FINE, ":missing");
    assert_int_equal(p.code, -ENOENT);
    assert_string_equal(p.err.msg, want);
    assert_pull_fails(pull(r, WRONG_LAYER, ":v1"), -EBADMSG, r->img.layers[0].digest);
    assert_pull_fails(pull(r, WRONG_LAYER, ":v1"), -EBADMSG, "digest mismatch");
    assert_pull_fails(pull(r, WRONG_MANIFEST, ":v1"), -EBADMSG, "digest mismatch");
    assert_pull_fails(pull(r, TRUNCATED_ALWAYS, ":v1"), -EPIPE, r->img.layers[0].digest);
    assert_pull_fails(pull(r, SHORT_BLOB, ":v1"), -EBADMSG, "the manifest says");
    assert_pull_fails(pull(r, HUGE_MANIFEST, ":v1"), -E2BIG, "limit");
    assert_pull_fails(pull(r, ENDLESS_MANIFEST, ":v1"), -E2BIG, "limit");
    assert_pull_fails(pull(r, SCHEMA1, ":v1"), -ENOTSUP, "schema 1");
    assert_pull_fails(pull(r, REDIRECT_LOOP, ":v1"), -ELOOP, "redirects");
    assert_pull_fails(pull(r, BROKEN_500, ":v1"), -EIO, "503: being mended");
    assert_pull_fails(pull(r, TOO_MANY, ":v1"), -EBUSY, "pull rate limit");
    assert_pull_fails(pull(r, JUNK_JSON, ":v1"), -EINVAL, "manifest");
    assert_pull_fails(env_pull(&r->e, "library/UPPER"), -EINVAL, "lower case");
    assert_pull_fails(env_pull(&r->e, ""), -EINVAL, "empty");
    assert_pull_fails(env_pull(&r->e, "127.0.0.1:1/app"), -ECONNREFUSED, "127.0.0.1:1");
    assert_pull_fails(env_pull(&r->e, "no-such-host.invalid/app"), -EHOSTUNREACH, "no-such-host.invalid");
    /* nothing was left behind, and it still works */
    p = pull(r, FINE, ":v1");
    assert_good(p);
    env_unref(&r->e, p.img);
}

static void a_registry_that_hangs_is_given_up(void **state) {
    struct rig *r = *state;
    int64_t t0 = time_mono_ms();
    assert_pull_fails(pull(r, HANG_HEAD, ":v1"), -ETIMEDOUT, "no answer");
    assert_in_range(time_mono_ms() - t0, 300, 3000);
    t0 = time_mono_ms();
    assert_pull_fails(pull(r, HANG_BLOB, ":v1"), -ETIMEDOUT, "hangs");
    assert_in_range(time_mono_ms() - t0, 300, 6000);
}

static void a_broken_download_goes_on_where_it_broke(void **state) {
    struct rig *r = *state;
    struct env_pull p = pull(r, TRUNCATED_ONCE, ":v1");
    assert_good(p);
    assert_int_equal(atomic_load(&r->count), 2);
    env_unref(&r->e, p.img);
}

static void mirrors_are_tried_in_order(void **state) {
    struct rig *r = *state;
    atomic_store(&r->mode, WRONG_LAYER); /* the first mirror's blobs are bad, the second's are good */
    struct env_pull p = env_pull(&r->e, "two.example/app:v1");
    assert_good(p);
    assert_string_equal(p.img->repo_tags[0].p, "two.example/app:v1");
    env_unref(&r->e, p.img);
    env_remove(&r->e, "two.example/app:v1");
    atomic_store(&r->mode, BROKEN_500);
    p = env_pull(&r->e, "two.example/app:v1");
    assert_good(p);
    env_unref(&r->e, p.img);
    p = env_pull(&r->e, "two.example/app:missing");
    assert_null(p.img);
    assert_non_null(strstr(p.err.msg, "two.example"));
    assert_non_null(strstr(p.err.msg, "mirrors tried before"));
    assert_non_null(strstr(p.err.msg, "503"));
}

static void authenticates_with_tokens(void **state) {
    struct rig *r = *state;
    char name[100];
    const struct image_auth auths[] = {{STR("user"), STR("wrong"), STR("")}, {STR("user"), STR("pass"), STR("")}};
    snprintf(name, sizeof(name), "127.0.0.1:%d/app:v1", r->server.port);
    assert_pull_fails(pull(r, BEARER, ":v1"), -EACCES, "pull access denied");
    struct env_pull p = env_pull_auth(&r->e, name, auths, 2);
    assert_good(p);
    env_unref(&r->e, p.img);
    assert_int_equal(atomic_load(&r->count), 3); /* anonymous, wrong, right: the token serves for all the rest */
    env_remove(&r->e, name);
    assert_pull_fails(env_pull_auth(&r->e, name, auths, 1), -EACCES, "pull access denied");
    atomic_store(&r->mode, BEARER_DENIED);
    assert_pull_fails(env_pull_auth(&r->e, name, auths, 2), -EACCES, "authentication required");
    atomic_store(&r->mode, BASIC);
    p = env_pull_auth(&r->e, name, auths, 2);
    assert_good(p);
    env_unref(&r->e, p.img);
    env_remove(&r->e, name);
    atomic_store(&r->mode, IDENTITY);
    const struct image_auth identity[] = {{STR(""), STR(""), STR("id+tok")}};
    p = env_pull_auth(&r->e, name, identity, 1);
    assert_good(p);
    env_unref(&r->e, p.img);
}

static void redirects_carry_no_credentials(void **state) {
    struct rig *r = *state;
    char name[100];
    const struct image_auth auth = {STR("user"), STR("pass"), STR("")};
    snprintf(name, sizeof(name), "127.0.0.1:%d/app:v1", r->server.port);
    atomic_store(&r->mode, BASIC);
    atomic_store(&r->mode, REDIRECT_BLOBS);
    struct env_pull p = env_pull_auth(&r->e, name, &auth, 1);
    assert_good(p);
    assert_string_equal(r->seen_auth, "");
    assert_true(atomic_load(&r->other.requests) >= 3);
    env_unref(&r->e, p.img);
}

static void pulls_of_one_image_share_the_work(void **state) {
    struct rig *r = *state;
    char name[100];
    snprintf(name, sizeof(name), "127.0.0.1:%d/app:v1", r->server.port);
    struct env_pull p[3] = {{.name = name}, {.name = name}, {.name = name}};
    atomic_store(&r->mode, FINE);
    for (int i = 0; i < 3; i++)
        env_call(&r->e, env_pull_start, &p[i]);
    for (int i = 0; i < 3; i++) {
        env_wait(&r->e, &p[i].done);
        assert_good(p[i]);
        env_unref(&r->e, p[i].img);
    }
    assert_int_equal(atomic_load(&r->server.requests), 5); /* index, manifest, config, two layers */
}

static void cancel(struct store_env *e, void *arg) {
    struct env_pull *p = arg;
    image_pull_cancel(p->pull);
}

static void a_pull_can_be_cancelled(void **state) {
    struct rig *r = *state;
    char name[100];
    snprintf(name, sizeof(name), "127.0.0.1:%d/app:v1", r->server.port);
    const int modes[] = {HANG_HEAD, HANG_BLOB, FINE};
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct env_pull p = {.name = name};
        atomic_store(&r->mode, modes[i]);
        env_call(&r->e, env_pull_start, &p);
        usleep(modes[i] == FINE ? 0 : 100000);
        env_call(&r->e, cancel, &p);
        env_wait(&r->e, &p.done);
        assert_int_equal(p.code, -ECANCELED);
    }
    struct env_pull p = pull(r, FINE, ":v1");
    assert_good(p);
    env_unref(&r->e, p.img);
    /* and the store closes with a pull under way */
    struct env_pull q = {.name = "127.0.0.1:9/x"};
    atomic_store(&r->mode, HANG_BLOB);
    snprintf(name, sizeof(name), "127.0.0.1:%d/app:other", r->server.port);
    q.name = name;
    env_call(&r->e, env_pull_start, &q);
    env_call(&r->e, env_close_fn, NULL);
    env_wait(&r->e, &q.done);
    assert_int_equal(q.code, -ECANCELED);
    usleep(100000);
}

static void removal_frees_layers_that_nobody_uses(void **state) {
    struct rig *r = *state;
    struct env_pull p = pull(r, FINE, ":v1");
    assert_good(p);
    char dir[256];
    snprintf(dir, sizeof(dir), "%s", p.img->layers[0]);
    assert_int_equal(env_remove(&r->e, p.name).code, -EBUSY);
    env_unref(&r->e, p.img);
    assert_int_equal(env_remove(&r->e, p.name).code, 0);
    assert_int_equal(env_remove(&r->e, p.name).code, -ENOENT);
    for (int i = 0; i < 200 && access(dir, F_OK) == 0; i++)
        usleep(10000);
    assert_int_equal(access(dir, F_OK), -1);
    p = pull(r, FINE, ":v1");
    assert_good(p);
    env_unref(&r->e, p.img);
}

static void a_tag_moves_to_the_newer_image(void **state) {
    struct rig *r = *state;
    struct env_pull p = pull(r, FINE, ":v1");
    assert_good(p);
    struct fake_image old = r->img;
    struct buf t = BUF_INIT;
    r->img = (struct fake_image){0};
    TAR(&t, .type = '0', .path = "new", .mode = 0644);
    fake_layer(&r->img, &t, false);
    fake_image_seal(&r->img, "linux", "amd64");
    struct env_pull q = pull(r, FINE, ":v1");
    assert_non_null(q.img);
    assert_string_not_equal(q.img->id.p, p.img->id.p);
    struct image *now = env_find(&r->e, q.name);
    assert_string_equal(now->id.p, q.img->id.p);
    env_unref(&r->e, now);
    now = env_find(&r->e, p.img->id.p); /* still there, without a tag */
    assert_int_equal(now->repo_tags_n, 0);
    assert_int_equal(now->repo_digests_n, 1);
    env_unref(&r->e, now);
    env_unref(&r->e, p.img);
    env_unref(&r->e, q.img);
    fake_image_free(&old);
}

static void another_platform_is_refused(void **state) {
    struct rig *r = *state;
    env_close(&r->e);
    r->e.o.platform_os = "linux";
    r->e.o.platform_arch = "riscv64";
    env_loop(&r->e);
    env_reopen(&r->e);
    assert_pull_fails(pull(r, FINE, ":v1"), -ENOENT, "no match for platform linux/riscv64");
    assert_pull_fails(pull(r, FINE, ":plain"), -ENOENT, "the image is for linux/amd64");
}

static void a_second_store_is_refused(void **state) {
    struct rig *r = *state;
    struct image_store *second = NULL;
    struct error err;
    struct image_store_options o = r->e.o;
    assert_int_equal(image_store_open(&o, &second, &err), -EBUSY);
    assert_non_null(strstr(err.msg, r->e.root));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_up, rig_down)

int main(void) {
    if (geteuid() != 0) {
        puts("unpacking layers needs root");
        return 77;
    }
    pki_init();
    const struct CMUnitTest tests[] = {
        TEST(pulls_an_image_by_tag_and_by_digest),
        TEST(survives_a_restart_of_the_store),
        TEST(tells_why_it_failed),
        TEST(a_registry_that_hangs_is_given_up),
        TEST(a_broken_download_goes_on_where_it_broke),
        TEST(mirrors_are_tried_in_order),
        TEST(authenticates_with_tokens),
        TEST(redirects_carry_no_credentials),
        TEST(pulls_of_one_image_share_the_work),
        TEST(a_pull_can_be_cancelled),
        TEST(removal_frees_layers_that_nobody_uses),
        TEST(a_tag_moves_to_the_newer_image),
        TEST(another_platform_is_refused),
        TEST(a_second_store_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
