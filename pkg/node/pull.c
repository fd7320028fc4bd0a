/* Images of containers: policy, pulls shared by all pods that want the same image, back-off. */
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

#define BACKOFF_FIRST_MS 10000
#define BACKOFF_MAX_MS 300000
#define AUTHS_MAX 16

struct pull {
    struct node *node;
    struct str name;            /* as the spec says it */
    VEC(struct slot *) waiting; /* who wants it */
    struct image_pull *running;
    struct timer timer;
    int64_t backoff_ms, started_ms;
    char text[];
};

/* --- credentials ------------------------------------------------------------------------------------------------ */

/* {"auths":{"registry":{"auth":"base64 of user:password"}}} */
static void add_auths(struct arena *a, const struct json *config, struct image_auth *out, size_t *n) {
    const struct json *auths = json_get_c(config, "auths");
    for (uint32_t i = 0; json_is(auths, JSON_OBJECT) && i < auths->n && *n < AUTHS_MAX; i++) {
        const struct json *e = auths->members[i].value;
        struct image_auth auth = {.username = json_str_at(e, "username"),
                                  .password = json_str_at(e, "password"),
                                  .identity_token = json_str_at(e, "identitytoken")};
        struct buf b = {.limit = KiB(16)};
        if (json_str_at(e, "auth").n && base64_decode(&b, json_str_at(e, "auth")) == 0) {
            struct str both = str_dup(a, buf_str(&b));
            str_cut(both, ':', &auth.username, &auth.password);
        }
        buf_fini(&b);
        out[(*n)++] = auth;
    }
}

static size_t collect_auths(struct slot *s, struct arena *a, struct image_auth *out) {
    const struct json *refs = json_at(object_json(s->pod->object), "spec.imagePullSecrets");
    size_t n = 0;
    for (size_t i = 0; i < json_len(refs); i++) {
        struct object *secret =
            client_informer_get(s->pod->node->secrets, s->pod->ns, json_str_at(json_item(refs, i), "name"));
        const struct json *data = secret ? json_get_c(object_json(secret), "data") : NULL;
        struct buf b = {.limit = MiB(1)};
        if (base64_decode(&b, json_as_str(json_get_c(data, ".dockerconfigjson"))) == 0 && b.n)
            add_auths(a, json_parse(a, buf_str(&b), NULL, NULL), out, &n);
        buf_fini(&b);
    }
    return n;
}

/* --- pulling ---------------------------------------------------------------------------------------------------- */

static void begin(struct pull *p);

static void wait_with(struct slot *s, const char *reason, const char *message) {
    snprintf(s->reason, sizeof(s->reason), "%s", reason);
    snprintf(s->message, sizeof(s->message), "%.390s", message);
    pod_status_dirty(s->pod);
}

static void pull_free(struct pull *p) {
    map_del(&p->node->pulls, p->name);
    timer_stop(&p->timer);
    vec_fini(&p->waiting);
    free(p);
}

static void on_again(void *arg) {
    begin(arg);
}

static void deliver(struct pull *p, struct image *img) {
    char when[40];
    snprintf(when, sizeof(when), "%lldms", (long long)(time_mono_ms() - p->started_ms));
    for (size_t i = 0; i < p->waiting.n; i++) {
        struct slot *s = p->waiting.items[i];
        s->pull = NULL;
        image_ref(img);
        s->image = img;
        pod_event(s->pod, "Normal", "Pulled",
                  "Successfully pulled image \"%.*s\" in %s (%s including waiting). Image size: %llu bytes.",
                  STR_ARG(p->name), when, when, (unsigned long long)img->size_bytes);
        pod_want_sync(s->pod);
    }
    pull_free(p);
}

static void on_done(void *arg, struct image *img, int code, const struct error *err) {
    struct pull *p = arg;
    p->running = NULL;
    if (p->waiting.n == 0) { /* nobody waits any more */
        if (img)
            image_unref(img);
        pull_free(p);
        return;
    }
    if (img) {
        registration_update(p->node);
        deliver(p, img);
        image_unref(img);
        return;
    }
    const char *message = code == -ECANCELED ? "canceled" : err->msg;
    p->backoff_ms = p->backoff_ms ? MIN(p->backoff_ms * 2, (int64_t)BACKOFF_MAX_MS) : BACKOFF_FIRST_MS;
    for (size_t i = 0; i < p->waiting.n; i++) {
        struct slot *s = p->waiting.items[i];
        pod_event(s->pod, "Warning", "Failed", "Failed to pull image \"%.*s\": %s", STR_ARG(p->name), message);
        pod_event(s->pod, "Warning", "Failed", "Error: ErrImagePull");
        wait_with(s, "ErrImagePull", message);
    }
    timer_set(&p->timer, p->backoff_ms, p->backoff_ms / 20);
}

/* After the first failure a waiting container shows that it waits for the next try. */
static void begin(struct pull *p) {
    struct arena *a = arena_new(KiB(2), 0);
    struct image_auth auths[AUTHS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < p->waiting.n; i++) {
        struct slot *s = p->waiting.items[i];
        if (n == 0)
            n = collect_auths(s, a, auths);
        pod_event(s->pod, "Normal", "Pulling", "Pulling image \"%.*s\"", STR_ARG(p->name));
        if (p->backoff_ms) {
            char text[400];
            snprintf(text, sizeof(text), "Back-off pulling image \"%.*s\"", STR_ARG(p->name));
            pod_event(s->pod, "Normal", "BackOff", "%s", text);
            wait_with(s, "ImagePullBackOff", text);
        }
    }
    p->started_ms = time_mono_ms();
    p->running =
        image_pull(p->node->images, p->name, auths, n, &(struct image_pull_events){.on_done = on_done, .arg = p});
    arena_free(a);
}

static bool has_digest_or_fixed_tag(struct str image) {
    return str_index(image, '@', 0) >= 0;
}

void pull_start(struct slot *s) {
    struct node *n = s->pod->node;
    struct str name = json_str_at(s->spec, "image"), policy = json_str_at(s->spec, "imagePullPolicy");
    struct image *img = image_find(n->images, name);
    bool always = str_eq(policy, STR("Always")) && !has_digest_or_fixed_tag(name);
    if (img && !always) {
        s->image = img;
        pod_event(s->pod, "Normal", "Pulled", "Container image \"%.*s\" already present on machine", STR_ARG(name));
        pod_want_sync(s->pod);
        return;
    }
    if (img)
        image_unref(img);
    if (str_eq(policy, STR("Never"))) {
        char text[500];
        snprintf(text, sizeof(text), "Container image \"%.*s\" is not present with pull policy of Never",
                 STR_ARG(name));
        pod_event(s->pod, "Warning", "ErrImageNeverPull", "%s", text);
        wait_with(s, "ErrImageNeverPull", text);
        s->state = SLOT_BACKOFF;
        timer_set(&s->timer, BACKOFF_FIRST_MS, BACKOFF_FIRST_MS / 10);
        return;
    }
    struct pull *p = map_get(&n->pulls, name);
    bool fresh = !p;
    if (!p) {
        p = xcalloc(1, sizeof(*p) + name.n + 1);
        memcpy(p->text, name.p, name.n);
        p->name = str_n(p->text, name.n);
        p->node = n;
        timer_init(&p->timer, n->loop, on_again, p);
        map_set(&n->pulls, p->name, p);
    }
    vec_push(&p->waiting, s);
    s->pull = p;
    if (fresh)
        begin(p);
}

void pull_forget(struct slot *s) {
    struct pull *p = s->pull;
    if (!p)
        return;
    s->pull = NULL;
    for (size_t i = 0; i < p->waiting.n; i++)
        if (p->waiting.items[i] == s) {
            vec_remove(&p->waiting, i);
            break;
        }
    if (p->waiting.n == 0 && p->running)
        image_pull_cancel(p->running); /* on_done frees it */
    else if (p->waiting.n == 0)
        pull_free(p);
}
