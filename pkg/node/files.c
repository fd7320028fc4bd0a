/* /etc/hosts, /etc/resolv.conf and /etc/hostname of a pod. */
#include <stdio.h>
#include <stdlib.h>

#include "node/node_priv.h"

#define NAMESERVERS_MAX 3
#define SEARCH_MAX 32

void hosts_make(const struct pod *p, struct buf *out) {
    const struct json *spec = json_get_c(object_json(p->object), "spec"), *aliases = json_get_c(spec, "hostAliases");
    if (json_bool_at(spec, "hostNetwork", false)) {
        struct buf host = {.limit = MiB(1)};
        if (file_read("/etc/hosts", &host, NULL) == 0)
            buf_put_str(out, buf_str(&host));
        buf_fini(&host);
    } else {
        struct str sub = json_str_at(spec, "subdomain"), name = pod_hostname(p);
        buf_puts(out,
                 "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
                 "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        if (sub.n)
            buf_printf(out, "%s\t%.*s.%.*s.%.*s.svc.%s\t%.*s\n", p->net.ips[0], STR_ARG(name), STR_ARG(sub),
                       STR_ARG(p->ns), p->node->o.cluster_domain, STR_ARG(name));
        else
            buf_printf(out, "%s\t%.*s\n", p->net.ips[0], STR_ARG(name));
    }
    if (json_len(aliases))
        buf_puts(out, "\n# Entries added by HostAliases.\n");
    for (size_t i = 0; i < json_len(aliases); i++) {
        const struct json *names = json_get_c(json_item(aliases, i), "hostnames");
        buf_put_str(out, json_str_at(json_item(aliases, i), "ip"));
        for (size_t k = 0; k < json_len(names); k++)
            buf_printf(out, "\t%.*s", STR_ARG(json_as_str(json_item(names, k))));
        buf_putc(out, '\n');
    }
}

/* --- resolv.conf ------------------------------------------------------------------------------------------------ */

struct resolver {
    struct str servers[NAMESERVERS_MAX], search[SEARCH_MAX], options[SEARCH_MAX];
    size_t servers_n, search_n, options_n;
};

static void add(struct str *list, size_t *n, size_t max, struct str s) {
    for (size_t i = 0; i < *n; i++)
        if (str_eq(list[i], s))
            return;
    if (s.n && *n < max)
        list[(*n)++] = s;
}

static void read_host(const char *text, struct resolver *r) {
    for (struct str rest = str_c(text); rest.p;) {
        struct str line = str_trim(str_split(&rest, '\n')), word;
        if (line.n == 0 || line.p[0] == '#' || line.p[0] == ';')
            continue;
        for (size_t i = 0; i < line.n; i++)
            if (line.p[i] == '\t')
                ((char *)(uintptr_t)line.p)[i] = ' '; /* text is our own copy */
        if (!str_cut(line, ' ', &word, &line))
            continue;
        bool server = str_eq(word, STR("nameserver")), search = str_eq(word, STR("search"));
        bool options = str_eq(word, STR("options"));
        if (search)
            r->search_n = 0;
        while (line.p) {
            struct str item = str_trim(str_split(&line, ' '));
            if (server)
                add(r->servers, &r->servers_n, NAMESERVERS_MAX, item);
            else if (search && !str_eq(item, STR(".")))
                add(r->search, &r->search_n, SEARCH_MAX, item);
            else if (options)
                add(r->options, &r->options_n, SEARCH_MAX, item);
        }
    }
}

static void add_list(const struct json *list, struct str *out, size_t *n, size_t max) {
    for (size_t i = 0; i < json_len(list); i++)
        add(out, n, max, json_as_str(json_item(list, i)));
}

void resolv_conf_make(const struct pod *p, const char *host_text, struct buf *out) {
    const struct json *spec = json_get_c(object_json(p->object), "spec"), *config = json_get_c(spec, "dnsConfig");
    struct str policy = json_str_at(spec, "dnsPolicy");
    struct arena *a = arena_new(KiB(4), 0);
    struct resolver host = {0}, r = {0};
    read_host(arena_strdup(a, host_text), &host);
    bool on_host = json_bool_at(spec, "hostNetwork", false);
    bool cluster = str_eq(policy, STR("ClusterFirstWithHostNet")) ||
                   (!on_host && (policy.n == 0 || str_eq(policy, STR("ClusterFirst"))));
    if (cluster) {
        const char *domain = p->node->o.cluster_domain;
        add(r.servers, &r.servers_n, NAMESERVERS_MAX, str_c(p->node->o.cluster_dns));
        add(r.search, &r.search_n, SEARCH_MAX, str_printf(a, "%.*s.svc.%s", STR_ARG(p->ns), domain));
        add(r.search, &r.search_n, SEARCH_MAX, str_printf(a, "svc.%s", domain));
        add(r.search, &r.search_n, SEARCH_MAX, str_c(domain));
        for (size_t i = 0; i < host.search_n; i++)
            add(r.search, &r.search_n, SEARCH_MAX, host.search[i]);
        add(r.options, &r.options_n, SEARCH_MAX, STR("ndots:5"));
    } else if (!str_eq(policy, STR("None"))) {
        r = host;
    }
    add_list(json_get_c(config, "nameservers"), r.servers, &r.servers_n, NAMESERVERS_MAX);
    add_list(json_get_c(config, "searches"), r.search, &r.search_n, SEARCH_MAX);
    const struct json *options = json_get_c(config, "options");
    for (size_t i = 0; i < json_len(options); i++) {
        struct str name = json_str_at(json_item(options, i), "name"),
                   value = json_str_at(json_item(options, i), "value");
        for (size_t k = 0; k < r.options_n; k++) { /* one that is set again is replaced */
            struct str have = r.options[k];
            str_cut(have, ':', &have, NULL);
            if (str_eq(have, name))
                r.options[k] = r.options[--r.options_n];
        }
        add(r.options, &r.options_n, SEARCH_MAX,
            value.n ? str_printf(a, "%.*s:%.*s", STR_ARG(name), STR_ARG(value)) : name);
    }
    for (size_t i = 0; i < r.search_n; i++)
        buf_printf(out, "%s%.*s", i ? " " : "search ", STR_ARG(r.search[i]));
    if (r.search_n)
        buf_putc(out, '\n');
    for (size_t i = 0; i < r.servers_n; i++)
        buf_printf(out, "nameserver %.*s\n", STR_ARG(r.servers[i]));
    for (size_t i = 0; i < r.options_n; i++)
        buf_printf(out, "%s%.*s", i ? " " : "options ", STR_ARG(r.options[i]));
    if (r.options_n)
        buf_putc(out, '\n');
    arena_free(a);
}

static int write_file(const char *dir, const char *name, struct buf *text, struct error *err) {
    cleanup_free char *path = xasprintf("%s/%s", dir, name);
    return file_write_replace(path, buf_str(text), 0644, err);
}

int pod_files_write(struct pod *p, struct error *err) {
    struct arena *a = arena_new(KiB(1), 0);
    struct buf text = BUF_INIT, host = {.limit = KiB(64)};
    const char *dir = pod_dir(a, p);
    int rc = dir_make_all(dir, 0750, err);
    hosts_make(p, &text);
    if (rc == 0)
        rc = write_file(dir, "etc-hosts", &text, err);
    buf_reset(&text);
    file_read(p->node->o.resolv_conf, &host, NULL); /* a host without one: the pod gets the cluster's part */
    resolv_conf_make(p, host.p ? host.p : "", &text);
    if (rc == 0)
        rc = write_file(dir, "resolv.conf", &text, err);
    buf_reset(&text);
    buf_printf(&text, "%.*s\n", STR_ARG(pod_hostname(p)));
    if (rc == 0)
        rc = write_file(dir, "hostname", &text, err);
    buf_fini(&text);
    buf_fini(&host);
    arena_free(a);
    return rc;
}
