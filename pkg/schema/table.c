/*
 * Tables: the columns kubectl shows and the cells of a row. A column's rule is a path, a path with a word for what to
 * make of it, or the name of a function (table_*.c).
 */
#include "schema/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "schema/convert.h"

static const struct schema_column default_columns[] = {
    {STR_INIT("Name"), STR_INIT("string"), STR_INIT("name"), STR_INIT(".metadata.name"), 0},
    {STR_INIT("Created At"), STR_INIT("date"), STR_INIT(""), STR_INIT(".metadata.creationTimestamp"), 0},
};

/* --- durations --- */

/* The thresholds and forms are those of Kubernetes' HumanDuration. */
char *table_duration(int64_t s, char out[TABLE_AGE_MAX]) {
    int64_t m = s / 60, h = s / 3600, d = s / 86400;
    if (s < -1)
        snprintf(out, TABLE_AGE_MAX, "<invalid>");
    else if (s < 0)
        snprintf(out, TABLE_AGE_MAX, "0s");
    else if (s < 120)
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "s", s);
    else if (m < 10 && s % 60)
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "m%" PRId64 "s", m, s % 60);
    else if (m < 180)
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "m", m);
    else if (h < 8 && m % 60)
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "h%" PRId64 "m", h, m % 60);
    else if (h < 48)
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "h", h);
    else if (h < 192 && h % 24)
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "d%" PRId64 "h", d, h % 24);
    else if (d < 365 * 2)
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "d", d);
    else if (d < 365 * 8 && d % 365)
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "y%" PRId64 "d", d / 365, d % 365);
    else
        snprintf(out, TABLE_AGE_MAX, "%" PRId64 "y", d / 365);
    return out;
}

struct str table_age(struct table_row *row, const struct json *time, const char *otherwise) {
    struct timespec t;
    char text[TABLE_AGE_MAX];
    if (!json_is(time, JSON_STRING) || !time_parse(time->s, &t))
        return str_c(otherwise);
    return str_dup(row->arena, str_c(table_duration(row->now_s - t.tv_sec, text)));
}

/* --- helpers of the cell functions --- */

void table_list_add(struct table_list *l, struct str item) {
    if (l->limit && l->n >= l->limit) {
        l->n++;
        return;
    }
    if (l->n++ > 0)
        buf_puts(&l->text, l->separator ? l->separator : ",");
    buf_put_str(&l->text, item);
}

struct json *table_list_cell(struct table_row *row, struct table_list *l, const char *otherwise) {
    if (l->limit && l->n > l->limit)
        buf_printf(&l->text, " + %zu more...", l->n - l->limit);
    struct json *v = l->n ? json_str(row->arena, buf_str(&l->text)) : json_cstr(row->arena, otherwise);
    buf_fini(&l->text);
    return v;
}

static int by_key(const void *a, const void *b) {
    const struct json_member *const *x = a, *const *y = b;
    return str_cmp((*x)->key, (*y)->key);
}

struct json *table_labels(struct table_row *row, const struct json *map, const char *otherwise) {
    struct table_list l = {.text = BUF_INIT};
    size_t n = json_is(map, JSON_OBJECT) ? map->n : 0;
    const struct json_member **sorted = arena_alloc(row->arena, (n + 1) * sizeof(*sorted));
    for (size_t i = 0; i < n; i++)
        sorted[i] = &map->members[i];
    qsort(sorted, n, sizeof(*sorted), by_key);
    for (size_t i = 0; i < n; i++)
        table_list_add(&l, str_printf(row->arena, "%.*s=%.*s", STR_ARG(sorted[i]->key),
                                      STR_ARG(json_as_str(sorted[i]->value))));
    return table_list_cell(row, &l, otherwise);
}

struct json *table_text(struct table_row *row, struct str s) {
    return json_str(row->arena, s);
}

struct json *table_string(struct table_row *row, const char *path, const char *otherwise) {
    struct str s = json_str_at(row->object, path);
    return s.n ? table_text(row, s) : json_cstr(row->arena, otherwise);
}

const struct json *table_condition(const struct json *object, const char *type) {
    const struct json *list = json_at(object, "status.conditions");
    for (size_t i = 0; i < json_len(list); i++)
        if (str_eq_c(json_str_at(json_item(list, i), "type"), type))
            return json_item(list, i);
    return NULL;
}

/* --- rules --- */

struct rule {
    struct str word, path, otherwise; /* "age", ".a.b", "<none>" */
    bool has_otherwise;
};

static struct rule rule_parse(struct str text) {
    static const struct str words[] = {STR_INIT("age "), STR_INIT("len "), STR_INIT("labels "), STR_INIT("join ")};
    struct rule r = {.path = text};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (str_starts(text, words[i])) {
            r.word = str_n(words[i].p, words[i].n - 1);
            r.path = str_skip(text, words[i].n);
        }
    ptrdiff_t at = str_find(r.path, STR(" or "));
    if (at >= 0) {
        r.has_otherwise = true;
        r.otherwise = str_skip(r.path, (size_t)at + 4);
        r.path.n = (size_t)at;
    }
    return r;
}

static bool is_plain(struct str path) {
    if (path.n < 2 || path.p[0] != '.')
        return false;
    for (size_t i = 0; i < path.n; i++)
        if (strchr("[]*\\(){}$@'\"", path.p[i]) || (path.p[i] == '.' && i + 1 < path.n && path.p[i + 1] == '.'))
            return false;
    return true;
}

struct matches {
    struct table_row *row;
    const struct json *first;
    struct json *all; /* of several matches */
};

static void on_match(void *arg, const struct json *v) {
    struct matches *m = arg;
    if (!m->first) {
        m->first = v;
        return;
    }
    if (!m->all) {
        m->all = json_array(m->row->arena);
        json_append(m->row->arena, m->all, json_copy(m->row->arena, m->first));
    }
    json_append(m->row->arena, m->all, json_copy(m->row->arena, v));
}

static const struct json *rule_value(struct table_row *row, struct str path) {
    if (is_plain(path)) {
        const struct json *v = row->object;
        for (struct str rest = str_skip(path, 1); v && rest.p;)
            v = json_get(v, str_split(&rest, '.'));
        return v;
    }
    struct jsonpath *p = jsonpath_compile(row->arena, path, NULL);
    if (!p)
        return NULL;
    struct matches m = {.row = row};
    jsonpath_eval(p, row->object, on_match, &m);
    return m.all ? m.all : m.first;
}

/* What a field holds that is absent: Go's zero value, for types that are never null. */
static struct json *zero_cell(struct table_row *row, struct str path) {
    const struct schema_type *t = row->resource->type;
    for (struct str rest = str_skip(path, 1); t && rest.p;) {
        const struct schema_field *f = schema_field_find(t, str_split(&rest, '.'));
        t = f ? f->type : NULL;
    }
    if (t && (t->kind == SCHEMA_INT32 || t->kind == SCHEMA_INT64))
        return json_int(row->arena, 0);
    if (t && t->kind == SCHEMA_BOOL)
        return json_bool(row->arena, false);
    return json_cstr(row->arena, "");
}

static bool is_builtin(const struct schema_resource *r) {
    return schema_resource_at(schema_builtin(), r->index) == r;
}

static struct str value_text(struct table_row *row, const struct json *v) {
    return json_is(v, JSON_STRING) ? v->s : json_text(row->arena, v);
}

/* A cell of a column with a type of its own: CustomResourceDefinitions' printer columns. */
static struct json *typed_cell(struct table_row *row, const struct schema_column *c, const struct json *v) {
    int64_t whole;
    if (str_eq(c->type, STR("date")))
        return table_text(row, table_age(row, v, "<unknown>"));
    if (str_eq(c->type, STR("integer"))) {
        if (json_is(v, JSON_STRING) && str_to_i64(v->s, &whole))
            return json_int(row->arena, whole);
        if (json_is(v, JSON_DOUBLE) && v->d > -9e18 && v->d < 9e18)
            return json_int(row->arena, (int64_t)v->d);
        return json_is(v, JSON_INT) ? json_copy(row->arena, v) : json_null(row->arena);
    }
    if (str_eq(c->type, STR("number")))
        return json_is(v, JSON_INT) || json_is(v, JSON_DOUBLE) ? json_copy(row->arena, v) : json_null(row->arena);
    if (str_eq(c->type, STR("boolean")))
        return json_is(v, JSON_BOOL) ? json_copy(row->arena, v) : json_null(row->arena);
    return table_text(row, value_text(row, v));
}

static struct json *joined(struct table_row *row, const struct json *v, const char *otherwise) {
    struct table_list l = {.text = BUF_INIT};
    for (size_t i = 0; i < json_len(v); i++)
        table_list_add(&l, value_text(row, json_item(v, i)));
    return table_list_cell(row, &l, otherwise);
}

static bool is_absent(const struct json *v) {
    return !v || v->type == JSON_NULL || (v->type == JSON_STRING && v->s.n == 0);
}

static struct json *path_cell(struct table_row *row, const struct schema_column *c) {
    struct rule r = rule_parse(c->rule);
    const struct json *v = rule_value(row, r.path);
    const char *otherwise = r.has_otherwise ? arena_strndup(row->arena, r.otherwise.p, r.otherwise.n) : "";
    if (str_eq(r.word, STR("age")))
        return table_text(row, table_age(row, v, r.has_otherwise ? otherwise : "<unknown>"));
    if (str_eq(r.word, STR("len")))
        return json_int(row->arena, (int64_t)json_len(v));
    if (str_eq(r.word, STR("labels")))
        return table_labels(row, v, otherwise);
    if (str_eq(r.word, STR("join")))
        return joined(row, v, otherwise);
    if (is_absent(v)) {
        if (r.has_otherwise)
            return json_cstr(row->arena, otherwise);
        return is_builtin(row->resource) ? zero_cell(row, r.path) : json_null(row->arena);
    }
    if (r.has_otherwise)
        return table_text(row, value_text(row, v));
    if (str_eq(c->type, STR("date")) && str_eq(c->name, STR("Created At")))
        return json_copy(row->arena, v); /* the one kind of date that tables do not turn into an age */
    if (!is_builtin(row->resource) || str_eq(c->type, STR("date")))
        return typed_cell(row, c, v);
    return v->type == JSON_ARRAY || v->type == JSON_OBJECT ? table_text(row, json_text(row->arena, v))
                                                           : json_copy(row->arena, v);
}

static table_cell_fn *cell_find(struct str name) {
    static const struct table_cell *const lists[] = {table_pod_cells, table_core_cells, table_workload_cells,
                                                     table_other_cells};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (const struct table_cell *c = lists[i]; c->name; c++)
            if (str_eq_c(name, c->name))
                return c->fn;
    return NULL;
}

/* --- the two public functions --- */

static const struct schema_column *columns_of(const struct schema_resource *r, size_t *n) {
    *n = r->columns_n ? r->columns_n : ARRAY_LEN(default_columns);
    return r->columns_n ? r->columns : default_columns;
}

struct json *schema_table_columns(struct arena *a, const struct schema_resource *r) {
    size_t n;
    const struct schema_column *columns = columns_of(r, &n);
    struct json *out = json_array(a);
    for (size_t i = 0; i < n; i++) {
        struct json *c = json_object(a);
        json_set_str(a, c, "name", columns[i].name);
        json_set_str(a, c, "type", columns[i].type);
        json_set_str(a, c, "format", columns[i].format);
        json_set_cstr(a, c, "description", "");
        json_set_int(a, c, "priority", columns[i].priority);
        json_append(a, out, c);
    }
    return out;
}

/* Columns that another version defines look at that version's fields. */
static const struct json *as_columns_see_it(struct arena *a, const struct schema_resource **r, const struct json *v) {
    const struct schema_resource *storage = (*r)->storage;
    if (!storage || storage == *r || (*r)->columns != storage->columns || !convert_find(*r))
        return v;
    const struct json *converted = schema_convert(a, *r, storage, v, NULL);
    if (!converted)
        return v;
    *r = storage;
    return converted;
}

struct json *schema_table_row(struct arena *a, const struct schema_resource *r, const struct json *object,
                              int64_t now_s) {
    size_t n;
    const struct schema_column *columns = columns_of(r, &n);
    const struct json *seen = as_columns_see_it(a, &r, object);
    struct table_row row = {.arena = a, .resource = r, .object = seen, .now_s = now_s};
    struct json *cells = json_array(a), *out = json_object(a);
    for (size_t i = 0; i < n; i++) {
        table_cell_fn *fn = columns[i].rule.n && columns[i].rule.p[0] != '.' ? cell_find(columns[i].rule) : NULL;
        json_append(a, cells, fn ? fn(&row) : path_cell(&row, &columns[i]));
    }
    json_set_c(a, out, "cells", cells);
    struct json *condition = str_eq(r->key, STR("pods")) ? table_pod_condition(&row) : NULL;
    if (condition) {
        struct json *list = json_array(a);
        json_append(a, list, condition);
        json_set_c(a, out, "conditions", list);
    }
    return out;
}
