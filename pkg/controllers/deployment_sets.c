/* The ReplicaSets of a Deployment: finding them, making the newest, revisions, scaling, history. */
#include <stdlib.h>

#include "controllers/deployment.h"

static int64_t revision_of(const struct json *o) {
    int64_t v = 0;
    str_to_i64(json_as_str(json_get_c(json_at(o, "metadata.annotations"), ANNOTATION_REVISION)), &v);
    return v;
}

int64_t set_spec_replicas(const struct object *set) {
    return json_int_at(object_json((struct object *)(uintptr_t)set), "spec.replicas", 1);
}

int64_t set_status(const struct object *set, const char *field) {
    return json_as_int(json_get_c(json_get_c(object_json((struct object *)(uintptr_t)set), "status"), field), 0);
}

int64_t rollout_sum_spec(const struct rollout *r, const struct object *but) {
    int64_t sum = 0;
    for (size_t i = 0; i < r->sets.n; i++)
        sum += !but || r->sets.items[i] != but ? set_spec_replicas(r->sets.items[i]) : 0;
    return sum;
}

int64_t rollout_sum_status(const struct rollout *r, const struct object *but, const char *field) {
    int64_t sum = 0;
    for (size_t i = 0; i < r->sets.n; i++)
        sum += !but || r->sets.items[i] != but ? set_status(r->sets.items[i], field) : 0;
    return sum;
}

static int by_age(const void *x, const void *y) {
    struct object *a = *(struct object *const *)x, *b = *(struct object *const *)y;
    int c = str_cmp(json_str_at(object_json(a), "metadata.creationTimestamp"),
                    json_str_at(object_json(b), "metadata.creationTimestamp"));
    return c ? c : str_cmp(a->name, b->name);
}

/* Equal but for the hash label that we put into the ReplicaSet's copy. */
static bool same_template(struct arena *a, const struct json *set, const struct json *deployment) {
    struct json *theirs = json_copy(a, json_at(set, "spec.template"));
    json_del_c(json_at(theirs, "metadata.labels"), LABEL_HASH);
    const struct json *ours = json_at(deployment, "spec.template");
    if (json_len(json_at(theirs, "metadata.labels")) == 0 && !json_at(ours, "metadata.labels"))
        json_del_c(json_get_c(theirs, "metadata"), "labels");
    return json_equal(theirs, ours);
}

static bool add_matching(void *arg, struct object *set) {
    struct rollout *r = arg;
    const struct json *o = object_json(set);
    if (meta_controller_ref(o) || object_deleting(o))
        return true;
    struct label_selector *s = label_selector_from_json(r->a, json_at(r->deployment, "spec.selector"), NULL);
    if (s && !label_selector_empty(s) && label_selector_matches(s, json_at(o, "metadata.labels")))
        object_list_add(&r->sets, set);
    return true;
}

/* Takes in ReplicaSets without a controller that the selector matches. */
static int adopt(struct rollout *r) {
    struct object_list all = r->sets;
    r->sets = (struct object_list){0};
    store_each(api_store(r->c->api), r->d->sets.kind, r->owner->ns, STR_NULL, STR_NULL, add_matching, r);
    struct object_list orphans = r->sets;
    r->sets = all;
    int rc = 0;
    for (size_t i = 0; i < orphans.n && rc == 0; i++) {
        struct json *copy = json_copy(r->a, object_json(orphans.items[i])), *refs = json_array(r->a);
        struct object *out = NULL;
        json_append(r->a, refs, owner_ref_new(r->a, r->d->kind.resource, r->deployment));
        json_put(r->a, copy, "metadata.ownerReferences", refs);
        rc =
            api_update(r->call, r->d->sets.resource, orphans.items[i]->ns, orphans.items[i]->name, STR(""), copy, &out);
        if (rc == 0) {
            object_list_add(&r->sets, out);
            object_unref(out);
        }
    }
    object_list_fini(&orphans);
    return rc;
}

int rollout_collect(struct rollout *r) {
    struct object_list owned cleanup_objects = {0};
    store_index_each(api_store(r->c->api), r->d->sets.kind, INDEX_OWNER, meta_uid(r->deployment), object_list_add,
                     &owned);
    for (size_t i = 0; i < owned.n; i++)
        if (str_eq(json_str_at(meta_controller_ref(object_json(owned.items[i])), "uid"), meta_uid(r->deployment)))
            object_list_add(&r->sets, owned.items[i]);
    int rc = object_deleting(r->deployment) ? 0 : adopt(r);
    if (r->sets.n)
        qsort(r->sets.items, r->sets.n, sizeof(*r->sets.items), by_age);
    for (size_t i = 0; i < r->sets.n && !r->newest; i++)
        if (same_template(r->a, object_json(r->sets.items[i]), r->deployment))
            r->newest = r->sets.items[i];
    return rc;
}

/* --- the newest ------------------------------------------------------------------------------------------------- */

/* A short hash of the template in the alphabet of names; collisions counts up when another set holds that name. */
static struct str template_hash(struct arena *a, const struct json *template, int64_t collisions) {
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    struct str text = json_text(a, template);
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < text.n; i++)
        h = (h ^ (unsigned char)text.p[i]) * 16777619u;
    for (int64_t c = collisions; c; c >>= 8)
        h = (h ^ (uint32_t)(c & 0xff)) * 16777619u;
    char digits[12];
    int n = 0;
    do
        digits[n++] = alphabet[h % (sizeof(alphabet) - 1)];
    while ((h /= sizeof(alphabet) - 1) && n < 10);
    return str_dup(a, str_n(digits, (size_t)n));
}

static void annotate_replicas(struct rollout *r, struct json *set) {
    struct json *annotations = json_ensure(r->a, set, "metadata.annotations");
    json_set(r->a, annotations, STR(ANNOTATION_DESIRED), json_strf(r->a, "%lld", (long long)r->replicas));
    json_set(r->a, annotations, STR(ANNOTATION_MAX), json_strf(r->a, "%lld", (long long)(r->replicas + r->max_surge)));
}

/* Annotations of the Deployment that its ReplicaSets carry too. */
static bool annotation_is_copied(struct str key) {
    static const char *const kept_back[] = {"kubectl.kubernetes.io/last-applied-configuration",
                                            ANNOTATION_REVISION,
                                            ANNOTATION_DESIRED,
                                            ANNOTATION_MAX,
                                            ANNOTATION_HISTORY,
                                            "deprecated.deployment.rollback.to"};
    for (size_t i = 0; i < ARRAY_LEN(kept_back); i++)
        if (str_eq_c(key, kept_back[i]))
            return false;
    return true;
}

static void copy_annotations(struct rollout *r, struct json *set) {
    const struct json *from = json_at(r->deployment, "metadata.annotations");
    struct json *to = json_ensure(r->a, set, "metadata.annotations");
    for (uint32_t i = 0; from && i < from->n; i++)
        if (annotation_is_copied(from->members[i].key))
            json_set(r->a, to, from->members[i].key, json_copy(r->a, from->members[i].value));
}

static struct json *set_from_deployment(struct rollout *r, struct str hash, int64_t revision, int64_t replicas) {
    struct arena *a = r->a;
    struct json *set = json_object(a), *refs = json_array(a);
    struct json *template = json_copy(a, json_at(r->deployment, "spec.template"));
    struct json *selector = json_copy(a, json_at(r->deployment, "spec.selector"));
    struct json *labels = json_ensure(a, template, "metadata.labels");
    json_set_str(a, labels, LABEL_HASH, hash);
    json_sort(labels);
    json_set_str(a, json_ensure(a, selector, "matchLabels"), LABEL_HASH, hash);
    json_set_cstr(a, set, "apiVersion", "apps/v1");
    json_set_cstr(a, set, "kind", "ReplicaSet");
    json_put(a, set, "metadata.name", json_strf(a, "%.*s-%.*s", STR_ARG(meta_name(r->deployment)), STR_ARG(hash)));
    json_put(a, set, "metadata.namespace", json_str(a, meta_ns(r->deployment)));
    json_put(a, set, "metadata.labels", json_copy(a, labels));
    json_append(a, refs, owner_ref_new(a, r->d->kind.resource, r->deployment));
    json_put(a, set, "metadata.ownerReferences", refs);
    copy_annotations(r, set);
    annotate_replicas(r, set);
    json_set(a, json_ensure(a, set, "metadata.annotations"), STR(ANNOTATION_REVISION),
             json_strf(a, "%lld", (long long)revision));
    json_put(a, set, "spec.replicas", json_int(a, replicas));
    if (r->min_ready_s)
        json_put(a, set, "spec.minReadySeconds", json_int(a, r->min_ready_s));
    json_put(a, set, "spec.selector", selector);
    json_put(a, set, "spec.template", template);
    return set;
}

static int64_t newest_revision(const struct rollout *r, const struct object *but) {
    int64_t most = 0;
    for (size_t i = 0; i < r->sets.n; i++)
        if (r->sets.items[i] != but)
            most = MAX(most, revision_of(object_json(r->sets.items[i])));
    return most;
}

/* The Deployment carries the revision of its newest ReplicaSet. */
static int write_revision(struct rollout *r, int64_t revision) {
    if (revision_of(r->deployment) == revision)
        return 0;
    struct json *patch = json_object(r->a);
    json_set(r->a, json_ensure(r->a, patch, "metadata.annotations"), STR(ANNOTATION_REVISION),
             json_strf(r->a, "%lld", (long long)revision));
    struct object *out = NULL;
    int rc =
        api_patch(r->call, r->d->kind.resource, r->owner->ns, r->owner->name, STR(""), API_PATCH_MERGE, patch, &out);
    if (rc < 0)
        return rc;
    r->deployment = json_copy(r->a, object_json(out));
    object_unref(r->owner);
    r->owner = out;
    return 0;
}

static int replace(struct rollout *r, struct object **set, const struct json *changed) {
    struct object *out = NULL;
    int rc = api_update(r->call, r->d->sets.resource, (*set)->ns, (*set)->name, STR(""), changed, &out);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < r->sets.n; i++)
        if (r->sets.items[i] == *set) {
            if (r->newest == *set)
                r->newest = out;
            object_unref(r->sets.items[i]);
            r->sets.items[i] = out;
            return 0;
        }
    object_unref(out);
    return 0;
}

/* A template that was rolled back to gets a new revision, and its old number goes to its history. */
static int refresh_newest(struct rollout *r) {
    const struct json *set = object_json(r->newest);
    int64_t highest = newest_revision(r, r->newest), mine = revision_of(set);
    struct json *copy = json_copy(r->a, set);
    struct json *annotations = json_ensure(r->a, copy, "metadata.annotations");
    copy_annotations(r, copy);
    if (mine <= highest) {
        struct str history = json_as_str(json_get_c(annotations, ANNOTATION_HISTORY));
        if (mine)
            json_set(r->a, annotations, STR(ANNOTATION_HISTORY),
                     json_strf(r->a, "%.*s%s%lld", STR_ARG(history), history.n ? "," : "", (long long)mine));
        mine = highest + 1;
        json_set(r->a, annotations, STR(ANNOTATION_REVISION), json_strf(r->a, "%lld", (long long)mine));
    }
    if (json_int_at(copy, "spec.minReadySeconds", 0) != r->min_ready_s)
        json_put(r->a, copy, "spec.minReadySeconds", json_int(r->a, r->min_ready_s));
    if (!json_equal(copy, set)) {
        int rc = replace(r, &r->newest, copy);
        if (rc < 0)
            return rc;
    }
    return write_revision(r, mine);
}

int rollout_ensure_newest(struct rollout *r) {
    if (r->newest)
        return refresh_newest(r);
    int64_t revision = newest_revision(r, NULL) + 1, total = rollout_sum_spec(r, NULL);
    int64_t first = MIN(r->replicas, MAX(r->replicas + r->max_surge - total, INT64_C(0)));
    int64_t collisions = json_int_at(r->deployment, "status.collisionCount", 0);
    for (int tries = 0; tries < 8; tries++) {
        struct str hash = template_hash(r->a, json_at(r->deployment, "spec.template"), collisions);
        struct object *out = NULL;
        int rc =
            api_create(r->call, r->d->sets.resource, r->owner->ns, set_from_deployment(r, hash, revision, first), &out);
        if (rc == -EEXIST) {
            collisions++;
            json_put(r->a, r->deployment, "status.collisionCount", json_int(r->a, collisions));
            continue;
        }
        if (rc < 0)
            return rc;
        api_event(r->c->api, r->owner, r->c->name, "", "Normal", "ScalingReplicaSet",
                  "Scaled up replica set %.*s from 0 to %lld", STR_ARG(out->name), (long long)first);
        object_list_add(&r->sets, out);
        r->newest = out;
        object_unref(out);
        return write_revision(r, revision);
    }
    return -EEXIST;
}

int rollout_scale(struct rollout *r, struct object **set, int64_t replicas) {
    int64_t before = set_spec_replicas(*set);
    struct json *copy = json_copy(r->a, object_json(*set));
    json_put(r->a, copy, "spec.replicas", json_int(r->a, replicas));
    annotate_replicas(r, copy);
    if (json_equal(copy, object_json(*set)))
        return 0;
    struct str name = str_dup(r->a, (*set)->name);
    int rc = replace(r, set, copy);
    if (rc == 0 && before != replicas)
        api_event(r->c->api, r->owner, r->c->name, "", "Normal", "ScalingReplicaSet",
                  "Scaled %s replica set %.*s from %lld to %lld", before < replicas ? "up" : "down", STR_ARG(name),
                  (long long)before, (long long)replicas);
    return rc;
}

static int by_revision(const void *x, const void *y) {
    int64_t a = revision_of(object_json(*(struct object *const *)x)),
            b = revision_of(object_json(*(struct object *const *)y));
    return a < b ? -1 : a > b;
}

int rollout_clean_history(struct rollout *r) {
    const struct json *limit = json_at(r->deployment, "spec.revisionHistoryLimit");
    struct object_list old cleanup_objects = {0};
    for (size_t i = 0; i < r->sets.n; i++)
        if (r->sets.items[i] != r->newest && set_spec_replicas(r->sets.items[i]) == 0 &&
            set_status(r->sets.items[i], "replicas") == 0 && !object_deleting(object_json(r->sets.items[i])))
            object_list_add(&old, r->sets.items[i]);
    int64_t keep = json_as_int(limit, 10);
    if ((int64_t)old.n <= keep)
        return 0;
    qsort(old.items, old.n, sizeof(*old.items), by_revision);
    struct api_delete_options o = {.grace_period_s = -1};
    for (size_t i = 0; i < old.n - (size_t)keep; i++) {
        int rc = api_delete(r->call, r->d->sets.resource, old.items[i]->ns, old.items[i]->name, &o, NULL);
        if (rc < 0 && r->call->status.code != 404)
            return rc;
    }
    return 0;
}
