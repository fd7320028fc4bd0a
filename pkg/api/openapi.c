/*
 * OpenAPI documents. They are large and rarely asked for, so they are made when somebody asks, on the blocking pool,
 * and not kept; only the hashes of the v3 documents are, since the index lists them. Megabytes pass through the making of
 * one: it has a thread of its own, whose heap goes with it, and the document lies in pages of its own.
 */
#include <sys/mman.h>

#include "api/api_priv.h"

#define VERSIONS_MAX 16
/* Clients ask for it with "@v1.0", which is no valid media type; Kubernetes' own answer is spelled so. */
#define V2_PROTOBUF "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

struct openapi_job {
    struct api_request *q;
    struct str group, version;
    struct blob *out; /* NULL: it could not be made */
    bool index, v2, protobuf;
};

struct page_blob {
    struct blob blob;
    size_t mapped;
};

static void page_blob_free(struct blob *b) {
    struct page_blob *p = CONTAINER_OF(b, struct page_blob, blob);
    munmap(p, p->mapped);
}

static struct blob *page_blob_new(struct str s) {
    size_t size = sizeof(struct page_blob) + s.n;
    struct page_blob *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    p->mapped = size;
    ref_init(&p->blob.ref);
    p->blob.bytes = str_n((char *)(p + 1), s.n);
    p->blob.release = page_blob_free;
    memcpy(p + 1, s.p, s.n);
    return &p->blob;
}

/* Calls each for every served group version, once. */
static void versions_each(const struct schema *s, void (*each)(void *arg, struct str group, struct str version),
                          void *arg) {
    for (size_t i = 0; i < schema_resources_n(s); i++) {
        const struct schema_resource *r = schema_resource_at(s, i);
        bool seen = !r->served;
        for (size_t k = 0; k < i && !seen; k++) {
            const struct schema_resource *o = schema_resource_at(s, k);
            seen = o->served && str_eq(o->group, r->group) && str_eq(o->version, r->version);
        }
        if (!seen)
            each(arg, r->group, r->version);
    }
}

struct index_build {
    const struct schema *schema;
    struct arena *arena;
    struct json *paths;
};

static void index_add(void *arg, struct str group, struct str version) {
    struct index_build *i = arg;
    struct buf b = BUF_INIT;
    char hex[65];
    schema_openapi_v3(i->schema, group, version, &b);
    sha256_hex(b.p, b.n, hex);
    buf_fini(&b);
    for (char *p = hex; *p; p++)
        if (*p >= 'a')
            *p = (char)(*p - 'a' + 'A');
    struct str path = group.n ? str_printf(i->arena, "apis/%.*s/%.*s", STR_ARG(group), STR_ARG(version))
                              : str_printf(i->arena, "api/%.*s", STR_ARG(version));
    struct json *entry = json_object(i->arena);
    json_set_c(i->arena, entry, "serverRelativeURL",
               json_strf(i->arena, "/openapi/v3/%.*s?hash=%s", STR_ARG(path), hex));
    json_set(i->arena, i->paths, path, entry);
}

static void build_index(const struct schema *s, struct buf *out) {
    cleanup_arena struct arena *a = arena_new(0, 0);
    struct index_build i = {s, a, json_object(a)};
    struct json *v = json_object(a);
    versions_each(s, index_add, &i);
    json_set_c(a, v, "paths", i.paths);
    json_write(out, v);
}

static void *job_make(void *arg) {
    struct openapi_job *j = arg;
    const struct schema *s = j->q->api->schema;
    struct buf out = BUF_INIT;
    if (j->index)
        build_index(s, &out);
    else if (!j->v2)
        schema_openapi_v3(s, j->group, j->version, &out);
    else if (j->protobuf)
        schema_openapi_v2_pb(s, &out);
    else
        schema_openapi_v2(s, &out);
    if (!out.failed && out.n)
        j->out = page_blob_new(buf_str(&out));
    buf_fini(&out);
    return NULL;
}

static void job_work(void *arg) {
    pthread_t t;
    if (pthread_create(&t, NULL, job_make, arg) == 0)
        pthread_join(t, NULL);
}

static void job_done(void *arg) {
    struct openapi_job *j = arg;
    struct api_request *q = j->q;
    struct blob *b = j->out;
    char hex[65];
    if (!b) {
        reply_error(q, 500, "InternalError", "the OpenAPI document could not be made");
        return;
    }
    if (j->index && !q->api->openapi_index)
        q->api->openapi_index = blob_ref(b);
    sha256_hex(b->bytes.p, b->bytes.n, hex);
    q->etag = arena_printf(q->arena, "\"%s\"", hex);
    if (str_eq_c(request_header(q, "If-None-Match"), q->etag)) {
        blob_unref(b);
        b = NULL;
    }
    reply_blob(q, b ? 200 : 304, j->protobuf ? V2_PROTOBUF : "application/json", b);
}

static void job_start(struct api_request *q, const struct openapi_job *j) {
    struct openapi_job *job = ARENA_NEW(q->arena, struct openapi_job);
    *job = *j;
    job->q = q;
    loop_work(q->api->loop, job_work, job_done, job);
}

void openapi_v3_index(struct api_request *q) {
    if (q->api->openapi_index) {
        reply_blob(q, 200, "application/json", blob_ref(q->api->openapi_index));
        return;
    }
    job_start(q, &(struct openapi_job){.index = true});
}

struct version_search {
    struct str group, version;
    bool found;
};

static void version_match(void *arg, struct str group, struct str version) {
    struct version_search *v = arg;
    v->found = v->found || (str_eq(v->group, group) && str_eq(v->version, version));
}

void openapi_v3(struct api_request *q) {
    struct str rest = str_skip(q->path, sizeof("/openapi/v3/") - 1), root = str_split(&rest, '/');
    struct version_search v = {.group = STR("")};
    if (str_eq_c(root, "apis") && rest.p)
        v.group = str_split(&rest, '/');
    v.version = rest.p ? rest : STR("");
    bool core = str_eq_c(root, "api");
    if (core || (str_eq_c(root, "apis") && v.group.n))
        versions_each(q->api->schema, version_match, &v);
    if (!v.found) {
        reply_error(q, 404, "NotFound", "the server could not find the requested resource");
        return;
    }
    job_start(q, &(struct openapi_job){.group = v.group, .version = v.version});
}

void openapi_v2(struct api_request *q) {
    struct str accept = request_header(q, "Accept");
    bool pb = str_find(accept, STR("com.github.proto-openapi.spec.v2")) >= 0;
    job_start(q, &(struct openapi_job){.v2 = true, .protobuf = pb});
}
