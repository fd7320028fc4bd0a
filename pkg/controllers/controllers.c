#include "controllers/controllers.h"

#include <stdlib.h>

#include "controllers/internal.h"

static struct controller *(*const makers[])(struct controllers *) = {
    namespace_controller_new,  serviceaccount_controller_new, node_controller_new,      deployment_controller_new,
    replicaset_controller_new, replication_controller_new,    endpoints_controller_new, gc_controller_new,
};

struct controllers *controllers_start(const struct controllers_options *o) {
    struct controllers *all = XNEW(struct controllers);
    all->api = o->api;
    all->store = api_store(o->api);
    all->schema = api_schema(o->api);
    all->loop = api_loop(o->api);
    all->options = *o;
    for (size_t i = 0; i < ARRAY_LEN(makers); i++)
        vec_push(&all->list, makers[i](all));
    return all;
}

void controllers_stop(struct controllers *all) {
    for (size_t i = 0; i < all->list.n; i++) {
        struct controller *c = all->list.items[i];
        work_queue_free(c->queue);
        if (c->fini)
            c->fini(c->state);
        free(c->state);
        free(c);
    }
    vec_fini(&all->list);
    free(all);
}
