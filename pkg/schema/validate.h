/* What the sources of validation share; private to pkg/schema. */
#pragma once

#include "schema/schema_private.h"

/*
 * Where a value is, as a chain on the stack: texts are made of it only when there is something to complain about.
 * AT(spec, "ports") is a member (AT_MEMBER when its name is a struct str), AT_ITEM(ports, 2) an item "[2]", AT_KEY(data, key) a map's value "[key]".
 */
struct where {
    const struct where *up;
    const char *name;
    struct str key;
    size_t index;
};
#define AT(up, member) (&(const struct where){(up), (member), STR_NULL, 0})
#define AT_MEMBER(up, s) (&(const struct where){(up), "", (s), 0})
#define AT_ITEM(up, i) (&(const struct where){(up), NULL, STR_NULL, (i)})
#define AT_KEY(up, k) (&(const struct where){(up), NULL, (k), 0})

struct check {
    struct field_errors *errs;
    struct arena *arena;
    const struct schema_resource *resource;
    const struct json *object, *old; /* old: NULL on create */
};

/* Adds an error; value and detail may be NULL. */
void check_bad(struct check *c, enum field_error_type type, const struct where *at, const struct json *value,
               const char *detail, ...) PRINTF_LIKE(5, 6);
/* The same with a text as its value. */
void check_bad_text(struct check *c, enum field_error_type type, const struct where *at, struct str value,
                    const char *detail);

/* Each takes an object and the name of a member; absent and null values are fine but for the checks of "required". */
const struct json *check_get(const struct json *v, const char *member); /* NULL when null too */
bool check_required(struct check *c, const struct where *up, const struct json *v, const char *member);
typedef const char *check_name_fn(struct str s);
void check_name(struct check *c, const struct where *up, const struct json *v, const char *member, check_name_fn *fn);
/* Required and well formed. */
void check_named(struct check *c, const struct where *up, const struct json *v, const char *member, check_name_fn *fn);
void check_not_negative(struct check *c, const struct where *up, const struct json *v, const char *member);
void check_range(struct check *c, const struct where *up, const struct json *v, const char *member, int64_t from,
                 int64_t to);
void check_port(struct check *c, const struct where *up, const struct json *v, const char *member);
/* An int-or-string port: a number or the name of a port. */
void check_port_or_name(struct check *c, const struct where *up, const struct json *v, const char *member);
/* values: ended by NULL; sorted, as they are listed. An empty string is Required when required is set. */
void check_enum(struct check *c, const struct where *up, const struct json *v, const char *member,
                const char *const *values, bool required);
void check_immutable(struct check *c, const struct where *up, const struct json *v, const struct json *old,
                     const char *member);
/* Whole numbers or percentages, not negative. */
void check_count_or_percent(struct check *c, const struct where *up, const struct json *v, const char *member);

/* Labels as in metadata.labels, at their own place. */
void check_labels(struct check *c, const struct where *at, const struct json *labels);
/* A LabelSelector; what is absent is fine. */
void check_label_selector(struct check *c, const struct where *at, const struct json *selector);
void check_metadata(struct check *c);
/* Enumerated strings of everything but status, by the schema. */
void check_enums(struct check *c);

/* NULL when fine, else what is wrong. */
const char *check_port_name(struct str s);
const char *check_config_key(struct str s);
const char *check_env_name(struct str s);
const char *check_wildcard_subdomain(struct str s);
bool check_is_ip(struct str s);
bool check_is_cidr(struct str s);

/* A pod's spec. restart: the policies its owner allows, ended by NULL, or NULL for any. */
void check_pod_spec(struct check *c, const struct where *at, const struct json *spec, const char *const *restart);
/* A pod template: labels, annotations and spec. */
void check_pod_template(struct check *c, const struct where *at, const struct json *t, const char *const *restart);
void check_claim_spec(struct check *c, const struct where *at, const struct json *spec);
/* Requests and limits of a container. */
void check_resources(struct check *c, const struct where *at, const struct json *resources);
void check_volumes(struct check *c, const struct where *at, const struct json *volumes);
void check_node_selector_terms(struct check *c, const struct where *up, const struct json *v);
void check_tolerations(struct check *c, const struct where *at, const struct json *list);

typedef void check_kind_fn(struct check *c);
struct check_kind {
    const char *key; /* "deployments.apps" */
    check_kind_fn *fn;
};
/* Each list ends with a NULL key. */
extern const struct check_kind check_pod_kinds[], check_volume_kinds[], check_workload_kinds[], check_core_kinds[],
    check_other_kinds[];
