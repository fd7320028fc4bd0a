/*
 * net_bench ADDRESS LOOPS SECONDS [plain]: an HTTPS (or plain) server that answers every request with 2 KiB of JSON, for
 * load generators: wrk -t2 -c64 https://ADDRESS/. At its end it prints its memory (PSS) at the start and with what the
 * generator left open.
 */
#include <stdio.h>
#include <stdlib.h>

#include "net/net.h"

static struct blob *body;

static void handler(void *arg, struct http_exchange *x) {
    const struct http_header h = {STR("Content-Type"), STR("application/json")};
    http_reply(x, 200, &h, 1, blob_ref(body));
    http_finish(x);
}

static long pss_kib(void) {
    cleanup_buf struct buf b = BUF_INIT;
    long kib = -1;
    if (file_read("/proc/self/smaps_rollup", &b, NULL) == 0 && b.p) {
        const char *at = strstr(b.p, "\nPss:");
        kib = at ? strtol(at + 5, NULL, 10) : -1;
    }
    return kib;
}

static void report(void *arg) {
    printf("PSS at the start %ld KiB, now %ld KiB\n", *(long *)arg, pss_kib());
    fflush(stdout);
    exit(0);
}

static struct tls_config *make_tls(void) {
    static const char *const ips[] = {"127.0.0.1", NULL}, *const alpn[] = {"http/1.1", NULL};
    struct pki_cert_request r = {.common_name = "bench",
                                 .ip_addresses = ips,
                                 .server_auth = true,
                                 .not_before_s = time_now_s() - 60,
                                 .not_after_s = time_now_s() + 86400};
    cleanup_free char *key = NULL, *cert = NULL;
    struct error err = {0};
    if (pki_key_new(&key, &err) || pki_cert_new(&r, key, NULL, NULL, &cert, &err))
        fatal("%s", err.msg);
    const struct tls_server_options o = {.cert_pem = cert, .key_pem = key, .client_ca_pem = cert, .alpn = alpn};
    struct tls_config *c = tls_server_config(&o, &err);
    if (!c)
        fatal("%s", err.msg);
    return c;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: net_bench ADDRESS LOOPS SECONDS [plain]\n");
        return 2;
    }
    struct loop *loops[8];
    size_t n = MIN((size_t)strtoul(argv[2], NULL, 10), ARRAY_LEN(loops));
    struct error err = {0};
    pki_init();
    char *text = xmalloc(2048);
    memset(text, 'x', 2048);
    body = blob_take(text, 2048);
    for (size_t i = 0; i < n; i++)
        loops[i] = loop_new("io");
    struct tls_config *tls = argc > 4 ? NULL : make_tls();
    const struct http_server_options o = {.loops = loops, .loops_n = n, .tls = tls, .handler = handler};
    struct http_server *server;
    if (http_server_start(&o, argv[1], &server, &err))
        fatal("%s", err.msg);
    long at_start = pss_kib();
    struct timer end;
    timer_init(&end, loops[0], report, &at_start);
    timer_set(&end, strtol(argv[3], NULL, 10) * 1000, 0);
    for (size_t i = 1; i < n; i++)
        loop_start(loops[i], NULL);
    loop_run(loops[0]);
    return 0;
}
