/* Inter-pod affinity and topology spread: filters that look at all nodes. */
#include "scheduler/snapshot.h"

static struct str topology_of(const struct node_info *n, struct str key) {
    return json_as_str(json_get(json_at(object_json(n->object), "metadata.labels"), key));
}

/* Whether a term of `owner` means `pod`: namespaces and label selector. */
static bool term_selects(const struct cluster_view *v, const struct json *term, const struct json *owner,
                         const struct json *pod) {
    struct arena *a = arena_new(KiB(1), 0);
    const struct json *names = json_get_c(term, "namespaces"), *ns_selector = json_get_c(term, "namespaceSelector");
    struct str ns = json_str_at(pod, "metadata.namespace");
    bool in = json_len(names) == 0 && !ns_selector && str_eq(ns, json_str_at(owner, "metadata.namespace"));
    for (size_t i = 0; i < json_len(names); i++)
        in |= str_eq(json_as_str(json_item(names, i)), ns);
    if (!in && ns_selector) {
        struct label_selector *s = label_selector_from_json(a, ns_selector, NULL);
        struct store *store = api_store(v->api);
        struct object *o = store_peek(store, store_kind(store, STR("namespaces")), STR(""), ns);
        in = s && o && label_selector_matches(s, json_at(object_json(o), "metadata.labels"));
    }
    struct label_selector *s = in ? label_selector_from_json(a, json_get_c(term, "labelSelector"), NULL) : NULL;
    bool match = s && label_selector_matches(s, json_at(pod, "metadata.labels"));
    arena_free(a);
    return match;
}

/* Whether a pod that the term selects runs in the node's topology domain; *anywhere: in any domain at all. */
static bool term_met(const struct cluster_view *v, const struct json *term, const struct json *owner,
                     const struct node_info *n, bool *anywhere) {
    struct str key = json_str_at(term, "topologyKey"), here = topology_of(n, key);
    bool met = false;
    for (size_t i = 0; i < v->n && !met; i++) {
        struct str there = topology_of(v->nodes[i], key);
        if (there.n == 0)
            continue;
        for (size_t k = 0; k < v->nodes[i]->pods.n; k++)
            if (term_selects(v, term, owner, object_json(v->nodes[i]->pods.items[k]))) {
                *anywhere = true;
                met |= here.n && str_eq(here, there);
            }
    }
    return met;
}

#define REQUIRED "requiredDuringSchedulingIgnoredDuringExecution"

/* Pods that run already may refuse the newcomer. */
static bool refused_by_others(const struct pod_info *p, const struct node_info *n, const struct cluster_view *v) {
    for (size_t i = 0; i < v->n; i++)
        for (size_t k = 0; k < v->nodes[i]->pods.n; k++) {
            const struct json *other = object_json(v->nodes[i]->pods.items[k]);
            const struct json *terms = json_at(other, "spec.affinity.podAntiAffinity." REQUIRED);
            for (size_t t = 0; t < json_len(terms); t++) {
                struct str key = json_str_at(json_item(terms, t), "topologyKey"), here = topology_of(n, key);
                if (here.n && str_eq(here, topology_of(v->nodes[i], key)) &&
                    term_selects(v, json_item(terms, t), other, p->pod))
                    return true;
            }
        }
    return false;
}

const char *filter_affinity(const struct pod_info *p, const struct node_info *n, const struct cluster_view *v) {
    const struct json *wanted = json_at(p->pod, "spec.affinity.podAffinity." REQUIRED);
    const struct json *unwanted = json_at(p->pod, "spec.affinity.podAntiAffinity." REQUIRED);
    for (size_t i = 0; i < json_len(wanted); i++) {
        bool anywhere = false;
        const struct json *term = json_item(wanted, i);
        if (term_met(v, term, p->pod, n, &anywhere))
            continue;
        /* The first pod of a group that wants to be together has nobody to join. */
        bool first =
            !anywhere && term_selects(v, term, p->pod, p->pod) && topology_of(n, json_str_at(term, "topologyKey")).n;
        if (!first)
            return "node(s) didn't match pod affinity rules";
    }
    for (size_t i = 0; i < json_len(unwanted); i++) {
        bool anywhere = false;
        if (term_met(v, json_item(unwanted, i), p->pod, n, &anywhere))
            return "node(s) didn't match pod anti-affinity rules";
    }
    return refused_by_others(p, n, v) ? "node(s) didn't satisfy existing pods anti-affinity rules" : NULL;
}

static int64_t count_in_domain(const struct cluster_view *v, const struct label_selector *s, struct str key,
                               struct str domain, const struct json *pod) {
    int64_t count = 0;
    for (size_t i = 0; i < v->n; i++) {
        if (!str_eq(topology_of(v->nodes[i], key), domain))
            continue;
        for (size_t k = 0; k < v->nodes[i]->pods.n; k++) {
            const struct json *other = object_json(v->nodes[i]->pods.items[k]);
            count += str_eq(json_str_at(other, "metadata.namespace"), json_str_at(pod, "metadata.namespace")) &&
                     json_str_at(other, "metadata.deletionTimestamp").n == 0 &&
                     label_selector_matches(s, json_at(other, "metadata.labels"));
        }
    }
    return count;
}

const char *filter_spread(const struct pod_info *p, const struct node_info *n, const struct cluster_view *v) {
    const struct json *all = json_at(p->pod, "spec.topologySpreadConstraints");
    for (size_t c = 0; c < json_len(all); c++) {
        const struct json *t = json_item(all, c);
        if (str_eq(json_str_at(t, "whenUnsatisfiable"), STR("ScheduleAnyway")))
            continue;
        struct str key = json_str_at(t, "topologyKey"), here = topology_of(n, key);
        if (here.n == 0)
            return "node(s) didn't match pod topology spread constraints (missing required label)";
        struct label_selector *s = label_selector_from_json(p->arena, json_get_c(t, "labelSelector"), NULL);
        int64_t least = INT64_MAX;
        for (size_t i = 0; s && i < v->n; i++) {
            struct str domain = topology_of(v->nodes[i], key);
            if (domain.n)
                least = MIN(least, count_in_domain(v, s, key, domain, p->pod));
        }
        bool self = s && label_selector_matches(s, json_at(p->pod, "metadata.labels"));
        if (s && count_in_domain(v, s, key, here, p->pod) + self - least > json_int_at(t, "maxSkew", 1))
            return "node(s) didn't match pod topology spread constraints";
    }
    return NULL;
}
