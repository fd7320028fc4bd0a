/* What the files of pkg/client share. */
#pragma once

#include "client/client.h"

struct client { /* immutable after its making, shared by everything asked of it */
    struct ref ref;
    struct api *api;
    struct arena *arena;
    struct api_user user;
    const char *manager, *host;
};
struct client *client_ref(struct client *c);
void client_unref(struct client *c);
