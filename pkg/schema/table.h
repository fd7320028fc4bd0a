/* What the sources of tables share; private to pkg/schema. */
#pragma once

#include "schema/schema_private.h"

struct table_pod { /* what several cells of a pod come from */
    bool done;
    char ready[32];
    struct str status, restarts;
};

struct table_row {
    struct arena *arena;
    const struct schema_resource *resource;
    const struct json *object;
    int64_t now_s;
    struct table_pod pod;
};

typedef struct json *table_cell_fn(struct table_row *row);

struct table_cell {
    const char *name;
    table_cell_fn *fn;
};

/* Each list ends with a NULL name. */
extern const struct table_cell table_pod_cells[], table_core_cells[], table_workload_cells[], table_other_cells[];

/* The row's condition of a finished pod, or NULL. */
struct json *table_pod_condition(struct table_row *row);

#define TABLE_AGE_MAX 24
/* How long ago, as kubectl shows it: "5s", "3m20s", "2d4h". */
char *table_duration(int64_t seconds, char out[TABLE_AGE_MAX]);
/* Age of a time member; otherwise when it is absent. */
struct str table_age(struct table_row *row, const struct json *time, const char *otherwise);

/* A comma separated list that grows in the arena's memory; limit: items shown, the rest is counted (0: all). */
struct table_list {
    struct buf text;
    const char *separator;
    size_t n, limit;
};
void table_list_add(struct table_list *l, struct str item);
/* Finishes the list: otherwise when it is empty. */
struct json *table_list_cell(struct table_row *row, struct table_list *l, const char *otherwise);

/* "k=v,..." of a map, sorted; otherwise when empty. */
struct json *table_labels(struct table_row *row, const struct json *map, const char *otherwise);
struct json *table_text(struct table_row *row, struct str s);
/* The string at a path, otherwise when absent or empty. */
struct json *table_string(struct table_row *row, const char *path, const char *otherwise);
/* The condition of a type in status.conditions, or NULL. */
const struct json *table_condition(const struct json *object, const char *type);
