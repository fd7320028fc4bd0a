/*
 * OpenAPI version 2 as protobuf, as the package openapi.v2 of gnostic defines it: what kubectl asks for first. The
 * messages' members and numbers are tables; values come from the JSON form.
 */
#include "schema/openapi.h"

enum pb_form {
    PB_STRING,
    PB_BOOL,
    PB_STRINGS, /* repeated */
    PB_MESSAGE,
    PB_WRAPPED, /* a message whose field 1 is the message */
    PB_TYPE,    /* TypeItem: field 1 repeats names */
    PB_NAMED,   /* a message whose field 1 repeats name and message, of an object */
    PB_ANY,     /* YAML text */
    PB_ANYS,
    PB_PARAMETERS,
    PB_RESPONSES
};

struct pb_field {
    const char *name;
    unsigned number;
    enum pb_form form;
    const struct pb_field *message;
};

/* "x-...": the number of vendor_extension, repeated NamedAny. */
#define EXTENSION "x-"

static const struct pb_field schema_fields[] = {
    {"$ref", 1, PB_STRING, NULL},
    {"format", 2, PB_STRING, NULL},
    {"title", 3, PB_STRING, NULL},
    {"description", 4, PB_STRING, NULL},
    {"default", 5, PB_ANY, NULL},
    {"required", 19, PB_STRINGS, NULL},
    {"enum", 20, PB_ANYS, NULL},
    {"additionalProperties", 21, PB_WRAPPED, schema_fields},
    {"type", 22, PB_TYPE, NULL},
    {"items", 23, PB_WRAPPED, schema_fields},
    {"properties", 25, PB_NAMED, schema_fields},
    {EXTENSION, 31, PB_ANY, NULL},
    {NULL, 0, 0, NULL},
};

static const struct pb_field body_fields[] = {
    {"description", 1, PB_STRING, NULL},
    {"name", 2, PB_STRING, NULL},
    {"in", 3, PB_STRING, NULL},
    {"required", 4, PB_BOOL, NULL},
    {"schema", 5, PB_MESSAGE, schema_fields},
    {NULL, 0, 0, NULL},
};

static const struct pb_field query_fields[] = {
    {"required", 1, PB_BOOL, NULL}, {"in", 2, PB_STRING, NULL},   {"description", 3, PB_STRING, NULL},
    {"name", 4, PB_STRING, NULL},   {"type", 6, PB_STRING, NULL}, {NULL, 0, 0, NULL},
};

static const struct pb_field path_fields[] = {
    {"required", 1, PB_BOOL, NULL}, {"in", 2, PB_STRING, NULL},   {"description", 3, PB_STRING, NULL},
    {"name", 4, PB_STRING, NULL},   {"type", 5, PB_STRING, NULL}, {NULL, 0, 0, NULL},
};

static const struct pb_field response_fields[] = {
    {"description", 1, PB_STRING, NULL},
    {"schema", 2, PB_WRAPPED, schema_fields},
    {NULL, 0, 0, NULL},
};

static const struct pb_field operation_fields[] = {
    {"tags", 1, PB_STRINGS, NULL},          {"operationId", 5, PB_STRING, NULL},
    {"produces", 6, PB_STRINGS, NULL},      {"consumes", 7, PB_STRINGS, NULL},
    {"parameters", 8, PB_PARAMETERS, NULL}, {"responses", 9, PB_RESPONSES, NULL},
    {EXTENSION, 13, PB_ANY, NULL},          {NULL, 0, 0, NULL},
};

static const struct pb_field item_fields[] = {
    {"get", 2, PB_MESSAGE, operation_fields},
    {"put", 3, PB_MESSAGE, operation_fields},
    {"post", 4, PB_MESSAGE, operation_fields},
    {"delete", 5, PB_MESSAGE, operation_fields},
    {"patch", 8, PB_MESSAGE, operation_fields},
    {"parameters", 9, PB_PARAMETERS, NULL},
    {NULL, 0, 0, NULL},
};

/* --- wire format --- */

static void put_varint(struct buf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7)
        buf_putc(b, (char)(v | 0x80));
    buf_putc(b, (char)v);
}

static void put_bytes(struct buf *b, unsigned number, struct str s) {
    put_varint(b, number << 3 | 2);
    put_varint(b, s.n);
    buf_put_str(b, s);
}

/* A message of unknown length: what is written between begin and end; the length is put in front of it then. */
static size_t message_begin(struct buf *b, unsigned number) {
    put_varint(b, number << 3 | 2);
    return b->n;
}

static void message_end(struct buf *b, size_t start) {
    size_t n = b->n - start, bytes = 0;
    unsigned char length[10];
    for (uint64_t rest = n; bytes == 0 || rest; rest >>= 7)
        length[bytes++] = (unsigned char)((rest & 0x7f) | (rest >> 7 ? 0x80 : 0));
    buf_put(b, length, bytes); /* room for it; then it changes places with the message */
    if (b->failed)
        return;
    memmove(b->p + start + bytes, b->p + start, n);
    memcpy(b->p + start, length, bytes);
}

/* --- values --- */

static void put_fields(struct buf *b, const struct pb_field *fields, const struct json *v);

/* Any{yaml}; JSON is YAML. */
static void put_any(struct buf *b, unsigned number, const struct json *v) {
    cleanup_buf struct buf text = BUF_INIT;
    json_write(&text, v);
    buf_putc(&text, '\n');
    size_t at = message_begin(b, number);
    put_bytes(b, 2, buf_str(&text));
    message_end(b, at);
}

static void put_named_any(struct buf *b, unsigned number, struct str name, const struct json *v) {
    size_t at = message_begin(b, number);
    put_bytes(b, 1, name);
    put_any(b, 2, v);
    message_end(b, at);
}

static void put_message(struct buf *b, unsigned number, const struct pb_field *fields, const struct json *v) {
    size_t at = message_begin(b, number);
    put_fields(b, fields, v);
    message_end(b, at);
}

static void put_named(struct buf *b, unsigned number, struct str name, const struct pb_field *fields,
                      const struct json *v) {
    size_t at = message_begin(b, number);
    put_bytes(b, 1, name);
    put_message(b, 2, fields, v);
    message_end(b, at);
}

/* ParametersItem{Parameter{BodyParameter or NonBodyParameter{...}}} */
static void put_parameter(struct buf *b, unsigned number, const struct json *v) {
    struct str in = json_str_at(v, "in");
    size_t item = message_begin(b, number), parameter = message_begin(b, 1);
    if (str_eq(in, STR("body"))) {
        put_message(b, 1, body_fields, v);
    } else {
        bool path = str_eq(in, STR("path"));
        size_t other = message_begin(b, 2);
        put_message(b, path ? 4 : 3, path ? path_fields : query_fields, v);
        message_end(b, other);
    }
    message_end(b, parameter);
    message_end(b, item);
}

/* Responses{NamedResponseValue{name, ResponseValue{Response}}} */
static void put_responses(struct buf *b, unsigned number, const struct json *v) {
    size_t all = message_begin(b, number);
    for (size_t i = 0; i < json_len(v); i++) {
        size_t one = message_begin(b, 1);
        put_bytes(b, 1, v->members[i].key);
        size_t value = message_begin(b, 2);
        put_message(b, 1, response_fields, v->members[i].value);
        message_end(b, value);
        message_end(b, one);
    }
    message_end(b, all);
}

static void put_items(struct buf *b, const struct pb_field *f, const struct json *v) {
    for (size_t i = 0; i < json_len(v); i++) {
        if (f->form == PB_STRINGS)
            put_bytes(b, f->number, json_as_str(json_item(v, i)));
        else if (f->form == PB_ANYS)
            put_any(b, f->number, json_item(v, i));
        else if (f->form == PB_PARAMETERS)
            put_parameter(b, f->number, json_item(v, i));
    }
}

static void put_value(struct buf *b, const struct pb_field *f, const struct json *v) {
    size_t at;
    switch (f->form) {
    case PB_STRING:
        put_bytes(b, f->number, json_as_str(v));
        break;
    case PB_BOOL:
        put_varint(b, f->number << 3);
        put_varint(b, json_as_bool(v, false));
        break;
    case PB_MESSAGE:
        put_message(b, f->number, f->message, v);
        break;
    case PB_WRAPPED:
        at = message_begin(b, f->number);
        put_message(b, 1, f->message, v);
        message_end(b, at);
        break;
    case PB_TYPE:
        at = message_begin(b, f->number);
        put_bytes(b, 1, json_as_str(v));
        message_end(b, at);
        break;
    case PB_NAMED:
        at = message_begin(b, f->number);
        for (size_t i = 0; i < json_len(v); i++)
            put_named(b, 1, v->members[i].key, f->message, v->members[i].value);
        message_end(b, at);
        break;
    case PB_ANY:
        put_any(b, f->number, v);
        break;
    case PB_RESPONSES:
        put_responses(b, f->number, v);
        break;
    case PB_STRINGS:
    case PB_ANYS:
    case PB_PARAMETERS:
        put_items(b, f, v);
        break;
    }
}

static void put_fields(struct buf *b, const struct pb_field *fields, const struct json *v) {
    for (size_t i = 0; json_is(v, JSON_OBJECT) && i < v->n; i++) {
        const struct json_member *m = &v->members[i];
        bool extension = str_starts(m->key, STR(EXTENSION));
        for (const struct pb_field *f = fields; f->name; f++) {
            if (extension && strcmp(f->name, EXTENSION) == 0)
                put_named_any(b, f->number, m->key, m->value);
            else if (!extension && str_eq_c(m->key, f->name))
                put_value(b, f, m->value);
        }
    }
}

/* --- the document --- */

void openapi_pb_path(struct buf *out, struct str name, const struct json *item) {
    put_named(out, 2, name, item_fields, item);
}

void openapi_pb_definition(struct buf *out, struct str name, const struct json *definition) {
    put_named(out, 1, name, schema_fields, definition);
}

void openapi_pb_document(struct buf *out, struct str paths, struct str definitions) {
    put_bytes(out, 1, STR("2.0"));
    size_t info = message_begin(out, 2);
    put_bytes(out, 1, STR(OPENAPI_TITLE));
    put_bytes(out, 2, STR(OPENAPI_VERSION));
    message_end(out, info);
    put_bytes(out, 8, paths);
    put_bytes(out, 9, definitions);
}
