#include "certs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/codec.h"
#include "net/pki.h"

#define DAY_S 86400
#define CA_LIFE_S (3650ll * DAY_S)
#define LEAF_LIFE_S (365ll * DAY_S)
#define SKEW_S 3600 /* clocks of a cluster may differ by so much */
/* No certificate begins before this version existed: a board without a clock starts in 1970. */
#define CLOCK_FLOOR_S 1793491200ll /* 2026-11-01 */

struct dirs {
    const char *tls;
    bool wrote; /* something must reach the disk before it is used */
};

static int64_t clock_s(void) {
    return MAX(time_now_s(), CLOCK_FLOOR_S);
}

static char *read_pem(const struct dirs *d, const char *name) {
    cleanup_free char *path = xasprintf("%s/%s", d->tls, name);
    struct buf b = {.limit = KiB(256)};
    if (file_read(path, &b, NULL) < 0 || b.n == 0) {
        buf_fini(&b);
        return NULL;
    }
    return buf_steal(&b, NULL);
}

static int write_pem(struct dirs *d, const char *name, const char *text, mode_t mode, struct error *err) {
    cleanup_free char *path = xasprintf("%s/%s", d->tls, name);
    d->wrote = true;
    return file_write_replace(path, str_c(text), mode, err);
}

static int ensure_key(struct dirs *d, const char *name, char **key, struct error *err) {
    *key = read_pem(d, name);
    if (*key)
        return 0;
    int rc = pki_key_new(key, err);
    return rc < 0 ? rc : write_pem(d, name, *key, 0600, err);
}

/* An authority is never replaced: what it signed would be worthless. A half-made one (only its key) is finished. */
static int ensure_ca(struct dirs *d, const char *name, char **cert, char **key, struct error *err) {
    char crt[64], k[64];
    snprintf(crt, sizeof(crt), "%s.crt", name);
    snprintf(k, sizeof(k), "%s.key", name);
    *cert = read_pem(d, crt);
    if (*cert && !(*key = read_pem(d, k)))
        return error_set(err, -ENOENT, "%s/%s: the authority's key is missing; restore it from a backup", d->tls, k);
    if (*cert) {
        struct pki_cert_info info;
        return pki_cert_info(*cert, &info, err) < 0 ? error_wrap(err, "%s/%s", d->tls, crt) : 0;
    }
    int rc = ensure_key(d, k, key, err);
    if (rc < 0)
        return rc;
    char cn[96];
    snprintf(cn, sizeof(cn), "dory-%s@%lld", name, (long long)clock_s());
    struct pki_cert_request r = {.common_name = cn,
                                 .is_ca = true,
                                 .not_before_s = clock_s() - SKEW_S,
                                 .not_after_s = clock_s() + CA_LIFE_S};
    rc = pki_cert_new(&r, *key, NULL, NULL, cert, err);
    return rc < 0 ? rc : write_pem(d, crt, *cert, 0644, err);
}

struct leaf {
    const char *name;
    struct pki_cert_request request;
    const char *ca, *ca_key;
    char **cert, **key;
};

static bool leaf_is_good(const struct leaf *l) {
    struct pki_cert_info info;
    if (!*l->cert || !*l->key || pki_cert_info(*l->cert, &info, NULL) < 0)
        return false;
    if (info.not_after_s - clock_s() < LEAF_LIFE_S / 3)
        return false;
    return pki_cert_check(*l->cert, *l->key, l->ca, l->request.dns_names, l->request.ip_addresses, NULL) == 0;
}

static int ensure_leaf(struct dirs *d, struct leaf *l, struct error *err) {
    char crt[64], k[64];
    snprintf(crt, sizeof(crt), "%s.crt", l->name);
    snprintf(k, sizeof(k), "%s.key", l->name);
    *l->cert = read_pem(d, crt);
    *l->key = read_pem(d, k);
    if (leaf_is_good(l))
        return 0;
    free(*l->cert);
    free(*l->key);
    *l->cert = *l->key = NULL;
    l->request.not_before_s = clock_s() - SKEW_S;
    l->request.not_after_s = clock_s() + LEAF_LIFE_S;
    int rc = pki_key_new(l->key, err);
    if (rc == 0)
        rc = pki_cert_new(&l->request, *l->key, l->ca, l->ca_key, l->cert, err);
    if (rc == 0)
        rc = write_pem(d, k, *l->key, 0600, err);
    if (rc == 0)
        rc = write_pem(d, crt, *l->cert, 0644, err);
    return rc < 0 ? error_wrap(err, "certificate %s", l->name) : 0;
}

/* --- token ------------------------------------------------------------------------------------------------------ */

#define SECRET_MIN 8

static int read_secret(const struct config *cfg, struct buf *out, struct error *err) {
    if (cfg->token_file) {
        int rc = file_read(cfg->token_file, out, err);
        if (rc < 0)
            return error_wrap(err, "--token-file");
    } else if (cfg->token) {
        buf_puts(out, cfg->token);
    }
    return 0;
}

static int ensure_token(const struct config *cfg, const char *server_dir, struct certs *c, struct error *err) {
    struct buf given = {.limit = KiB(4)};
    cleanup_free char *path = xasprintf("%s/token", server_dir);
    char hash[65], secret[33];
    int rc = read_secret(cfg, &given, err);
    if (rc == 0)
        rc = pki_cert_hash(c->server_ca, hash, err);
    struct str s = str_trim(buf_str(&given));
    ptrdiff_t tail = str_find(s, STR("::server:"));
    if (tail >= 0)
        s = str_skip(s, (size_t)tail + 9);
    if (rc == 0 && given.n && s.n < SECRET_MIN)
        rc = error_set(err, -EINVAL, "token: a secret of fewer than %d characters is too easy to guess", SECRET_MIN);
    struct buf old = {.limit = KiB(4)};
    if (rc == 0 && given.n == 0 && file_read(path, &old, NULL) == 0 && old.n) {
        struct str kept = str_trim(buf_str(&old));
        c->token = xstrndup(kept.p, kept.n);
    } else if (rc == 0) {
        if (s.n == 0) {
            rand_hex(secret, 32);
            s = str_c(secret);
        }
        c->token = xasprintf("K10%s::server:%.*s", hash, STR_ARG(s));
        cleanup_free char *line = xasprintf("%s\n", c->token);
        rc = file_write_replace(path, str_c(line), 0600, err);
    }
    buf_fini(&old);
    buf_fini(&given);
    return rc;
}

/* --- all of it -------------------------------------------------------------------------------------------------- */

/* What was written is on the disk before anybody relies on it: one sync for all files. */
static int sync_dir(const char *dir, struct error *err) {
    cleanup_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || syncfs(fd) < 0 ? error_sys(err, -errno, "%s", dir) : 0;
}

int certs_ensure(const struct config *cfg, const char *const *dns_names, const char *const *addresses,
                 struct certs *out, struct error *err) {
    static const char *const masters[] = {"system:masters", NULL};
    cleanup_free char *server_dir = xasprintf("%s/server", cfg->data_dir);
    cleanup_free char *tls = xasprintf("%s/tls", server_dir);
    struct dirs d = {.tls = tls};
    *out = (struct certs){0};
    int rc = dir_make_all(tls, 0700, err);
    if (rc == 0 && (chmod(server_dir, 0700) < 0 || chmod(tls, 0700) < 0))
        rc = error_sys(err, -errno, "%s", tls);
    if (rc == 0)
        rc = ensure_ca(&d, "server-ca", &out->server_ca, &out->server_ca_key, err);
    if (rc == 0)
        rc = ensure_ca(&d, "client-ca", &out->client_ca, &out->client_ca_key, err);
    if (rc == 0)
        rc = ensure_key(&d, "service.key", &out->service_key, err);
    struct leaf leaves[] = {
        {.name = "serving-kube-apiserver",
         .request =
             {.common_name = "kube-apiserver", .dns_names = dns_names, .ip_addresses = addresses, .server_auth = true},
         .ca = out->server_ca,
         .ca_key = out->server_ca_key,
         .cert = &out->serving,
         .key = &out->serving_key},
        {.name = "client-admin",
         .request = {.common_name = "system:admin", .organizations = masters, .client_auth = true},
         .ca = out->client_ca,
         .ca_key = out->client_ca_key,
         .cert = &out->admin,
         .key = &out->admin_key},
    };
    for (size_t i = 0; i < ARRAY_LEN(leaves) && rc == 0; i++)
        rc = ensure_leaf(&d, &leaves[i], err);
    if (rc == 0)
        rc = ensure_token(cfg, server_dir, out, err);
    if (rc == 0 && d.wrote)
        rc = sync_dir(tls, err);
    if (rc < 0)
        certs_fini(out);
    return rc;
}

void certs_fini(struct certs *c) {
    char *const all[] = {c->server_ca,   c->server_ca_key, c->client_ca, c->client_ca_key, c->serving,
                         c->serving_key, c->admin,         c->admin_key, c->service_key,   c->token};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        free(all[i]);
    *c = (struct certs){0};
}

int kubeconfig_write(const struct config *cfg, const struct certs *c, struct error *err) {
    char *end;
    long mode = strtol(cfg->write_kubeconfig_mode, &end, 8);
    if (*end || mode < 0 || mode > 0777)
        return error_set(err, -EINVAL, "--write-kubeconfig-mode: \"%s\" is no file mode", cfg->write_kubeconfig_mode);
    struct buf text = BUF_INIT;
    buf_puts(&text, "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: ");
    base64_encode(&text, c->server_ca, strlen(c->server_ca));
    buf_printf(&text, "\n    server: https://127.0.0.1:%lld\n  name: default\n", (long long)cfg->https_listen_port);
    buf_puts(&text, "contexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n"
                    "current-context: default\nkind: Config\npreferences: {}\nusers:\n- name: default\n  user:\n"
                    "    client-certificate-data: ");
    base64_encode(&text, c->admin, strlen(c->admin));
    buf_puts(&text, "\n    client-key-data: ");
    base64_encode(&text, c->admin_key, strlen(c->admin_key));
    buf_putc(&text, '\n');
    cleanup_free char *dir = xstrdup(cfg->write_kubeconfig);
    char *slash = strrchr(dir, '/');
    int rc = 0;
    if (slash && slash != dir) {
        *slash = 0;
        rc = dir_make_all(dir, 0755, err);
    }
    /* An unchanged file is left alone: a restart writes nothing. */
    struct buf old = {.limit = KiB(256)};
    if (rc == 0 && (file_read(cfg->write_kubeconfig, &old, NULL) < 0 || !str_eq(buf_str(&old), buf_str(&text))))
        rc = file_write_replace(cfg->write_kubeconfig, buf_str(&text), (mode_t)mode, err);
    buf_fini(&old);
    buf_fini(&text);
    return rc;
}
