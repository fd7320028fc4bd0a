/* JSON trees to YAML through libyaml's emitter, with the choices of Go's yaml.v2, whose emitter is a port of it. */
#include <yaml.h>

#include "codec/json_private.h"
#include "codec/yaml.h"
#include "codec/yaml_private.h"

#define LINE_WIDTH 80

struct writer {
    yaml_emitter_t emitter;
    bool sorted;
};

static int emit_bytes(void *arg, unsigned char *bytes, size_t n) {
    struct buf *out = arg;
    buf_put(out, bytes, n);
    return !out->failed;
}

static bool emit(struct writer *w, int initialized, yaml_event_t *event) {
    return initialized && yaml_emitter_emit(&w->emitter, event); /* which frees the event, failing or not */
}

static bool put_scalar(struct writer *w, struct str s, yaml_scalar_style_t style) {
    yaml_event_t e;
    if (s.n > INT32_MAX)
        return false;
    return emit(w, yaml_scalar_event_initialize(&e, NULL, NULL, (const yaml_char_t *)s.p, (int)s.n, 1, 1, style), &e);
}

/* Text with line breaks as a block; text that would read as something else in quotes. The emitter itself turns to
 * quotes where plain or block style cannot hold the text. */
static bool put_string(struct writer *w, struct str s) {
    struct json unused;
    if (s.n && memchr(s.p, '\n', s.n))
        return put_scalar(w, s, YAML_LITERAL_SCALAR_STYLE);
    if (yaml_resolve(s, &unused) == YAML_STR && !yaml_is_base60(s))
        return put_scalar(w, s, YAML_PLAIN_SCALAR_STYLE);
    return put_scalar(w, s.p ? s : STR(""), YAML_DOUBLE_QUOTED_SCALAR_STYLE);
}

/* --- order of keys ----------------------------------------------------------------------------------------------- */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Letters sort behind other characters; what is beyond ASCII counts as letters. */
static bool is_letter(char c) {
    return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (unsigned char)c >= 0x80;
}

/* The value of the run of digits at s[i], as far as it matters, and its end. */
static size_t digits_at(struct str s, size_t i, uint64_t start, uint64_t *value) {
    for (*value = start; i < s.n && is_digit(s.p[i]); i++)
        *value = *value * 10 + (uint64_t)(s.p[i] - '0');
    return i;
}

static int natural_order(struct str a, struct str b) {
    size_t i = 0, n = MIN(a.n, b.n);
    while (i < n && a.p[i] == b.p[i])
        i++;
    if (i == n)
        return a.n < b.n ? -1 : a.n > b.n;
    bool al = is_letter(a.p[i]), bl = is_letter(b.p[i]);
    int bytewise = (unsigned char)a.p[i] < (unsigned char)b.p[i] ? -1 : 1;
    if (al && bl)
        return bytewise;
    if (al || bl)
        return bl ? -1 : 1;
    uint64_t start = 0, av, bv;
    if (a.p[i] == '0' || b.p[i] == '0') /* zeros inside a number count, leading ones do not */
        for (size_t k = i; k > 0 && is_digit(a.p[k - 1]); k--)
            if (a.p[k - 1] != '0')
                start = 1;
    size_t ae = digits_at(a, i, start, &av), be = digits_at(b, i, start, &bv);
    if (av != bv)
        return av < bv ? -1 : 1;
    return ae != be ? (ae < be ? -1 : 1) : bytewise;
}

static int by_natural_order(const void *a, const void *b) {
    return natural_order((*(struct json_member *const *)a)->key, (*(struct json_member *const *)b)->key);
}

/* --- trees ------------------------------------------------------------------------------------------------------- */

static bool put_value(struct writer *w, const struct json *v);

static bool put_members(struct writer *w, const struct json *v) {
    cleanup_free const struct json_member **order = NULL;
    if (w->sorted && v->n > 1) {
        order = xmalloc(v->n * sizeof(*order));
        for (uint32_t i = 0; i < v->n; i++)
            order[i] = &v->members[i];
        qsort(order, v->n, sizeof(*order), by_natural_order);
    }
    for (uint32_t i = 0; i < v->n; i++) {
        const struct json_member *m = order ? order[i] : &v->members[i];
        if (!put_string(w, m->key) || !put_value(w, m->value))
            return false;
    }
    return true;
}

static bool put_object(struct writer *w, const struct json *v) {
    yaml_event_t e;
    if (!emit(w, yaml_mapping_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE), &e) ||
        !put_members(w, v))
        return false;
    return emit(w, yaml_mapping_end_event_initialize(&e), &e);
}

static bool put_array(struct writer *w, const struct json *v) {
    yaml_event_t e;
    if (!emit(w, yaml_sequence_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE), &e))
        return false;
    for (uint32_t i = 0; i < v->n; i++)
        if (!put_value(w, v->items[i]))
            return false;
    return emit(w, yaml_sequence_end_event_initialize(&e), &e);
}

static bool put_value(struct writer *w, const struct json *v) {
    cleanup_buf struct buf text = BUF_INIT;
    switch (v ? v->type : JSON_NULL) {
    case JSON_OBJECT:
        return put_object(w, v);
    case JSON_ARRAY:
        return put_array(w, v);
    case JSON_STRING:
        return put_string(w, v->s);
    default:
        json_write(&text, v);
        return put_scalar(w, buf_str(&text), YAML_PLAIN_SCALAR_STYLE);
    }
}

static bool put_document(struct writer *w, const struct json *v) {
    yaml_event_t e;
    return emit(w, yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING), &e) &&
           emit(w, yaml_document_start_event_initialize(&e, NULL, NULL, NULL, 1), &e) && put_value(w, v) &&
           emit(w, yaml_document_end_event_initialize(&e, 1), &e) && emit(w, yaml_stream_end_event_initialize(&e), &e);
}

static void write_document(struct buf *out, const struct json *v, bool sorted) {
    struct writer w = {.sorted = sorted};
    if (!yaml_emitter_initialize(&w.emitter)) {
        out->failed = true;
        return;
    }
    yaml_emitter_set_output(&w.emitter, emit_bytes, out);
    yaml_emitter_set_unicode(&w.emitter, 1);
    yaml_emitter_set_width(&w.emitter, LINE_WIDTH);
    if (!put_document(&w, v))
        out->failed = true;
    yaml_emitter_delete(&w.emitter);
}

void yaml_write(struct buf *out, const struct json *v) {
    write_document(out, v, false);
}

void yaml_write_sorted(struct buf *out, const struct json *v) {
    write_document(out, v, true);
}
