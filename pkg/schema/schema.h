/*
 * pkg/schema: the API as data. Text files in files/ (one a group version, edited by hand) describe every type: fields
 * with JSON names, types, protobuf numbers, required, defaults, enums, merge keys and list types; and every resource:
 * names, scope, verbs, short names, categories, subresources, field selectors, printed columns. They compile at
 * start (a CustomResourceDefinition compiles to the same structures at run time) and from them come decoding with strict
 * checks, defaults, validation, strategic merge, tables, OpenAPI, discovery and conversion between versions.
 *
 * Pure: no I/O, no threads; a compiled schema is immutable and shared by all threads.
 */
#pragma once

#include "codec/codec.h"

struct schema;

enum schema_kind {
    SCHEMA_STRING,
    SCHEMA_BOOL,
    SCHEMA_INT32,
    SCHEMA_INT64,
    SCHEMA_DOUBLE,
    SCHEMA_BYTES, /* base64 text */
    SCHEMA_QUANTITY,
    SCHEMA_INT_OR_STRING,
    SCHEMA_TIME,
    SCHEMA_MICRO_TIME,
    SCHEMA_DURATION,
    SCHEMA_ANY, /* RawExtension, JSON, FieldsV1: kept as it is */
    SCHEMA_LIST,
    SCHEMA_MAP,
    SCHEMA_STRUCT,
    SCHEMA_KIND_MAX
};

enum schema_list_type { SCHEMA_LIST_ATOMIC, SCHEMA_LIST_SET, SCHEMA_LIST_MAP };

struct schema_type {
    enum schema_kind kind;
    struct str name;                   /* of a struct: "apps/v1.DeploymentSpec"; of an enum'ed string: its alias */
    const struct schema_type *element; /* LIST, MAP */
    const struct schema_field *fields; /* STRUCT, in output order */
    size_t fields_n;
    const struct str *enum_values; /* STRING */
    size_t enum_n;
    bool atomic;             /* struct or map: one owner in server-side apply */
    bool has_defaults;       /* a field in it, at any depth, has a default */
    bool pb_items;           /* LIST: in protobuf a message whose field 1 repeats the items */
    uint8_t default_hook;    /* private to the defaults; 0: none */
    const char *description; /* short, or "" */
};

struct schema_condition {     /* of a default: a sibling has one of the values */
    struct str field, values; /* "A|B" */
};

struct schema_field {
    struct str name; /* JSON */
    const struct schema_type *type;
    const struct schema_type *owner;
    bool required, omit_empty, omit_zero, pointer; /* pointer: absent and zero differ */
    bool patch_merge, patch_replace_keys;          /* patchStrategy merge, retainKeys */
    uint16_t pb;                                   /* protobuf field number; 0: none */
    uint8_t pb_path[2]; /* numbers of the embedded messages it is in, outermost first; 0: none */
    enum schema_list_type list_type;
    const struct str *list_keys; /* SCHEMA_LIST_MAP */
    size_t list_keys_n;
    struct str patch_key;                      /* strategic merge key; "" none */
    struct str default_text;                   /* JSON text or "" */
    const struct schema_condition *default_if; /* NULL: always */
    const char *description;
};

enum schema_verb {
    VERB_GET = 1,
    VERB_LIST = 2,
    VERB_WATCH = 4,
    VERB_CREATE = 8,
    VERB_UPDATE = 16,
    VERB_PATCH = 32,
    VERB_DELETE = 64,
    VERB_DELETECOLLECTION = 128,
    VERB_CONNECT = 256
};

struct schema_column {                   /* of a Table */
    struct str name, type, format, rule; /* rule: JSONPath, or the name of a cell function */
    int priority;
};

struct schema_subresource {
    struct str name; /* "status", "scale", "log", ... */
    unsigned verbs;
    struct str kind, group, version; /* of the body: Scale autoscaling/v1, Eviction policy/v1, ... */
    const struct schema_type *type;  /* may be NULL (log, exec) */
};

struct schema_default {    /* holds in one resource only */
    struct str path, text; /* dotted; JSON */
    const struct schema_condition *condition;
};

struct schema_resource {       /* one resource of one group version */
    struct str group, version; /* "" is the core group */
    struct str plural, singular, kind, list_kind;
    bool namespaced;
    bool served; /* by default; opt-in ones are false until --runtime-config */
    bool deprecated;
    struct str deprecation; /* text of the Warning header or "" */
    unsigned verbs;
    const struct str *short_names, *categories;
    size_t short_names_n, categories_n;
    const struct schema_subresource *subresources;
    size_t subresources_n;
    const struct str *field_selectors; /* dotted paths beyond metadata.name and metadata.namespace */
    size_t field_selectors_n;
    const struct schema_column *columns;
    size_t columns_n;
    const struct schema_default *defaults;
    size_t defaults_n;
    struct str storage_hash; /* storageVersionHash */
    const struct schema_type *type;
    const struct schema_resource *storage; /* the version objects are stored as (itself for that one) */
    bool tracks_generation;                /* metadata.generation follows spec */
    struct str key;  /* "pods", "deployments.apps": same for all versions; the store's kind name */
    size_t index;    /* dense, unique: for tables by resource */
    void *behaviour; /* pkg/api's hooks */
};

/* The built-in schema, compiled once; aborts when the embedded files are broken (a unit test compiles them). */
const struct schema *schema_builtin(void);
/* Compiles text (several files concatenated). For tests and CRDs' helpers. */
struct schema *schema_compile(struct str text, struct error *err);
void schema_free(struct schema *s);
size_t schema_resources_n(const struct schema *s);
const struct schema_resource *schema_resource_at(const struct schema *s, size_t i); /* group order of discovery */
const struct schema_resource *schema_find(const struct schema *s, struct str group, struct str version,
                                          struct str plural);
const struct schema_resource *schema_find_kind(const struct schema *s, struct str group, struct str version,
                                               struct str kind);
/* The storage resource by its key "deployments.apps". */
const struct schema_resource *schema_find_key(const struct schema *s, const char *key);
const struct schema_subresource *schema_subresource(const struct schema_resource *r, struct str name);
const struct schema_type *schema_type_find(const struct schema *s, struct str name);
const struct schema_field *schema_field_find(const struct schema_type *t, struct str name);
/* Group version preference: versions of a group, preferred first, into out (at most max); returns how many. Versions
 * whose resources are all opt-in are among them. */
size_t schema_versions(const struct schema *s, struct str group, struct str *out, size_t max);
/* Packages of a group version's types: "io.k8s.api.apps.v1" and "k8s.io.api.apps.v1"; empty when unknown. */
struct str schema_openapi_package(const struct schema *s, struct str group, struct str version);
struct str schema_proto_package(const struct schema *s, struct str group, struct str version);

/* --- one problem with one field: Kubernetes' field errors --- */
enum field_error_type { /* status cause reasons: FieldValueRequired, FieldValueInvalid, ... */
                        FIELD_REQUIRED,
                        FIELD_INVALID,
                        FIELD_NOT_SUPPORTED,
                        FIELD_DUPLICATE,
                        FIELD_FORBIDDEN,
                        FIELD_TOO_LONG,
                        FIELD_TOO_MANY,
                        FIELD_NOT_FOUND,
                        FIELD_TYPE_INVALID,
                        FIELD_INTERNAL,
                        FIELD_ERROR_MAX
};
struct field_error {
    enum field_error_type type;
    struct str field;   /* "spec.containers[0].name" */
    struct str message; /* complete, as Kubernetes words it: `spec.x: Invalid value: "y": must be ...` */
};
struct field_errors { /* at most 100 are kept */
    struct arena *arena;
    VEC(struct field_error) list; /* items in malloc: field_errors_fini */
};
void field_errors_init(struct field_errors *e, struct arena *a);
void field_errors_fini(struct field_errors *e);
/* value: the bad value (JSON, printed as Kubernetes prints it), may be NULL. detail: what it must be. */
void field_error_add(struct field_errors *e, enum field_error_type type, const char *field, const struct json *value,
                     const char *detail, ...) PRINTF_LIKE(5, 6);
const char *field_error_reason(enum field_error_type t); /* "FieldValueInvalid" */
/* All messages as Kubernetes joins them: one as it is, several as [a, b]. */
struct str field_errors_text(const struct field_errors *e);

/* --- decoding --- */
enum schema_unknown { SCHEMA_UNKNOWN_IGNORE, SCHEMA_UNKNOWN_REPORT };
struct schema_decode {
    enum schema_unknown unknown;
    /* For REPORT: text like `unknown field "spec.foo"`, in document order. */
    void (*report)(void *arg, struct str text);
    void *arg;
};
/* Checks v against t and returns the canonical form in the arena: known fields in schema order, maps sorted, null and
 * empty omitempty members dropped, quantities/times/int-or-string canonical. NULL and err (-EINVAL, worded as Kubernetes'
 * decoder: `json: cannot unmarshal string into Go struct field ...`) on a wrong type. Keeps apiVersion and kind.
 * Members that Go always writes are there even when v lacks them: structs that are no pointers ("status":{}), required
 * lists and pointers (null). The result's nodes are its own; texts of strings and keys and untyped parts
 * (SCHEMA_ANY) are shared with v: v's arena must live as long as a. */
struct json *schema_decode(struct arena *a, const struct schema_type *t, const struct json *v,
                           const struct schema_decode *opt, struct error *err);
/* Static and computed defaults of a resource's version, in place (v is the caller's own decoded tree). */
void schema_default(struct arena *a, const struct schema_resource *r, struct json *v);
/* From one version of a resource to another (through the storage version); both of one key. A new tree. */
struct json *schema_convert(struct arena *a, const struct schema_resource *from, const struct schema_resource *to,
                            const struct json *v, struct error *err);
/* Validation of a defaulted object of the storage version. old: the stored one on update, NULL on create; subresource ""
 * or "status". Adds to errs. Metadata is validated here too (names, labels, annotations, owner references). */
void schema_validate(const struct schema_resource *r, const struct json *v, const struct json *old,
                     struct str subresource, struct field_errors *errs);
/* Strategic merge patch of original (the version of r) by patch: $patch, $setElementOrder, $deleteFromPrimitiveList,
 * $retainKeys. A new tree; NULL and err for a malformed patch. */
struct json *schema_strategic_merge(struct arena *a, const struct schema_resource *r, const struct json *original,
                                    const struct json *patch, struct error *err);

/* --- names (RFC 1123/1035 and Kubernetes rules); NULL when fine, else what is wrong, as Kubernetes words it --- */
const char *name_check_dns_label(struct str s);
const char *name_check_dns_subdomain(struct str s);
const char *name_check_dns1035(struct str s);
const char *name_check_qualified(struct str s); /* label and annotation keys */
const char *name_check_label_value(struct str s);

/* --- selectors --- */
struct label_selector; /* compiled, in an arena */
/* "a=b,c!=d,e in (f,g),!h"; empty selects everything. */
struct label_selector *label_selector_parse(struct arena *a, struct str text, struct error *err);
/* From matchLabels/matchExpressions; absent (NULL) selects nothing, empty selects everything. */
struct label_selector *label_selector_from_json(struct arena *a, const struct json *sel, struct error *err);
/* From a plain map (Service spec.selector): empty or absent selects nothing. */
struct label_selector *label_selector_from_map(struct arena *a, const struct json *map);
bool label_selector_matches(const struct label_selector *s, const struct json *labels); /* metadata.labels or NULL */
bool label_selector_empty(const struct label_selector *s);
struct str label_selector_text(struct arena *a, const struct label_selector *s);
struct field_selector;
/* "spec.nodeName=x,status.phase!=Running"; fields must be ones that r supports (-EINVAL: `field label not supported: x`). */
struct field_selector *field_selector_parse(struct arena *a, const struct schema_resource *r, struct str text,
                                            struct error *err);
bool field_selector_matches(const struct field_selector *s, const struct schema_resource *r, const struct json *object);
/* Whether the selector wants one exact value of a field ("metadata.name", "spec.nodeName"): for indexes. */
bool field_selector_exact(const struct field_selector *s, const char *path, struct str *value);

/* --- tables, OpenAPI --- */
/* columnDefinitions and cells of meta.k8s.io/v1 Table. now_s: for ages. */
struct json *schema_table_columns(struct arena *a, const struct schema_resource *r);
/* One row {"cells":[...]} (and conditions); the caller adds "object". */
struct json *schema_table_row(struct arena *a, const struct schema_resource *r, const struct json *object,
                              int64_t now_s);
/* OpenAPI v3 document of one group version, JSON text; hash: 64 hex digits for the URL. Cached inside by the caller. */
void schema_openapi_v3(const struct schema *s, struct str group, struct str version, struct buf *out);
/* OpenAPI v2 of everything served, JSON; and as gnostic protobuf. */
void schema_openapi_v2(const struct schema *s, struct buf *out);
void schema_openapi_v2_pb(const struct schema *s, struct buf *out);
