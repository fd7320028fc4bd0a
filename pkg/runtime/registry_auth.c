#include "runtime/registry_auth.h"

#include "codec/base64.h"
#include "codec/json.h"

#define TOKEN_BYTES_MAX KiB(32)
#define MESSAGE_BYTES_MAX 160

static bool is_token_char(char c) {
    return c > ' ' && c < 0x7f && !strchr("()<>@,;:\\\"/[]?={}", c);
}

static void skip_blanks(struct str *s) {
    while (s->n && (s->p[0] == ' ' || s->p[0] == '\t' || s->p[0] == ','))
        *s = str_skip(*s, 1);
}

static struct str take_token(struct str *s) {
    size_t n = 0;
    while (n < s->n && is_token_char(s->p[n]))
        n++;
    struct str t = str_n(s->p, n);
    *s = str_skip(*s, n);
    return t;
}

/* A token or a quoted string. */
static struct str take_value(struct arena *a, struct str *s) {
    while (s->n && (s->p[0] == ' ' || s->p[0] == '\t'))
        *s = str_skip(*s, 1);
    if (!s->n || s->p[0] != '"') {
        size_t n = 0;
        while (n < s->n && s->p[n] != ',' && s->p[n] != ' ' && s->p[n] != '\t')
            n++;
        struct str v = str_n(s->p, n);
        *s = str_skip(*s, n);
        return v;
    }
    *s = str_skip(*s, 1);
    size_t room = 0;
    while (room < s->n && s->p[room] != '"')
        room += s->p[room] == '\\' ? 2 : 1;
    char *out = arena_alloc(a, room + 2);
    size_t n = 0;
    while (s->n && s->p[0] != '"') {
        if (s->p[0] == '\\' && s->n > 1)
            *s = str_skip(*s, 1);
        out[n++] = s->p[0];
        *s = str_skip(*s, 1);
    }
    *s = str_skip(*s, 1);
    return str_n(out, n);
}

static void set_param(struct arena *a, struct registry_challenge *c, struct str key, struct str value) {
    const struct {
        const char *name;
        struct str *to;
    } known[] = {{"realm", &c->realm}, {"service", &c->service}, {"scope", &c->scope}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_eq_nocase(key, str_c(known[i].name)))
            *known[i].to = str_dup(a, value);
}

static void better(struct registry_challenge *out, const struct registry_challenge *c) {
    if (c->scheme > out->scheme && (c->scheme != REGISTRY_AUTH_BEARER || c->realm.n))
        *out = *c;
}

void registry_challenge_parse(struct arena *a, struct str value, struct registry_challenge *out) {
    if (value.n > KiB(8))
        return;
    struct registry_challenge now = {0};
    for (skip_blanks(&value); value.n; skip_blanks(&value)) {
        struct str word = take_token(&value);
        if (!word.n)
            break;
        struct str behind = value;
        while (behind.n && behind.p[0] == ' ')
            behind = str_skip(behind, 1);
        if (behind.n && behind.p[0] == '=' && now.scheme != REGISTRY_AUTH_NONE) {
            value = str_skip(behind, 1);
            set_param(a, &now, word, take_value(a, &value));
            continue;
        }
        better(out, &now);
        now = (struct registry_challenge){.realm = STR(""), .service = STR(""), .scope = STR("")};
        if (str_eq_nocase(word, STR("bearer")))
            now.scheme = REGISTRY_AUTH_BEARER;
        else if (str_eq_nocase(word, STR("basic")))
            now.scheme = REGISTRY_AUTH_BASIC;
        else if (behind.n && behind.p[0] == '=') { /* a parameter of a scheme that is not known */
            value = str_skip(behind, 1);
            take_value(a, &value);
        }
    }
    better(out, &now);
}

struct str registry_basic(struct arena *a, struct str username, struct str password) {
    cleanup_buf struct buf plain = BUF_INIT, out = BUF_INIT;
    buf_put_str(&plain, username);
    buf_putc(&plain, ':');
    buf_put_str(&plain, password);
    buf_puts(&out, "Basic ");
    base64_encode(&out, plain.p, plain.n);
    return str_dup(a, buf_str(&out));
}

static void put_escaped(struct buf *b, struct str s) {
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._~:/,*", c));
        if (plain)
            buf_putc(b, (char)c);
        else
            buf_printf(b, "%%%02X", c);
    }
}

static void put_query(struct buf *b, const struct registry_challenge *c, struct str scope) {
    if (c->service.n) {
        buf_puts(b, "service=");
        put_escaped(b, c->service);
        buf_putc(b, '&');
    }
    buf_puts(b, "scope=");
    put_escaped(b, c->scope.n ? c->scope : scope);
}

struct str registry_token_url(struct arena *a, const struct registry_challenge *c, struct str scope) {
    cleanup_buf struct buf b = BUF_INIT;
    buf_put_str(&b, c->realm);
    buf_putc(&b, str_index(c->realm, '?', 0) >= 0 ? '&' : '?');
    put_query(&b, c, scope);
    return str_dup(a, buf_str(&b));
}

struct str registry_token_form(struct arena *a, const struct registry_challenge *c, struct str scope,
                               struct str identity_token) {
    cleanup_buf struct buf b = BUF_INIT;
    buf_puts(&b, "grant_type=refresh_token&client_id=dory&");
    put_query(&b, c, scope);
    buf_puts(&b, "&refresh_token=");
    put_escaped(&b, identity_token);
    return str_dup(a, buf_str(&b));
}

int registry_token_parse(struct arena *a, struct str body, struct str *token, int64_t *expires_in_s,
                         struct error *err) {
    cleanup_arena struct arena *tmp = arena_new(0, 0);
    struct json_limits limits = {.depth = 16, .nodes = 1000};
    const struct json *doc = json_parse(tmp, body, &limits, err);
    if (!doc)
        return -EINVAL;
    struct str t = json_as_str(json_get_c(doc, "token"));
    if (!t.n)
        t = json_as_str(json_get_c(doc, "access_token"));
    if (!t.n)
        return error_set(err, -EINVAL, "the answer holds no token");
    if (t.n > TOKEN_BYTES_MAX)
        return error_set(err, -EINVAL, "the token is larger than %zu KiB", TOKEN_BYTES_MAX / 1024);
    for (size_t i = 0; i < t.n; i++)
        if (t.p[i] <= ' ' || t.p[i] >= 0x7f)
            return error_set(err, -EINVAL, "the token holds characters that no header may have");
    *token = str_dup(a, t);
    int64_t s = json_as_int(json_get_c(doc, "expires_in"), 60);
    *expires_in_s = s < 1 ? 1 : MIN(s, 3600);
    return 0;
}

struct str registry_error_text(struct arena *a, struct str body) {
    cleanup_arena struct arena *tmp = arena_new(0, 0);
    struct json_limits limits = {.depth = 16, .nodes = 1000};
    const struct json *doc = body.n ? json_parse(tmp, body, &limits, NULL) : NULL;
    const struct json *first = json_item(json_get_c(doc, "errors"), 0);
    struct str text = json_as_str(json_get_c(first, "message"));
    if (!text.n)
        text = json_as_str(json_get_c(first, "code"));
    if (!text.n)
        text = json_as_str(json_get_c(doc, "details"));
    size_t n = MIN(text.n, MESSAGE_BYTES_MAX);
    char *out = arena_strndup(a, text.p, n);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < ' ' || (unsigned char)out[i] >= 0x7f)
            out[i] = '?';
    return str_n(out, n);
}
