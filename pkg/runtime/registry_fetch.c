/* One request to one endpoint: challenge and token, redirects, errors told in words. */
#include <stdio.h>
#include <stdlib.h>

#include "runtime/registry.h"

#define REDIRECTS_MAX 5
#define ERROR_BODY_MAX KiB(16)
#define TOKEN_BODY_MAX KiB(64)
#define URL_BYTES_MAX KiB(8)
#define REQUEST_ARENA_MAX MiB(2)
#define CREDENTIAL_KEEP_S 300

struct registry_fetch {
    struct registry *registry;
    struct registry_source *source;
    struct registry_endpoint *endpoint;
    struct registry_fetch_options o;
    struct registry_fetch_events ev;
    struct arena *arena;

    struct http_call *call;
    bool waiting; /* for a transport: it will call back */
    struct timer deadline;
    bool timed_out, cancelled, paused;

    struct str url;
    bool foreign; /* redirected to another host: no credentials there */
    int redirects;
    bool for_token; /* the running call is the one to the token server */

    size_t credential; /* index, see credential_at() */
    struct registry_challenge challenge;
    struct str authorization;
    bool from_cache;

    /* of the running call */
    int status;
    bool streaming, cut;
    struct str location;
    struct str refusal; /* what the registry said with the last 401 or 403 */
    struct buf body;
};

static void fetch_send(struct registry_fetch *f);

/* --- end ---------------------------------------------------------------------------------------------------------- */

static void finish(struct registry_fetch *f, int code, const struct error *err) {
    timer_stop(&f->deadline);
    struct registry_fetch_events ev = f->ev;
    struct registry *r = f->registry;
    struct registry_source *s = f->source;
    struct arena *a = f->arena;
    struct error e = err ? *err : (struct error){0};
    buf_fini(&f->body);
    arena_free(a); /* f goes with it */
    registry_busy(r, -1);
    ev.on_done(ev.arg, code, &e);
    registry_source_unref(s);
}

static void fail(struct registry_fetch *f, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void fail(struct registry_fetch *f, int code, const char *fmt, ...) {
    struct error err = {.code = code};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err.msg, sizeof(err.msg), fmt, ap);
    va_end(ap);
    finish(f, code, &err);
}

/* Ends a cancelled or late request. Whether it did. */
static bool ended(struct registry_fetch *f) {
    if (f->timed_out)
        fail(f, -ETIMEDOUT, "%.*s: no complete answer within %lld s", STR_ARG(f->endpoint->base),
             (long long)f->o.deadline_ms / 1000);
    else if (f->cancelled)
        fail(f, -ECANCELED, "cancelled");
    else
        return false;
    return true;
}

static void on_deadline(void *arg) {
    struct registry_fetch *f = arg;
    f->timed_out = true;
    if (f->call)
        http_call_cancel(f->call);
}

/* --- credentials -------------------------------------------------------------------------------------------------- */

/* The caller's credentials (never for mirrors), then those of registries.yaml, then none. */
static bool credential_at(const struct registry_fetch *f, size_t i, struct registry_credential *out) {
    *out = (struct registry_credential){.username = STR(""),
                                        .password = STR(""),
                                        .identity_token = STR(""),
                                        .token = STR("")};
    if (f->foreign)
        return i == 0;
    size_t own = f->endpoint->is_mirror ? 0 : f->source->credentials_n;
    if (i < own) {
        *out = f->source->credentials[i];
        return true;
    }
    const struct registry_host *h = f->endpoint->auth;
    if (h && (h->username.n || h->identity_token.n || h->token.n)) {
        if (i == own) {
            *out = (struct registry_credential){h->username, h->password, h->identity_token, h->token};
            return true;
        }
        own++;
    }
    return i == own;
}

static bool is_anonymous(const struct registry_credential *c) {
    return !c->username.n && !c->password.n && !c->identity_token.n && !c->token.n;
}

static struct str cache_key(struct registry_fetch *f) {
    struct registry_credential c;
    credential_at(f, f->credential, &c);
    char id[65] = "-";
    if (!is_anonymous(&c)) {
        struct str all = str_printf(f->arena, "%zu %.*s %zu %.*s %.*s %.*s", c.username.n, STR_ARG(c.username),
                                    c.password.n, STR_ARG(c.password), STR_ARG(c.identity_token), STR_ARG(c.token));
        sha256_hex(all.p, all.n, id);
    }
    return str_printf(f->arena, "%.*s %.*s %s", STR_ARG(f->endpoint->base), STR_ARG(f->endpoint->repository), id);
}

static struct str scope_of(struct registry_fetch *f) {
    return str_printf(f->arena, "repository:%.*s:pull", STR_ARG(f->endpoint->repository));
}

static void denied(struct registry_fetch *f) {
    struct str said = f->refusal;
    fail(f, -EACCES, "pull access denied, repository does not exist or may require authorization%s%.*s",
         said.n ? ": server message: " : "", STR_ARG(said));
}

/* Sets the authorization for the present credential. False when this credential cannot answer the challenge. */
static bool answer_challenge(struct registry_fetch *f) {
    struct registry_credential c;
    credential_at(f, f->credential, &c);
    f->authorization = STR("");
    f->from_cache = false;
    if (c.token.n) {
        f->authorization = str_printf(f->arena, "Bearer %.*s", STR_ARG(c.token));
    } else if (f->challenge.scheme == REGISTRY_AUTH_BASIC) {
        if (!c.username.n)
            return false;
        f->authorization = registry_basic(f->arena, c.username, c.password);
    } else {
        f->for_token = true;
    }
    return true;
}

/* The answer was 401 or 403: tries the next way to be let in. */
static void authenticate(struct registry_fetch *f) {
    struct registry_credential c;
    if (arena_used(f->arena) > REQUEST_ARENA_MAX / 2 || f->challenge.scheme == REGISTRY_AUTH_NONE) {
        denied(f);
        return;
    }
    if (f->authorization.n && f->from_cache) {
        registry_token_drop(f->registry, cache_key(f));
    } else if (f->authorization.n || f->for_token) {
        f->credential++; /* this one was refused */
    }
    f->for_token = false;
    while (credential_at(f, f->credential, &c)) {
        if (answer_challenge(f)) {
            fetch_send(f);
            return;
        }
        f->credential++;
    }
    denied(f);
}

static void token_answered(struct registry_fetch *f) {
    struct error why = {0};
    struct str token;
    int64_t expires;
    if (f->status == 200) {
        if (registry_token_parse(f->arena, buf_str(&f->body), &token, &expires, &why)) {
            fail(f, -EPROTO, "token server %.*s: %s", STR_ARG(f->challenge.realm), why.msg);
            return;
        }
        f->for_token = false;
        f->authorization = str_printf(f->arena, "Bearer %.*s", STR_ARG(token));
        if (!f->foreign)
            registry_token_put(f->registry, cache_key(f), f->authorization, expires);
        fetch_send(f);
    } else if (f->status == 400 || f->status == 401 || f->status == 403 || f->status == 404) {
        authenticate(f);
    } else {
        fail(f, f->status == 429 ? -EBUSY : -EIO, "token server %.*s: status %d", STR_ARG(f->challenge.realm),
             f->status);
    }
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

/* The absolute URL that Location means, or empty when it is not acceptable. */
static struct str redirect_target(struct registry_fetch *f) {
    struct registry_url now, next;
    struct str to = f->location;
    if (!registry_url_parse(f->url, &now) || to.n == 0 || to.n > URL_BYTES_MAX)
        return STR("");
    const char *scheme = now.https ? "https" : "http";
    if (str_starts(to, STR("//")))
        to = str_printf(f->arena, "%s:%.*s", scheme, STR_ARG(to));
    else if (to.p[0] == '/')
        to = str_printf(f->arena, "%s://%.*s%.*s", scheme, STR_ARG(now.host), STR_ARG(to));
    if (!registry_url_parse(to, &next) || (now.https && !next.https))
        return STR("");
    return to;
}

static void follow(struct registry_fetch *f) {
    struct str to = redirect_target(f);
    struct registry_url first, next;
    if (!to.n) {
        fail(f, -EPROTO, "%.*s: answered with a redirect that is not followed: \"%.*s\"", STR_ARG(f->endpoint->base),
             (int)MIN(f->location.n, 100), f->location.p);
        return;
    }
    if (++f->redirects > REDIRECTS_MAX) {
        fail(f, -ELOOP, "%.*s: more than %d redirects", STR_ARG(f->endpoint->base), REDIRECTS_MAX);
        return;
    }
    registry_url_parse(f->endpoint->base, &first);
    registry_url_parse(to, &next);
    f->url = str_dup(f->arena, to);
    if (!str_eq_nocase(first.host, next.host) || first.https != next.https) {
        if (!f->foreign)
            f->endpoint->credential = f->credential;
        f->foreign = true; /* credentials are for the registry, not for where it sends us */
        f->authorization = STR("");
        f->from_cache = false;
        f->credential = 0;
        f->challenge = (struct registry_challenge){0};
    }
    fetch_send(f);
}

static void answered(struct registry_fetch *f) {
    struct str base = f->endpoint->base, said;
    switch (f->status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        follow(f);
        return;
    case 401:
    case 403:
        f->refusal = registry_error_text(f->arena, buf_str(&f->body));
        authenticate(f);
        return;
    case 404:
        fail(f, -ENOENT, "not found");
        return;
    case 429:
        said = registry_error_text(f->arena, buf_str(&f->body));
        fail(f, -EBUSY, "%.*s: too many requests%s%.*s", STR_ARG(base), said.n ? ": " : "", STR_ARG(said));
        return;
    default:
        said = registry_error_text(f->arena, buf_str(&f->body));
        fail(f, -EIO, "%.*s: unexpected status %d%s%.*s", STR_ARG(base), f->status, said.n ? ": " : "", STR_ARG(said));
    }
}

/* The next request begins with what worked for this one. Tokens were remembered when they came, with their own time. */
static void remember_success(struct registry_fetch *f) {
    struct registry_credential c;
    f->endpoint->credential = f->credential;
    credential_at(f, f->credential, &c);
    if (f->authorization.n && !f->from_cache && (c.token.n || f->challenge.scheme == REGISTRY_AUTH_BASIC))
        registry_token_put(f->registry, cache_key(f), f->authorization, CREDENTIAL_KEEP_S);
}

static int on_head(void *arg, int status, const struct http_header *headers, size_t n) {
    struct registry_fetch *f = arg;
    f->status = status;
    if (f->for_token)
        return 0;
    if (status == 200 || status == 206) {
        f->streaming = true;
        if (!f->foreign)
            remember_success(f);
        return f->ev.on_head ? f->ev.on_head(f->ev.arg, status, headers, n) : 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (status == 401 && str_eq_nocase(headers[i].name, STR("www-authenticate")))
            registry_challenge_parse(f->arena, headers[i].value, &f->challenge);
        else if (str_eq_nocase(headers[i].name, STR("location")) && headers[i].value.n <= URL_BYTES_MAX)
            f->location = str_dup(f->arena, headers[i].value);
    }
    return 0;
}

static int on_body(void *arg, struct str data) {
    struct registry_fetch *f = arg;
    if (f->streaming)
        return f->ev.on_body ? f->ev.on_body(f->ev.arg, data) : 0;
    size_t max = f->for_token ? TOKEN_BODY_MAX : ERROR_BODY_MAX;
    if (f->body.n + data.n > max) {
        f->cut = true; /* enough was read to know what is wrong */
        return -E2BIG;
    }
    buf_put(&f->body, data.p, data.n);
    return 0;
}

static void on_done(void *arg, int code, const struct error *err) {
    struct registry_fetch *f = arg;
    f->call = NULL;
    if (ended(f))
        return;
    if (f->streaming) {
        if (code == -ETIMEDOUT)
            fail(f, code, "%.*s: no data for %lld s: the registry hangs", STR_ARG(f->endpoint->base),
                 (long long)registry_idle_ms(f->registry) / 1000);
        else
            finish(f, code, err);
        return;
    }
    if (code && !f->cut) {
        struct str who = f->for_token ? f->challenge.realm : f->endpoint->base;
        const char *why = err && err->msg[0] ? err->msg : strerror(-code);
        if (strstr(why, "://"))
            fail(f, code, "%s", why);
        else
            fail(f, code, "%.*s: %s", STR_ARG(who), why);
        return;
    }
    if (f->for_token)
        token_answered(f);
    else
        answered(f);
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void start_call(struct registry_fetch *f, struct http_client *client) {
    struct http_call_events ev = {on_head, on_body, on_done, f};
    struct http_header h[6];
    size_t n = 0;
    h[n++] = (struct http_header){STR("User-Agent"), STR("dory")};
    f->status = 0;
    f->cut = f->streaming = false;
    f->location = STR("");
    buf_reset(&f->body);
    if (f->for_token) {
        struct registry_credential c;
        credential_at(f, f->credential, &c);
        if (c.identity_token.n) {
            struct str form = registry_token_form(f->arena, &f->challenge, scope_of(f), c.identity_token);
            h[n++] = (struct http_header){STR("Content-Type"), STR("application/x-www-form-urlencoded")};
            f->call = http_client_start(client, "POST", f->challenge.realm.p, h, n, form, &ev);
            return;
        }
        if (c.username.n)
            h[n++] = (struct http_header){STR("Authorization"), registry_basic(f->arena, c.username, c.password)};
        struct str url = registry_token_url(f->arena, &f->challenge, scope_of(f));
        f->call = http_client_start(client, "GET", url.p, h, n, STR(""), &ev);
        return;
    }
    if (f->o.accept)
        h[n++] = (struct http_header){STR("Accept"), str_c(f->o.accept)};
    if (f->authorization.n)
        h[n++] = (struct http_header){STR("Authorization"), f->authorization};
    if (f->o.offset)
        h[n++] =
            (struct http_header){STR("Range"), str_printf(f->arena, "bytes=%llu-", (unsigned long long)f->o.offset)};
    f->call = http_client_start(client, "GET", f->url.p, h, n, STR(""), &ev);
}

static void on_transport(void *arg, struct http_client *client, int code, const struct error *err) {
    struct registry_fetch *f = arg;
    f->waiting = false;
    if (ended(f))
        return;
    if (code) {
        fail(f, code, "%.*s: %s", STR_ARG(f->endpoint->base), err->msg);
        return;
    }
    start_call(f, client);
    if (!f->call)
        fail(f, -EINVAL, "%.*s: the request could not be started", STR_ARG(f->endpoint->base));
    else if (f->paused)
        http_call_pause(f->call, true);
}

/* A registry behind TLS must not make us show credentials to a token server without it. */
static bool realm_acceptable(struct registry_fetch *f, const struct registry_url *realm) {
    struct registry_credential c;
    struct registry_url base;
    credential_at(f, f->credential, &c);
    return realm->https || is_anonymous(&c) || (registry_url_parse(f->endpoint->base, &base) && !base.https);
}

static void fetch_send(struct registry_fetch *f) {
    struct registry_url u;
    struct str url = f->for_token ? f->challenge.realm : f->url;
    if (!registry_url_parse(url, &u) || url.n > URL_BYTES_MAX) {
        fail(f, -EPROTO, "%.*s: \"%.*s\" is no acceptable URL", STR_ARG(f->endpoint->base), (int)MIN(url.n, 100),
             url.p);
        return;
    }
    if (f->for_token && !realm_acceptable(f, &u)) {
        fail(f, -EPROTO, "%.*s: refusing to send credentials to the token server %.*s, which has no TLS",
             STR_ARG(f->endpoint->base), STR_ARG(url));
        return;
    }
    f->waiting = true;
    const struct registry_host *settings = str_eq_nocase(u.host, f->endpoint->host)
                                               ? f->endpoint->auth
                                               : registry_host_find(registry_settings(f->registry), u.host);
    registry_transport_get(f->registry, u.https, u.host, settings, on_transport, f);
}

static void first_send(void *arg) {
    struct registry_fetch *f = arg;
    if (!ended(f))
        fetch_send(f);
}

struct registry_fetch *registry_fetch_start(struct registry *r, struct registry_source *s,
                                            const struct registry_fetch_options *o,
                                            const struct registry_fetch_events *ev) {
    struct arena *a = arena_new(0, REQUEST_ARENA_MAX);
    struct registry_fetch *f = ARENA_NEW(a, struct registry_fetch);
    f->arena = a;
    f->registry = r;
    f->source = registry_source_ref(s);
    f->endpoint = &s->endpoints[o->endpoint];
    f->o = *o;
    f->o.accept = o->accept ? arena_strdup(a, o->accept) : NULL;
    f->ev = *ev;
    f->credential = f->endpoint->credential;
    buf_init(&f->body, TOKEN_BODY_MAX);
    struct registry_endpoint *e = f->endpoint;
    f->url = str_printf(a, "%.*s/%.*s/%s%s%.*s", STR_ARG(e->base), STR_ARG(e->repository), o->path,
                        e->ns.n ? "?ns=" : "", STR_ARG(e->ns));
    f->authorization = registry_token_get(r, cache_key(f));
    f->from_cache = f->authorization.n != 0;
    if (f->from_cache)
        f->authorization = str_dup(a, f->authorization);
    timer_init(&f->deadline, registry_loop(r), on_deadline, f);
    if (o->deadline_ms)
        timer_set(&f->deadline, o->deadline_ms, 1000);
    registry_busy(r, 1);
    loop_post(registry_loop(r), first_send, f);
    return f;
}

void registry_fetch_cancel(struct registry_fetch *f) {
    if (f->cancelled)
        return;
    f->cancelled = true;
    if (f->call)
        http_call_cancel(f->call);
}

void registry_fetch_pause(struct registry_fetch *f, bool pause) {
    f->paused = pause;
    if (f->call)
        http_call_pause(f->call, pause);
}
