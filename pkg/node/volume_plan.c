/* What each volume of a pod should contain. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/volume.h"

struct plan {
    struct volume_set *set;
    struct pod *pod;
    struct arena *a;
    struct volume *v; /* the one at hand */
    size_t cap;
};

static int PRINTF_LIKE(2, 3) missing(struct plan *p, const char *fmt, ...) {
    char what[180];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    snprintf(p->pod->wait_message, sizeof(p->pod->wait_message), "MountVolume.SetUp failed for volume \"%.60s\" : %s",
             p->v->name.p, what);
    return -EAGAIN;
}

/* A path inside a volume: relative and without "..". */
static bool path_is_safe(struct str path) {
    if (path.n == 0 || path.p[0] == '/')
        return false;
    for (struct str rest = path; rest.p;) {
        struct str part = str_split(&rest, '/');
        if (part.n == 0 || str_eq(part, STR("..")) || str_eq(part, STR(".")))
            return false;
    }
    return true;
}

static int add_file(struct plan *p, struct str path, struct str data, int64_t mode) {
    struct volume *v = p->v;
    if (!path_is_safe(path))
        return missing(p, "path \"%.*s\" is not below the volume", STR_ARG(path));
    if (v->files_n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 8;
        struct volume_file *files = arena_alloc(p->a, cap * sizeof(*files));
        if (v->files_n)
            memcpy(files, v->files, v->files_n * sizeof(*files));
        v->files = files;
        p->cap = cap;
    }
    v->files[v->files_n++] = (struct volume_file){str_dup(p->a, path), data, (mode_t)mode & 0777};
    return 0;
}

static struct str decode(struct arena *a, struct str text) {
    struct buf b = {.limit = MiB(2)};
    struct str out = base64_decode(&b, text) == 0 ? str_dup(a, buf_str(&b)) : STR("");
    buf_fini(&b);
    return out;
}

/* Value of a key of a ConfigMap (data or binaryData) or Secret. */
static bool value_of(struct plan *p, const struct json *o, bool secret, struct str key, struct str *out) {
    const struct json *v = json_get(json_get_c(o, "data"), key);
    if (v) {
        *out = secret ? decode(p->a, json_as_str(v)) : str_dup(p->a, json_as_str(v));
        return true;
    }
    v = json_get(json_get_c(o, "binaryData"), key);
    if (v)
        *out = decode(p->a, json_as_str(v));
    return v != NULL;
}

static int add_all(struct plan *p, const struct json *map, bool encoded, int64_t mode) {
    for (uint32_t i = 0; json_is(map, JSON_OBJECT) && i < map->n; i++) {
        struct str text = json_as_str(map->members[i].value);
        int rc =
            add_file(p, str_dup(p->a, map->members[i].key), encoded ? decode(p->a, text) : str_dup(p->a, text), mode);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A ConfigMap or Secret as files: all keys, or the items named. */
static int add_keys(struct plan *p, const struct json *source, struct str name, bool secret, int64_t mode) {
    struct node *n = p->pod->node;
    struct object *object = client_informer_get(secret ? n->secrets : n->config_maps, p->pod->ns, name);
    bool optional = json_bool_at(source, "optional", false);
    const struct json *items = json_get_c(source, "items"), *o = object ? object_json(object) : NULL;
    if (!o)
        return optional ? 0 : missing(p, "%s \"%.*s\" not found", secret ? "secret" : "configmap", STR_ARG(name));
    if (!items) {
        int rc = add_all(p, json_get_c(o, "data"), secret, mode);
        return rc < 0 ? rc : add_all(p, json_get_c(o, "binaryData"), true, mode);
    }
    for (size_t i = 0; i < json_len(items); i++) {
        const struct json *item = json_item(items, i);
        struct str data, key = json_str_at(item, "key");
        if (value_of(p, o, secret, key, &data)) {
            int rc = add_file(p, json_str_at(item, "path"), data, json_int_at(item, "mode", mode));
            if (rc < 0)
                return rc;
        } else if (!optional) {
            return missing(p, "references non-existent config key: %.*s", STR_ARG(key));
        }
    }
    return 0;
}

static int add_downward(struct plan *p, const struct json *items, int64_t mode) {
    for (size_t i = 0; i < json_len(items); i++) {
        const struct json *item = json_item(items, i), *resource = json_get_c(item, "resourceFieldRef");
        struct str data = STR("");
        int rc = 0;
        if (resource)
            rc = downward_resource(p->pod, p->a, resource, NULL, &data);
        else
            data = downward_field(p->pod, p->a, json_str_at(item, "fieldRef.fieldPath"));
        if (rc == 0)
            rc = add_file(p, json_str_at(item, "path"), data, json_int_at(item, "mode", mode));
        if (rc < 0)
            return rc;
    }
    return 0;
}

struct volume_token *volume_token_find(struct volume_set *set, struct str volume, struct str path) {
    for (size_t i = 0; i < set->tokens.n; i++)
        if (str_eq(set->tokens.items[i]->volume, volume) && str_eq(set->tokens.items[i]->path, path))
            return set->tokens.items[i];
    return NULL;
}

static int add_token(struct plan *p, const struct json *source, int64_t mode) {
    struct str path = json_str_at(source, "path");
    struct volume_token *t = volume_token_find(p->set, p->v->name, path);
    if (!t) {
        t = XNEW(struct volume_token);
        t->pod = p->pod;
        t->volume = str_dup(p->pod->arena, p->v->name);
        t->path = str_dup(p->pod->arena, path);
        t->audience = str_dup(p->pod->arena, json_str_at(source, "audience"));
        t->expires_s = json_int_at(source, "expirationSeconds", 3600);
        vec_push(&p->set->tokens, t);
    }
    if (!t->token)
        return missing(p, "the token \"%.*s\" is being made", STR_ARG(path));
    /* Only the owner may read it; with fsGroup the group too. */
    return add_file(p, path, str_dup(p->a, str_c(t->token)), p->v->fs_group >= 0 ? 0640 : (mode & 0600) ? 0644 : mode);
}

static int add_projected(struct plan *p, const struct json *projected) {
    const struct json *sources = json_get_c(projected, "sources"), *s;
    int64_t mode = json_int_at(projected, "defaultMode", 0644);
    int rc = 0, first = 0;
    for (size_t i = 0; i < json_len(sources); i++) {
        const struct json *source = json_item(sources, i);
        rc = 0;
        if ((s = json_get_c(source, "configMap")))
            rc = add_keys(p, s, json_str_at(s, "name"), false, mode);
        else if ((s = json_get_c(source, "secret")))
            rc = add_keys(p, s, json_str_at(s, "name"), true, mode);
        else if ((s = json_get_c(source, "downwardAPI")))
            rc = add_downward(p, json_get_c(s, "items"), mode);
        else if ((s = json_get_c(source, "serviceAccountToken")))
            rc = add_token(p, s, mode);
        else
            rc = missing(p, "a projected source that this node does not know");
        if (rc < 0 && first == 0)
            first = rc; /* go on: all tokens are to be asked for at once */
    }
    return first;
}

static int plan_one(struct plan *p, const struct json *spec) {
    const struct json *s;
    struct volume *v = p->v;
    v->name = str_dup(p->a, json_str_at(spec, "name"));
    p->cap = 0;
    const char *base = pod_dir(p->a, p->pod);
    v->dir = arena_printf(p->a, "%s/volumes/%.*s", base, STR_ARG(v->name));
    if ((s = json_get_c(spec, "emptyDir"))) {
        bool memory = str_eq(json_str_at(s, "medium"), STR("Memory"));
        int64_t limit = 0;
        v->type = memory ? VOLUME_MEMORY : VOLUME_EMPTY;
        if (quantity_value(json_str_at(s, "sizeLimit"), &limit))
            v->size_bytes = (uint64_t)limit;
        return 0;
    }
    if ((s = json_get_c(spec, "hostPath"))) {
        v->type = VOLUME_HOST;
        v->dir = arena_printf(p->a, "%.*s", STR_ARG(json_str_at(s, "path")));
        v->host_type = str_dup(p->a, json_str_at(s, "type"));
        return 0;
    }
    v->type = VOLUME_FILES;
    if ((s = json_get_c(spec, "configMap")))
        return add_keys(p, s, json_str_at(s, "name"), false, json_int_at(s, "defaultMode", 0644));
    if ((s = json_get_c(spec, "secret")))
        return add_keys(p, s, json_str_at(s, "secretName"), true, json_int_at(s, "defaultMode", 0644));
    if ((s = json_get_c(spec, "downwardAPI")))
        return add_downward(p, json_get_c(s, "items"), json_int_at(s, "defaultMode", 0644));
    if ((s = json_get_c(spec, "projected")))
        return add_projected(p, s);
    return missing(p, "this node has no support for the type of volume \"%.*s\"", STR_ARG(v->name));
}

int volume_plan(struct volume_set *set, struct arena *a, struct volume **out, size_t *n) {
    struct plan p = {.set = set, .pod = set->pod, .a = a};
    const struct json *o = object_json(set->pod->object), *specs = json_at(o, "spec.volumes");
    size_t count = json_len(specs);
    struct volume *all = arena_alloc(a, MAX(count, (size_t)1) * sizeof(*all));
    int first = 0;
    for (size_t i = 0; i < count; i++) {
        p.v = &all[i];
        p.v->fs_group = json_int_at(o, "spec.securityContext.fsGroup", -1);
        int rc = plan_one(&p, json_item(specs, i));
        if (rc < 0 && first == 0)
            first = rc;
    }
    *out = all;
    *n = count;
    return first;
}
