#include "config.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

extern char **environ;

enum kind { KIND_STRING, KIND_BOOL, KIND_INT, KIND_LIST };

struct setting {
    const char *name;
    char short_name;
    enum kind kind;
    size_t offset;
    const char *env, *otherwise, *group, *help;
};

#define AT(member) offsetof(struct config, member)

static const struct setting settings[] = {
    {"config", 'c', KIND_STRING, AT(config_file), "DORY_CONFIG_FILE", "/etc/dory/config.yaml", "base",
     "Load configuration from FILE"},
    {"debug", 0, KIND_BOOL, AT(debug), "DORY_DEBUG", NULL, "logging", "Turn on debug logs"},
    {"bind-address", 0, KIND_STRING, AT(bind_address), NULL, "0.0.0.0", "listener", "Address the API listens on"},
    {"https-listen-port", 0, KIND_INT, AT(https_listen_port), NULL, "6443", "listener", "Port the API listens on"},
    {"advertise-address", 0, KIND_STRING, AT(advertise_address), NULL, NULL, "listener",
     "IPv4 address that the API advertises to the cluster (default: the node's address)"},
    {"tls-san", 0, KIND_LIST, AT(tls_san), "DORY_TLS_SAN", NULL, "listener",
     "Additional host names or IPv4/IPv6 addresses in the server's certificate"},
    {"data-dir", 'd', KIND_STRING, AT(data_dir), "DORY_DATA_DIR", "/var/lib/dory", "data", "Folder to hold state"},
    {"run-dir", 0, KIND_STRING, AT(run_dir), "DORY_RUN_DIR", "/run/dory", "data",
     "Folder for what lives as long as the machine is up (a tmpfs)"},
    {"cluster-cidr", 0, KIND_STRING, AT(cluster_cidr), NULL, "10.42.0.0/16", "networking",
     "IPv4 network to use for pod IPs"},
    {"service-cidr", 0, KIND_STRING, AT(service_cidr), NULL, "10.43.0.0/16", "networking",
     "IPv4 network to use for service IPs"},
    {"service-node-port-range", 0, KIND_STRING, AT(service_node_port_range), NULL, "30000-32767", "networking",
     "Port range to reserve for services with NodePort visibility"},
    {"cluster-dns", 0, KIND_STRING, AT(cluster_dns), NULL, "10.43.0.10", "networking",
     "IPv4 address of the cluster DNS; inside service-cidr"},
    {"cluster-domain", 0, KIND_STRING, AT(cluster_domain), NULL, "cluster.local", "networking", "Cluster domain"},
    {"token", 't', KIND_STRING, AT(token), "DORY_TOKEN", NULL, "cluster",
     "Shared secret used to join a server or agent to a cluster"},
    {"token-file", 0, KIND_STRING, AT(token_file), "DORY_TOKEN_FILE", NULL, "cluster", "File containing the token"},
    {"write-kubeconfig", 'o', KIND_STRING, AT(write_kubeconfig), "DORY_KUBECONFIG_OUTPUT", "/etc/dory/dory.yaml",
     "client", "Write the kubeconfig of the admin client to this file"},
    {"write-kubeconfig-mode", 0, KIND_STRING, AT(write_kubeconfig_mode), "DORY_KUBECONFIG_MODE", "0600", "client",
     "Write the kubeconfig with this file mode"},
    {"disable", 0, KIND_LIST, AT(disable), NULL, NULL, "components",
     "Do not run these built-in components (valid: dns, ingress)"},
    {"disable-agent", 0, KIND_BOOL, AT(disable_agent), NULL, NULL, "components", "Do not run a node in this server"},
    {"ingress-http-port", 0, KIND_INT, AT(ingress_http_port), NULL, "80", "components",
     "Port of the ingress proxy for HTTP"},
    {"ingress-https-port", 0, KIND_INT, AT(ingress_https_port), NULL, "443", "components",
     "Port of the ingress proxy for HTTPS"},
    {"node-name", 0, KIND_STRING, AT(node_name), "DORY_NODE_NAME", NULL, "agent/node",
     "Node name (default: the host name)"},
    {"node-label", 0, KIND_LIST, AT(node_label), NULL, NULL, "agent/node", "Labels of the node, key=value"},
    {"node-taint", 0, KIND_LIST, AT(node_taint), NULL, NULL, "agent/node", "Taints of the node, key=value:Effect"},
    {"node-ip", 'i', KIND_STRING, AT(node_ip), NULL, NULL, "agent/networking", "IPv4 address to advertise for node"},
    {"resolv-conf", 0, KIND_STRING, AT(resolv_conf), "DORY_RESOLV_CONF", "/etc/resolv.conf", "agent/networking",
     "Resolver configuration of the host"},
    {"private-registry", 0, KIND_STRING, AT(private_registry), NULL, "/etc/dory/registries.yaml", "agent/runtime",
     "Private registry configuration file"},
    {"max-pods", 0, KIND_INT, AT(max_pods), NULL, "110", "agent/node", "Number of pods that the node takes"},
};

static void *field(struct config *c, const struct setting *s) {
    return (char *)c + s->offset;
}

static void list_add(struct config *c, struct string_list *l, struct str item) {
    const char **items = arena_alloc(c->arena, (l->n + 2) * sizeof(*items));
    if (l->n)
        memcpy(items, l->items, l->n * sizeof(*items));
    items[l->n++] = arena_strndup(c->arena, item.p, item.n);
    l->items = items;
}

/* Sets one value from its text; `where` names the flag, variable or key in messages. */
static int set_value(struct config *c, const struct setting *s, struct str text, const char *where, struct error *err) {
    switch (s->kind) {
    case KIND_STRING:
        *(const char **)field(c, s) = arena_strndup(c->arena, text.p, text.n);
        return 0;
    case KIND_BOOL:
        if (str_eq(text, STR("true")) || str_eq(text, STR("1")))
            *(bool *)field(c, s) = true;
        else if (str_eq(text, STR("false")) || str_eq(text, STR("0")))
            *(bool *)field(c, s) = false;
        else
            return error_set(err, -EINVAL, "%s: \"%.*s\" is neither true nor false", where, STR_ARG(text));
        return 0;
    case KIND_INT:
        if (!str_to_i64(text, (int64_t *)field(c, s)))
            return error_set(err, -EINVAL, "%s: \"%.*s\" is not a whole number", where, STR_ARG(text));
        return 0;
    case KIND_LIST:
        for (struct str rest = text; rest.p;) {
            struct str item = str_trim(str_split(&rest, ','));
            if (item.n)
                list_add(c, (struct string_list *)field(c, s), item);
        }
        return 0;
    }
    return 0;
}

static const struct setting *find_setting(struct str name) {
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        if (str_eq_c(name, settings[i].name))
            return &settings[i];
    return NULL;
}

static const struct setting *find_short(char c) {
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        if (settings[i].short_name && settings[i].short_name == c)
            return &settings[i];
    return NULL;
}

/* --- config.yaml ------------------------------------------------------------------------------------------------ */

static int set_yaml(struct config *c, const struct setting *s, const struct json *v, const char *where,
                    struct error *err) {
    if (json_is(v, JSON_ARRAY)) {
        if (s->kind != KIND_LIST)
            return error_set(err, -EINVAL, "%s: takes one value, not a list", where);
        for (size_t i = 0; i < json_len(v); i++)
            if (json_is(json_item(v, i), JSON_STRING))
                list_add(c, (struct string_list *)field(c, s), json_as_str(json_item(v, i)));
            else
                return error_set(err, -EINVAL, "%s: item %zu is no string", where, i);
        return 0;
    }
    if (json_is(v, JSON_OBJECT) || json_is(v, JSON_NULL))
        return error_set(err, -EINVAL, "%s: needs a value, not %s", where, json_type_name(v));
    struct str text = json_is(v, JSON_STRING) ? json_as_str(v) : json_text(c->arena, v);
    return set_value(c, s, text, where, err);
}

static int load_yaml(struct config *c, const char *path, struct error *err) {
    struct buf text = {.limit = MiB(1)};
    int rc = file_read(path, &text, err);
    struct json *doc = rc < 0 ? NULL : yaml_parse(c->arena, buf_str(&text), NULL, err);
    buf_fini(&text);
    if (rc < 0)
        return rc;
    if (!doc)
        return error_wrap(err, "%s", path);
    if (json_is(doc, JSON_NULL))
        return 0;
    if (!json_is(doc, JSON_OBJECT))
        return error_set(err, -EINVAL, "%s: must be a map of settings", path);
    for (uint32_t i = 0; i < doc->n; i++) {
        struct str key = doc->members[i].key;
        bool append = str_ends(key, STR("+"));
        if (append)
            key.n--;
        const struct setting *s = find_setting(key);
        const char *where = arena_printf(c->arena, "%s: %.*s", path, STR_ARG(key));
        if (!s || s->offset == AT(config_file))
            return error_set(err, -EINVAL, "%s: unknown setting (`dory server --help` lists them)", where);
        if (s->kind == KIND_LIST && !append)
            *(struct string_list *)field(c, s) = (struct string_list){0};
        if ((rc = set_yaml(c, s, doc->members[i].value, where, err)) < 0)
            return rc;
    }
    return 0;
}

static int is_yaml(const struct dirent *e) {
    struct str n = str_c(e->d_name);
    return str_ends(n, STR(".yaml")) || str_ends(n, STR(".yml"));
}

static int load_files(struct config *c, bool named, struct error *err) {
    int rc = 0;
    if (named || file_exists(c->config_file))
        rc = load_yaml(c, c->config_file, err);
    const char *dir = arena_printf(c->arena, "%s.d", c->config_file);
    struct dirent **entries;
    int n = rc == 0 ? scandir(dir, &entries, is_yaml, alphasort) : -1;
    for (int i = 0; i < n; i++) {
        if (rc == 0)
            rc = load_yaml(c, arena_printf(c->arena, "%s/%s", dir, entries[i]->d_name), err);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return rc;
}

/* --- environment and command line ------------------------------------------------------------------------------- */

static int load_environment(struct config *c, struct error *err) {
    for (char **e = environ; *e; e++) {
        struct str name, value;
        if (strncmp(*e, "DORY_", 5) != 0 || !str_cut(str_c(*e), '=', &name, &value))
            continue;
        const struct setting *s = NULL;
        for (size_t i = 0; i < ARRAY_LEN(settings) && !s; i++)
            if (settings[i].env && str_eq_c(name, settings[i].env))
                s = &settings[i];
        if (!s)
            return error_set(err, -EINVAL, "%.*s: unknown environment variable (`dory server --help` lists them)",
                             STR_ARG(name));
        if (s->kind == KIND_LIST)
            *(struct string_list *)field(c, s) = (struct string_list){0};
        const char *where = arena_strndup(c->arena, name.p, name.n);
        int rc = set_value(c, s, value, where, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

struct argument {
    const struct setting *setting;
    struct str value;
    const char *shown;
};

/* Reads argv[*i] (and its value behind it). */
static int read_argument(struct config *c, int argc, char **argv, int *i, struct argument *out, struct error *err) {
    struct str arg = str_c(argv[*i]), value = STR_NULL;
    if (arg.n < 2 || arg.p[0] != '-')
        return error_set(err, -EINVAL, "unexpected argument \"%s\" (flags begin with --)", argv[*i]);
    struct str name = str_skip(arg, arg.p[1] == '-' ? 2 : 1);
    if (str_cut(name, '=', &name, &value) && !value.p)
        value = STR("");
    const struct setting *s = name.n == 1 ? find_short(name.p[0]) : find_setting(name);
    out->shown = arena_printf(c->arena, "%s%.*s", name.n == 1 ? "-" : "--", STR_ARG(name));
    if (!s)
        return error_set(err, -EINVAL, "%s: unknown flag (`dory server --help` lists them)", out->shown);
    if (!value.p && s->kind == KIND_BOOL)
        value = STR("true");
    if (!value.p) {
        if (*i + 1 >= argc)
            return error_set(err, -EINVAL, "%s: needs a value", out->shown);
        value = str_c(argv[++*i]);
    }
    out->setting = s;
    out->value = value;
    return 0;
}

static int load_arguments(struct config *c, int argc, char **argv, bool only_config, bool *named, struct error *err) {
    bool list_seen[ARRAY_LEN(settings)] = {false};
    for (int i = 0; i < argc; i++) {
        struct argument a = {0};
        int rc = read_argument(c, argc, argv, &i, &a, err);
        if (rc < 0)
            return rc;
        bool is_config = a.setting->offset == AT(config_file);
        if (is_config)
            *named = true;
        if (only_config != is_config)
            continue;
        size_t index = (size_t)(a.setting - settings);
        if (a.setting->kind == KIND_LIST && !list_seen[index]) {
            *(struct string_list *)field(c, a.setting) = (struct string_list){0};
            list_seen[index] = true;
        }
        if ((rc = set_value(c, a.setting, a.value, a.shown, err)) < 0)
            return rc;
    }
    return 0;
}

/* --- what is wrong with values ---------------------------------------------------------------------------------- */

static int check_port(int64_t port, const char *flag, struct error *err) {
    return port >= 1 && port <= 65535 ? 0 : error_set(err, -EINVAL, "--%s: %lld is no port", flag, (long long)port);
}

static int check_values(struct config *c, struct error *err) {
    int rc = check_port(c->https_listen_port, "https-listen-port", err);
    if (rc == 0)
        rc = check_port(c->ingress_http_port, "ingress-http-port", err);
    if (rc == 0)
        rc = check_port(c->ingress_https_port, "ingress-https-port", err);
    if (rc == 0 && (c->max_pods < 1 || c->max_pods > 1000))
        rc = error_set(err, -EINVAL, "--max-pods: %lld is not between 1 and 1000", (long long)c->max_pods);
    static const char *const components[] = {"dns", "ingress"};
    for (size_t i = 0; rc == 0 && i < c->disable.n; i++) {
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(components); k++)
            known |= strcmp(c->disable.items[i], components[k]) == 0;
        if (!known)
            rc = error_set(err, -EINVAL, "--disable: no component \"%s\" (valid: dns, ingress)", c->disable.items[i]);
    }
    if (rc == 0 && c->token && c->token_file)
        rc = error_set(err, -EINVAL, "--token and --token-file cannot both be given");
    return rc;
}

int config_load(struct config *c, int argc, char **argv, struct error *err) {
    *c = (struct config){.arena = arena_new(0, 0)};
    bool named = getenv("DORY_CONFIG_FILE") != NULL;
    int rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(settings) && rc == 0; i++)
        if (settings[i].otherwise)
            rc = set_value(c, &settings[i], str_c(settings[i].otherwise), settings[i].name, err);
    if (named)
        c->config_file = arena_strdup(c->arena, getenv("DORY_CONFIG_FILE"));
    if (rc == 0)
        rc = load_arguments(c, argc, argv, true, &named, err);
    if (rc == 0)
        rc = load_files(c, named, err);
    if (rc == 0)
        rc = load_environment(c, err);
    if (rc == 0)
        rc = load_arguments(c, argc, argv, false, &named, err);
    return rc == 0 ? check_values(c, err) : rc;
}

void config_fini(struct config *c) {
    arena_free(c->arena);
    c->arena = NULL;
}

bool config_disabled(const struct config *c, const char *component) {
    for (size_t i = 0; i < c->disable.n; i++)
        if (strcmp(c->disable.items[i], component) == 0)
            return true;
    return false;
}

void config_print_help(void) {
    printf("NAME:\n   dory server - Run management server\n\nUSAGE:\n   dory server [OPTIONS]\n\nOPTIONS:\n");
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const struct setting *s = &settings[i];
        char names[80];
        int n = snprintf(names, sizeof(names), "--%s", s->name);
        if (s->short_name)
            n += snprintf(names + n, sizeof(names) - (size_t)n, ", -%c", s->short_name);
        if (s->kind != KIND_BOOL)
            snprintf(names + n, sizeof(names) - (size_t)n, " value");
        printf("   %-34s (%s) %s", names, s->group, s->help);
        if (s->otherwise)
            printf(" (default: \"%s\")", s->otherwise);
        if (s->env)
            printf(" [$%s]", s->env);
        putchar('\n');
    }
    printf("   %-34s show help\n", "--help, -h");
}
