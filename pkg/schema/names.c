/* Checks of names, labels and keys: the rules and the words of Kubernetes (RFC 1123, RFC 1035, qualified names). */
#include "schema/schema_private.h"

#define LABEL_MAX 63
#define SUBDOMAIN_MAX 253

#define TOO_LONG_63 "must be no more than 63 bytes"
#define TOO_LONG_253 "must be no more than 253 bytes"
#define LABEL_BAD                                                                                                   \
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end " \
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "                  \
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
#define SUBDOMAIN_BAD                                                                                                \
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start " \
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "                      \
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
#define DNS1035_BAD                                                                                                    \
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, " \
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "             \
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
#define QUALIFIED_RULE                                                                                                 \
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character " \
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "                                      \
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
#define VALUE_BAD                                                                                                   \
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start " \
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "          \
    "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"

static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_lower_alnum(char c) {
    return is_lower(c) || is_digit(c);
}

static bool is_alnum(char c) {
    return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* [a-z0-9]([-a-z0-9]*[a-z0-9])? */
static bool is_label(struct str s) {
    if (s.n == 0 || !is_lower_alnum(s.p[0]) || !is_lower_alnum(s.p[s.n - 1]))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_lower_alnum(s.p[i]) && s.p[i] != '-')
            return false;
    return true;
}

static bool is_subdomain(struct str s) {
    while (s.p)
        if (!is_label(str_split(&s, '.')))
            return false;
    return true;
}

/* ([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9] */
static bool is_name_part(struct str s) {
    if (s.n == 0 || !is_alnum(s.p[0]) || !is_alnum(s.p[s.n - 1]))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && s.p[i] != '-' && s.p[i] != '_' && s.p[i] != '.')
            return false;
    return true;
}

const char *name_check_dns_label(struct str s) {
    if (s.n > LABEL_MAX)
        return TOO_LONG_63;
    return is_label(s) ? NULL : LABEL_BAD;
}

const char *name_check_dns_subdomain(struct str s) {
    if (s.n > SUBDOMAIN_MAX)
        return TOO_LONG_253;
    return s.n > 0 && is_subdomain(s) ? NULL : SUBDOMAIN_BAD;
}

const char *name_check_dns1035(struct str s) {
    if (s.n > LABEL_MAX)
        return TOO_LONG_63;
    return is_label(s) && is_lower(s.p[0]) ? NULL : DNS1035_BAD;
}

const char *name_check_qualified(struct str s) {
    struct str prefix, name = s;
    if (str_cut(s, '/', &prefix, &name)) {
        if (str_index(name, '/', 0) >= 0)
            return "a qualified name " QUALIFIED_RULE
                   " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
        if (prefix.n == 0)
            return "prefix part must be non-empty";
        if (prefix.n > SUBDOMAIN_MAX)
            return "prefix part " TOO_LONG_253;
        if (!is_subdomain(prefix))
            return "prefix part " SUBDOMAIN_BAD;
    }
    if (name.n == 0)
        return "name part must be non-empty";
    if (name.n > LABEL_MAX)
        return "name part " TOO_LONG_63;
    return is_name_part(name) ? NULL : "name part " QUALIFIED_RULE;
}

const char *name_check_label_value(struct str s) {
    if (s.n > LABEL_MAX)
        return TOO_LONG_63;
    return s.n == 0 || is_name_part(s) ? NULL : VALUE_BAD;
}
