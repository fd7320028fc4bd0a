/* Environment of a container from all its sources, $(VAR) expansion, and the downward API. */
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

static void env_set(struct arena *a, struct env *e, struct str name, struct str value) {
    struct str item = str_printf(a, "%.*s=%.*s", STR_ARG(name), STR_ARG(value));
    for (size_t i = 0; i < e->n; i++) { /* the later one wins, in its first place */
        struct str have;
        if (str_cut(e->items[i], '=', &have, NULL) && str_eq(have, name)) {
            e->items[i] = item;
            return;
        }
    }
    if (e->n == e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 32;
        struct str *items = arena_alloc(a, cap * sizeof(*items));
        if (e->n)
            memcpy(items, e->items, e->n * sizeof(*items));
        e->items = items;
        e->cap = cap;
    }
    e->items[e->n++] = item;
}

static bool env_get(const struct str *env, size_t n, struct str name, struct str *value) {
    for (size_t i = 0; i < n; i++) {
        struct str have, v;
        if (str_cut(env[i], '=', &have, &v) && str_eq(have, name)) {
            *value = v;
            return true;
        }
    }
    return false;
}

/* $(NAME) is replaced when NAME is known, $$ is a dollar sign, anything else stays. */
struct str expand_variables(struct arena *a, struct str text, const struct str *env, size_t env_n) {
    if (str_index(text, '$', 0) < 0)
        return text;
    struct buf b = {.limit = MiB(1)};
    for (size_t i = 0; i < text.n; i++) {
        char next = i + 1 < text.n ? text.p[i + 1] : 0;
        if (text.p[i] != '$' || (next != '(' && next != '$')) {
            buf_putc(&b, text.p[i]);
            continue;
        }
        if (next == '$') {
            buf_putc(&b, '$');
            i++;
            continue;
        }
        ptrdiff_t end = str_index(text, ')', i + 2);
        struct str value;
        if (end < 0) {
            buf_putc(&b, '$');
            continue;
        }
        struct str name = str_n(text.p + i + 2, (size_t)end - i - 2);
        if (env_get(env, env_n, name, &value))
            buf_put_str(&b, value);
        else
            buf_printf(&b, "$(%.*s)", STR_ARG(name));
        i = (size_t)end;
    }
    struct str out = str_dup(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

/* --- downward API ----------------------------------------------------------------------------------------------- */

/* metadata.labels['key'] and metadata.annotations['key'] */
static bool subscript(struct str path, struct str prefix, struct str *key) {
    if (!str_starts(path, prefix) || !str_ends(path, STR("']")))
        return false;
    *key = str_n(path.p + prefix.n, path.n - prefix.n - 2);
    return true;
}

/* All labels or annotations as key="value" lines, for files. */
static struct str map_lines(struct arena *a, const struct json *map) {
    struct buf b = {.limit = MiB(1)};
    for (uint32_t i = 0; json_is(map, JSON_OBJECT) && i < map->n; i++) {
        buf_printf(&b, "%s%.*s=", i ? "\n" : "", STR_ARG(map->members[i].key));
        json_write_string(&b, json_as_str(map->members[i].value));
    }
    struct str out = str_dup(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

struct str downward_field(const struct pod *p, struct arena *a, struct str path) {
    const struct json *o = object_json(p->object);
    struct str key;
    if (subscript(path, STR("metadata.labels['"), &key))
        return json_as_str(json_get(json_at(o, "metadata.labels"), key));
    if (subscript(path, STR("metadata.annotations['"), &key))
        return json_as_str(json_get(json_at(o, "metadata.annotations"), key));
    if (str_eq(path, STR("metadata.labels")) || str_eq(path, STR("metadata.annotations")))
        return map_lines(a, json_at(o, arena_strndup(a, path.p, path.n)));
    if (str_eq(path, STR("status.podIP")) || str_eq(path, STR("status.podIPs")))
        return str_c(p->net.ips[0]);
    if (str_eq(path, STR("status.hostIP")) || str_eq(path, STR("status.hostIPs")))
        return str_c(p->node->o.address);
    static const char *const plain[] = {"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
                                        "spec.serviceAccountName"};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        if (str_eq_c(path, plain[i]))
            return json_str_at(o, plain[i]);
    return STR_NULL;
}

int downward_resource(const struct pod *p, struct arena *a, const struct json *ref, const struct json *container,
                      struct str *out) {
    struct str resource = json_str_at(ref, "resource"), name = json_str_at(ref, "containerName"), kind, what;
    if (name.n) {
        const struct json *all = json_at(object_json(p->object), "spec.containers");
        for (size_t i = 0; i < json_len(all); i++)
            if (str_eq(json_str_at(json_item(all, i), "name"), name))
                container = json_item(all, i);
    }
    if (!str_cut(resource, '.', &kind, &what))
        return -EINVAL;
    const struct json *list = json_get(json_get_c(container, "resources"), kind);
    struct str text = json_as_str(json_get(list, what)), divisor = json_str_at(ref, "divisor");
    bool cpu = str_eq(what, STR("cpu"));
    int64_t value = 0, unit = 0;
    if (text.n == 0 && str_eq(kind, STR("limits"))) { /* without a limit: what the node has */
        struct object *node = p->node->node_object;
        text = node ? json_as_str(json_get(json_at(object_json(node), "status.allocatable"), what)) : STR("0");
    }
    if (text.n == 0)
        text = STR("0");
    bool ok = cpu ? quantity_milli(text, &value) : quantity_value(text, &value);
    if (divisor.n == 0 || str_eq(divisor, STR("0")))
        unit = cpu ? 1000 : 1;
    else
        ok = ok && (cpu ? quantity_milli(divisor, &unit) : quantity_value(divisor, &unit));
    if (!ok || unit <= 0)
        return -EINVAL;
    *out = str_printf(a, "%lld", (long long)((value + unit - 1) / unit));
    return 0;
}

/* --- service links ---------------------------------------------------------------------------------------------- */

struct linking {
    struct arena *a;
    struct env *env;
    const struct pod *pod;
    bool all; /* enableServiceLinks: those of the namespace too */
};

static void link_service(struct linking *l, const struct json *svc) {
    struct str ip = json_str_at(svc, "spec.clusterIP"), name = json_str_at(svc, "metadata.name");
    const struct json *ports = json_at(svc, "spec.ports"), *first = json_item(ports, 0);
    struct arena *a = l->a;
    if (ip.n == 0 || str_eq(ip, STR("None")) || !first)
        return;
    char *base = arena_strndup(a, name.p, name.n);
    for (char *c = base; *c; c++)
        *c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
    env_set(a, l->env, str_printf(a, "%s_SERVICE_HOST", base), ip);
    env_set(a, l->env, str_printf(a, "%s_SERVICE_PORT", base),
            str_printf(a, "%lld", (long long)json_int_at(first, "port", 0)));
    for (size_t i = 0; i < json_len(ports); i++) {
        const struct json *p = json_item(ports, i);
        struct str port_name = json_str_at(p, "name"), protocol = json_str_at(p, "protocol");
        long long port = (long long)json_int_at(p, "port", 0);
        struct str lower = str_lower(a, protocol.n ? protocol : STR("TCP"));
        struct str url = str_printf(a, "%.*s://%.*s:%lld", STR_ARG(lower), STR_ARG(ip), port);
        struct str prefix = str_printf(a, "%s_PORT_%lld_%.*s", base, port, STR_ARG(protocol.n ? protocol : STR("TCP")));
        if (port_name.n) {
            char *upper = arena_strndup(a, port_name.p, port_name.n);
            for (char *c = upper; *c; c++)
                *c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
            env_set(a, l->env, str_printf(a, "%s_SERVICE_PORT_%s", base, upper), str_printf(a, "%lld", port));
        }
        if (i == 0)
            env_set(a, l->env, str_printf(a, "%s_PORT", base), url);
        env_set(a, l->env, prefix, url);
        env_set(a, l->env, str_printf(a, "%.*s_PROTO", STR_ARG(prefix)), lower);
        env_set(a, l->env, str_printf(a, "%.*s_PORT", STR_ARG(prefix)), str_printf(a, "%lld", port));
        env_set(a, l->env, str_printf(a, "%.*s_ADDR", STR_ARG(prefix)), ip);
    }
}

static bool link_one(void *arg, struct object *svc) {
    struct linking *l = arg;
    bool kubernetes = str_eq(svc->ns, STR("default")) && str_eq(svc->name, STR("kubernetes"));
    if (kubernetes || (l->all && str_eq(svc->ns, l->pod->ns)))
        link_service(l, object_json(svc));
    return true;
}

/* --- sources ---------------------------------------------------------------------------------------------------- */

struct source {
    struct slot *s;
    struct arena *a;
    struct env *env;
    char *message;
    size_t message_n;
};

static int missing(struct source *q, const char *what, struct str name, struct str key) {
    if (key.n)
        snprintf(q->message, q->message_n, "couldn't find key %.*s in %s %.*s/%.*s", STR_ARG(key), what,
                 STR_ARG(q->s->pod->ns), STR_ARG(name));
    else
        snprintf(q->message, q->message_n, "%s \"%.*s\" not found", what, STR_ARG(name));
    return -ENOENT;
}

/* A value of a Secret, decoded. */
static struct str decoded(struct arena *a, const struct json *v) {
    struct buf b = {.limit = MiB(2)};
    struct str out = STR("");
    if (base64_decode(&b, json_as_str(v)) == 0)
        out = str_dup(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static struct object *find_source(struct source *q, bool secret, struct str name) {
    struct node *n = q->s->pod->node;
    return client_informer_get(secret ? n->secrets : n->config_maps, q->s->pod->ns, name);
}

static int from_key(struct source *q, const struct json *ref, bool secret, struct str *out, bool *skip) {
    struct str name = json_str_at(ref, "name"), key = json_str_at(ref, "key");
    bool optional = json_bool_at(ref, "optional", false);
    struct object *o = find_source(q, secret, name);
    const struct json *v = o ? json_get(json_get_c(object_json(o), "data"), key) : NULL;
    *skip = !v && optional;
    if (!v)
        return optional ? 0 : missing(q, secret ? "secret" : "configmap", name, o ? key : STR(""));
    *out = secret ? decoded(q->a, v) : json_as_str(v);
    return 0;
}

static int from_value(struct source *q, const struct json *from, struct str *out, bool *skip) {
    const struct json *ref;
    if ((ref = json_get_c(from, "configMapKeyRef")))
        return from_key(q, ref, false, out, skip);
    if ((ref = json_get_c(from, "secretKeyRef")))
        return from_key(q, ref, true, out, skip);
    if ((ref = json_get_c(from, "fieldRef"))) {
        *out = downward_field(q->s->pod, q->a, json_str_at(ref, "fieldPath"));
        return out->p ? 0 : missing(q, "field", json_str_at(ref, "fieldPath"), STR(""));
    }
    if ((ref = json_get_c(from, "resourceFieldRef")))
        return downward_resource(q->s->pod, q->a, ref, q->s->spec, out) < 0
                   ? missing(q, "resource", json_str_at(ref, "resource"), STR(""))
                   : 0;
    snprintf(q->message, q->message_n, "a source of environment variables that this node does not know");
    return -ENOENT;
}

static bool is_env_name(struct str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] == '=' || (unsigned char)s.p[i] >= 0x7f)
            return false;
    return s.n > 0;
}

static int from_all(struct source *q, const struct json *from) {
    static const char *const kinds[] = {"configMapRef", "secretRef"};
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        const struct json *ref = json_get_c(from, kinds[k]);
        if (!ref)
            continue;
        struct object *o = find_source(q, k == 1, json_str_at(ref, "name"));
        if (!o && !json_bool_at(ref, "optional", false))
            return missing(q, k ? "secret" : "configmap", json_str_at(ref, "name"), STR(""));
        const struct json *data = o ? json_get_c(object_json(o), "data") : NULL;
        for (uint32_t i = 0; json_is(data, JSON_OBJECT) && i < data->n; i++) {
            struct str name =
                str_printf(q->a, "%.*s%.*s", STR_ARG(json_str_at(from, "prefix")), STR_ARG(data->members[i].key));
            if (is_env_name(name))
                env_set(q->a, q->env, name,
                        k ? decoded(q->a, data->members[i].value) : json_as_str(data->members[i].value));
        }
    }
    return 0;
}

int env_make(struct slot *s, struct arena *a, struct env *out, char *message, size_t message_n) {
    struct source q = {s, a, out, message, message_n};
    struct linking l = {a, out, s->pod, json_bool_at(object_json(s->pod->object), "spec.enableServiceLinks", true)};
    const struct json *image_env = json_get_c(s->image->config, "Env");
    for (size_t i = 0; i < json_len(image_env); i++) {
        struct str name, value;
        if (str_cut(json_as_str(json_item(image_env, i)), '=', &name, &value))
            env_set(a, out, name, value);
    }
    env_set(a, out, STR("HOSTNAME"), pod_hostname(s->pod));
    client_informer_each(s->pod->node->services, link_one, &l);
    const struct json *from = json_get_c(s->spec, "envFrom"), *env = json_get_c(s->spec, "env");
    for (size_t i = 0; i < json_len(from); i++) {
        int rc = from_all(&q, json_item(from, i));
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < json_len(env); i++) {
        const struct json *e = json_item(env, i), *source = json_get_c(e, "valueFrom");
        struct str value = json_str_at(e, "value");
        bool skip = false;
        int rc = source ? from_value(&q, source, &value, &skip) : 0;
        if (rc < 0)
            return rc;
        if (!skip)
            env_set(a, out, json_str_at(e, "name"), source ? value : expand_variables(a, value, out->items, out->n));
    }
    return 0;
}
