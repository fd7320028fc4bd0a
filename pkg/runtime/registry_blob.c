/* Documents and blobs on top of single requests: the next endpoint when one fails, and downloads that go on. */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/registry.h"

#define DOCUMENT_DEADLINE_MS 120000
#define ATTEMPTS_MAX 4 /* in a row without a new byte */

/* Failures of endpoints, one after another, for the message in the end. */
struct failures {
    struct buf mirrors; /* "; https://m: not found" of all but the last */
    struct error last;
};

static void failures_add(struct failures *f, const struct registry_endpoint *e, int code, const struct error *err) {
    if (f->last.code) /* the former last was a mirror's */
        buf_printf(&f->mirrors, "%s%s", f->mirrors.n ? "; " : "", f->last.msg);
    bool names = strstr(err->msg, "://") != NULL;
    if (e->is_mirror && !names)
        snprintf(f->last.msg, sizeof(f->last.msg), "%.150s: %.340s", e->base.p, err->msg);
    else
        f->last = *err;
    f->last.code = code;
}

static void failures_text(const struct failures *f, struct error *out) {
    *out = f->last;
    if (f->mirrors.n) {
        struct str m = buf_str(&f->mirrors);
        error_set(out, f->last.code, "%.300s (mirrors tried before: %.*s)", f->last.msg, (int)MIN(m.n, 180), m.p);
    }
}

/* --- documents ---------------------------------------------------------------------------------------------------- */

struct registry_get {
    struct registry *registry;
    struct registry_source *source;
    struct registry_get_options o;
    struct arena *arena;
    registry_get_done *done;
    void *arg;
    size_t tried; /* endpoints so far, from o.endpoint round */
    struct registry_fetch *fetch;
    struct buf body;
    struct str content_type;
    char claimed[IMAGE_DIGEST_LEN + 1]; /* Docker-Content-Digest */
    struct failures failures;
    struct error own; /* why we ended the request ourselves */
    bool cancelled;
};

static void get_next(struct registry_get *g);

static size_t endpoint_number(const struct registry_source *s, size_t first, size_t tried) {
    return (first + tried) % s->endpoints_n;
}

static void get_finish(struct registry_get *g, const struct registry_document *doc, int code, const struct error *err) {
    g->done(g->arg, doc, code, err);
    buf_fini(&g->body);
    buf_fini(&g->failures.mirrors);
    registry_source_unref(g->source);
    arena_free(g->arena);
}

static int get_on_head(void *arg, int status, const struct http_header *headers, size_t n) {
    struct registry_get *g = arg;
    for (size_t i = 0; i < n; i++) {
        struct str v = headers[i].value;
        if (str_eq_nocase(headers[i].name, STR("content-type")) && v.n < 512) {
            str_cut(v, ';', &v, NULL);
            g->content_type = str_dup(g->arena, str_trim(v));
        } else if (str_eq_nocase(headers[i].name, STR("docker-content-digest")) && image_digest_valid(v)) {
            memcpy(g->claimed, v.p, v.n);
        } else if (str_eq_nocase(headers[i].name, STR("content-length"))) {
            uint64_t length;
            if (str_to_u64(v, &length) && length > g->o.bytes_max)
                return error_set(&g->own, -E2BIG, "%s is %llu bytes large, the limit is %zu", g->o.path,
                                 (unsigned long long)length, g->o.bytes_max);
        }
    }
    return 0;
}

static int get_on_body(void *arg, struct str data) {
    struct registry_get *g = arg;
    if (g->body.n + data.n > g->o.bytes_max)
        return error_set(&g->own, -E2BIG, "%s is larger than the limit of %zu bytes", g->o.path, g->o.bytes_max);
    buf_put(&g->body, data.p, data.n);
    return g->body.failed ? error_set(&g->own, -ENOMEM, "%s: no memory", g->o.path) : 0;
}

/* The body against the digest asked for, or the one the registry claims. */
static int check_digest(struct registry_get *g, struct registry_document *doc, struct error *err) {
    image_digest_of(g->body.p, g->body.n, doc->digest);
    struct str want = g->o.digest.n ? g->o.digest : str_c(g->claimed);
    if (!want.n || str_eq_c(want, doc->digest))
        return 0;
    return error_set(err, -EBADMSG, "%s: digest mismatch: expected %.*s, content has %s", g->o.path, STR_ARG(want),
                     doc->digest);
}

static void get_on_done(void *arg, int code, const struct error *err) {
    struct registry_get *g = arg;
    size_t number = endpoint_number(g->source, g->o.endpoint, g->tried);
    g->fetch = NULL;
    struct registry_document doc = {.body = buf_str(&g->body), .content_type = g->content_type, .endpoint = number};
    struct error why = *err;
    if (g->own.code) {
        why = g->own;
        code = why.code;
    } else if (code == 0) {
        code = check_digest(g, &doc, &why);
    }
    if (code == 0 || g->cancelled) {
        get_finish(g, code == 0 ? &doc : NULL, code, &why);
        return;
    }
    why.code = code;
    failures_add(&g->failures, &g->source->endpoints[number], code, &why);
    if (++g->tried < g->source->endpoints_n) {
        get_next(g);
        return;
    }
    failures_text(&g->failures, &why);
    get_finish(g, NULL, why.code, &why);
}

static void get_next(struct registry_get *g) {
    struct registry_fetch_options o = {.endpoint = endpoint_number(g->source, g->o.endpoint, g->tried),
                                       .path = g->o.path,
                                       .accept = g->o.accept,
                                       .deadline_ms = DOCUMENT_DEADLINE_MS};
    struct registry_fetch_events ev = {get_on_head, get_on_body, get_on_done, g};
    buf_reset(&g->body);
    memset(g->claimed, 0, sizeof(g->claimed));
    g->content_type = STR("");
    g->own = (struct error){0};
    g->fetch = registry_fetch_start(g->registry, g->source, &o, &ev);
}

struct registry_get *registry_get_start(struct registry *r, struct registry_source *s,
                                        const struct registry_get_options *o, registry_get_done *done, void *arg) {
    struct arena *a = arena_new(0, MiB(4));
    struct registry_get *g = ARENA_NEW(a, struct registry_get);
    g->arena = a;
    g->registry = r;
    g->source = registry_source_ref(s);
    g->o = *o;
    g->o.path = arena_strdup(a, o->path);
    g->o.accept = o->accept ? arena_strdup(a, o->accept) : NULL;
    g->o.digest = o->digest.n ? str_dup(a, o->digest) : STR("");
    g->done = done;
    g->arg = arg;
    buf_init(&g->body, o->bytes_max + 1);
    buf_init(&g->failures.mirrors, KiB(8));
    get_next(g);
    return g;
}

void registry_get_cancel(struct registry_get *g) {
    g->cancelled = true;
    if (g->fetch)
        registry_fetch_cancel(g->fetch);
}

/* --- blobs -------------------------------------------------------------------------------------------------------- */

struct registry_blob {
    struct registry *registry;
    struct registry_source *source;
    struct arena *arena;
    size_t first, tried;
    char digest[IMAGE_DIGEST_LEN + 1];
    const char *path;
    uint64_t size;
    uint64_t received;        /* given to the receiver */
    uint64_t skip;            /* of the running answer: bytes the receiver has already */
    uint64_t received_before; /* when the running request began */
    int attempts;
    struct registry_fetch *fetch;
    struct timer retry;
    struct registry_blob_events ev;
    struct failures failures;
    struct error own;
    bool receiver_failed, cancelled, paused;
};

static void blob_next(struct registry_blob *b);

static void blob_finish(struct registry_blob *b, int code, const struct error *err) {
    timer_stop(&b->retry);
    struct error e = *err;
    b->ev.on_done(b->ev.arg, code, &e);
    buf_fini(&b->failures.mirrors);
    registry_source_unref(b->source);
    arena_free(b->arena);
}

size_t registry_blob_endpoint(const struct registry_blob *b) {
    return endpoint_number(b->source, b->first, b->tried);
}

/* "bytes 100-199/200" -> 100 */
static bool range_start(struct str v, uint64_t *out) {
    struct str from;
    return str_starts(v, STR("bytes ")) && str_cut(str_skip(v, 6), '-', &from, NULL) && str_to_u64(from, out);
}

static int blob_on_head(void *arg, int status, const struct http_header *headers, size_t n) {
    struct registry_blob *b = arg;
    uint64_t start = 0, length = 0;
    bool has_length = false, has_range = false;
    for (size_t i = 0; i < n; i++) {
        if (str_eq_nocase(headers[i].name, STR("content-length")))
            has_length = str_to_u64(headers[i].value, &length);
        else if (str_eq_nocase(headers[i].name, STR("content-range")))
            has_range = range_start(headers[i].value, &start);
    }
    if (status == 206) {
        if (!has_range || start != b->received)
            return error_set(&b->own, -EPROTO, "the registry continued the download at the wrong place");
        b->skip = 0;
        length += start;
    } else {
        b->skip = b->received;
    }
    if (has_length && length != b->size)
        return error_set(&b->own, -EBADMSG, "blob %s is %llu bytes large, the manifest says %llu", b->digest,
                         (unsigned long long)length, (unsigned long long)b->size);
    return 0;
}

static int blob_on_body(void *arg, struct str data) {
    struct registry_blob *b = arg;
    size_t drop = (size_t)MIN(b->skip, (uint64_t)data.n);
    b->skip -= drop;
    data = str_n(data.p + drop, data.n - drop);
    if (!data.n)
        return 0;
    if (data.n > b->size - b->received)
        return error_set(&b->own, -EBADMSG, "blob %s is larger than the %llu bytes that the manifest says", b->digest,
                         (unsigned long long)b->size);
    b->received += data.n;
    int rc = b->ev.on_data(b->ev.arg, data);
    b->receiver_failed = rc != 0;
    return rc;
}

static void on_retry(void *arg) {
    blob_next(arg);
}

/* Whether the same endpoint is worth another request, which begins where this one broke. */
static bool worth_retrying(const struct registry_blob *b, int code) {
    if (code == -ENOENT || code == -EACCES || code == -EBADMSG || b->attempts >= ATTEMPTS_MAX)
        return false;
    return b->received > 0;
}

static void blob_on_done(void *arg, int code, const struct error *err) {
    struct registry_blob *b = arg;
    struct error why = *err;
    b->fetch = NULL;
    if (b->cancelled || b->receiver_failed) {
        blob_finish(b, b->cancelled ? -ECANCELED : code, &why);
        return;
    }
    if (b->own.code) {
        why = b->own;
        code = why.code;
    } else if (b->received == b->size) { /* all is there, however the connection ended */
        why = (struct error){0};
        blob_finish(b, 0, &why);
        return;
    } else if (code == 0) {
        code = error_set(&why, -EPIPE, "blob %s ended after %llu of %llu bytes", b->digest,
                         (unsigned long long)b->received, (unsigned long long)b->size);
    }
    if (b->received > b->received_before)
        b->attempts = 0;
    b->attempts++;
    if (worth_retrying(b, code)) {
        timer_set(&b->retry, registry_retry_ms(b->registry) << (b->attempts - 1), 0);
        return;
    }
    why.code = code;
    failures_add(&b->failures, &b->source->endpoints[registry_blob_endpoint(b)], code, &why);
    b->attempts = 0;
    if (b->tried + 1 < b->source->endpoints_n) {
        b->tried++;
        blob_next(b);
        return;
    }
    failures_text(&b->failures, &why);
    blob_finish(b, why.code, &why);
}

static void blob_next(struct registry_blob *b) {
    struct registry_fetch_options o = {.endpoint = registry_blob_endpoint(b), .path = b->path, .offset = b->received};
    struct registry_fetch_events ev = {blob_on_head, blob_on_body, blob_on_done, b};
    b->own = (struct error){0};
    b->received_before = b->received;
    b->fetch = registry_fetch_start(b->registry, b->source, &o, &ev);
    if (b->paused)
        registry_fetch_pause(b->fetch, true);
}

static void blob_cancelled(void *arg) {
    struct registry_blob *b = arg;
    struct error err = {.code = -ECANCELED, .msg = "cancelled"};
    blob_finish(b, -ECANCELED, &err);
}

struct registry_blob *registry_blob_start(struct registry *r, struct registry_source *s, size_t endpoint,
                                          struct str digest, uint64_t size, const struct registry_blob_events *ev) {
    struct arena *a = arena_new(0, MiB(4));
    struct registry_blob *b = ARENA_NEW(a, struct registry_blob);
    b->arena = a;
    b->registry = r;
    b->source = registry_source_ref(s);
    b->first = endpoint;
    memcpy(b->digest, digest.p, MIN(digest.n, IMAGE_DIGEST_LEN));
    b->path = arena_printf(a, "blobs/%s", b->digest);
    b->size = size;
    b->ev = *ev;
    buf_init(&b->failures.mirrors, KiB(8));
    timer_init(&b->retry, registry_loop(r), on_retry, b);
    blob_next(b);
    return b;
}

void registry_blob_cancel(struct registry_blob *b) {
    if (b->cancelled)
        return;
    b->cancelled = true;
    if (b->fetch) {
        registry_fetch_cancel(b->fetch);
    } else {
        timer_stop(&b->retry);
        loop_post(registry_loop(b->registry), blob_cancelled, b);
    }
}

void registry_blob_pause(struct registry_blob *b, bool pause) {
    b->paused = pause;
    if (b->fetch)
        registry_fetch_pause(b->fetch, pause);
}
