/* Services and slices from JSON text, as a source of names. */
#pragma once

#include "cluster/dns_zone.h"
#include "helper.h"

struct fake {
    struct arena *a;
    const struct json *services, *slices;
};

static inline bool is_object(const struct json *o, struct str ns, const char *path, struct str name) {
    return str_eq(json_str_at(o, "metadata.namespace"), ns) && str_eq(json_str_at(o, path), name);
}

static inline const struct json *fake_service(void *arg, struct str ns, struct str name) {
    struct fake *f = arg;
    for (size_t i = 0; i < json_len(f->services); i++)
        if (is_object(json_item(f->services, i), ns, "metadata.name", name))
            return json_item(f->services, i);
    return NULL;
}

static inline void fake_each_service(void *arg, bool (*each)(void *to, const struct json *svc), void *to) {
    struct fake *f = arg;
    for (size_t i = 0; i < json_len(f->services); i++)
        if (!each(to, json_item(f->services, i)))
            return;
}

static inline void fake_each_slice(void *arg, struct str ns, struct str name,
                                   bool (*each)(void *to, const struct json *slice), void *to) {
    struct fake *f = arg;
    for (size_t i = 0; i < json_len(f->slices); i++)
        if (is_object(json_item(f->slices, i), ns, "metadata.service", name) && !each(to, json_item(f->slices, i)))
            return;
}

#define META(ns, name) "\"metadata\":{\"namespace\":\"" ns "\",\"name\":\"" name "\"}"
#define SLICE(ns, service) \
    "\"metadata\":{\"namespace\":\"" ns "\",\"service\":\"" service "\"},\"addressType\":\"IPv4\""

static const char fake_services_text[] = "[{" META(
    "default",
    "kubernetes") ",\"spec\":{\"clusterIP\":\"10.43.0.1\",\"ports\":[{\"name\":\"https\",\"port\":443,"
                  "\"protocol\":\"TCP\"}]}},"
                  "{" META(
                      "default",
                      "db") ",\"spec\":{\"clusterIP\":\"None\"}},"
                            "{" META(
                                "default",
                                "empty") ",\"spec\":{\"clusterIP\":\"None\"}},"
                                         "{" META(
                                             "apps",
                                             "world") ",\"spec\":{\"type\":\"ExternalName\",\"externalName\":\"www.example.org\"}},"
                                                      "{" META(
                                                          "apps",
                                                          "inside") ",\"spec\":{\"type\":\"ExternalName\",\"externalName\":\"kubernetes.default.svc.cluster.local.\"}},"
                                                                    "{" META(
                                                                        "apps",
                                                                        "circle") ",\"spec\":{\"type\":\"ExternalName\",\"externalName\":\"circle.apps.svc.cluster.local\"}},"
                                                                                  "{" META(
                                                                                      "apps",
                                                                                      "gone") ",\"spec\":{\"type\":\"ExternalName\",\"externalName\":\"nothing.apps.svc.cluster.local\"}}]";
static const char fake_slices_text[] = "[{" SLICE(
    "default",
    "db") ",\"ports\":[{\"name\":\"sql\",\"port\":5432,\"protocol\":\"TCP\"}],\"endpoints\":["
          "{\"addresses\":[\"10.42.0.5\"],\"hostname\":\"db-0\",\"conditions\":{\"ready\":true}},"
          "{\"addresses\":[\"10.42.0.7\"],\"hostname\":\"db-2\",\"conditions\":{\"ready\":false}}]},"
          "{" SLICE(
              "default",
              "db") ",\"ports\":[{\"name\":\"sql\",\"port\":5432,\"protocol\":\"TCP\"}],\"endpoints\":["
                    "{\"addresses\":[\"10.42.0.5\"],\"hostname\":\"db-0\"}]},"
                    "{" SLICE(
                        "default",
                        "empty") ",\"endpoints\":[{\"addresses\":[\"10.42.0.9\"],\"conditions\":{\"ready\":false}}]}]";

static inline struct dns_source fake_source(struct fake *f) {
    struct error err = {0};
    f->a = arena_new(0, 0);
    f->services = json_parse(f->a, str_c(fake_services_text), NULL, &err);
    f->slices = json_parse(f->a, str_c(fake_slices_text), NULL, &err);
    if (!f->services || !f->slices)
        fail_msg("%s", err.msg);
    return (struct dns_source){fake_service, fake_each_service, fake_each_slice, f};
}
