/* Against a real registry (Debian's docker-registry) with images pushed and archives made by skopeo. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "fake_image.h"
#include "store_env.h"

static char base[64];
static pid_t registry_pid, tls_registry_pid;
static int port, tls_port;

static const char *in_base(const char *name) {
    static char path[8][160];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof(path[0]), "%s/%s", base, name);
    return p;
}

static void put(const char *name, struct str text) {
    assert_int_equal(file_write_replace(in_base(name), text, 0600, NULL), 0);
}

static pid_t start(const char *const *argv) {
    pid_t pid = fork();
    if (pid == 0) {
        int log = open(in_base("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(log, 1);
        dup2(log, 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return pid;
}

static int run(const char *const *argv) {
    int status = -1;
    pid_t pid = start(argv);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define RUN(...)                                                            \
    do {                                                                    \
        const char *const argv_[] = {__VA_ARGS__, NULL};                    \
        if (run(argv_) != 0)                                                \
            fail_msg("%s %s failed: see %s/log", argv_[0], argv_[1], base); \
    } while (0)

static int free_port(void) {
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    getsockname(fd, (struct sockaddr *)&sa, &n);
    close(fd);
    return ntohs(sa.sin_port);
}

static bool answers(int at) {
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)at),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
    close(fd);
    return ok;
}

static pid_t start_registry(const char *config, int at, const char *tls) {
    char text[1024];
    snprintf(text, sizeof(text),
             "version: 0.1\nlog: { level: error }\nstorage: { filesystem: { rootdirectory: %s/data } }\n"
             "http: { addr: '127.0.0.1:%d'%s }\n",
             base, at, tls);
    put(config, str_c(text));
    const char *const argv[] = {"docker-registry", "serve", in_base(config), NULL};
    pid_t pid = start(argv);
    for (int i = 0; i < 500 && !answers(at); i++)
        usleep(20000);
    return pid;
}

static void make_certificates(void) {
    struct error err;
    char *ca_key, *ca, *key, *cert;
    const char *const ips[] = {"127.0.0.1", NULL};
    int64_t now = time_now_s();
    struct pki_cert_request r = {.common_name = "test-ca",
                                 .is_ca = true,
                                 .not_before_s = now - 3600,
                                 .not_after_s = now + 86400};
    REQUIRE(pki_key_new(&ca_key, &err) == 0 && pki_cert_new(&r, ca_key, NULL, NULL, &ca, &err) == 0);
    r.common_name = "registry";
    r.is_ca = false;
    r.server_auth = true;
    r.ip_addresses = ips;
    REQUIRE(pki_key_new(&key, &err) == 0 && pki_cert_new(&r, key, ca, ca_key, &cert, &err) == 0);
    put("ca.pem", str_c(ca));
    put("key.pem", str_c(key));
    put("cert.pem", str_c(cert));
    free(ca_key);
    free(ca);
    free(key);
    free(cert);
}

static void layout_blob(const struct fake_blob *b) {
    char name[160];
    snprintf(name, sizeof(name), "oci/blobs/sha256/%s", b->digest + 7);
    put(name, buf_str(&b->bytes));
}

/* An OCI layout on disk, and from it the same image in the registry in several forms. */
static void push_images(void) {
    struct fake_image img;
    cleanup_buf struct buf index = BUF_INIT;
    char to[5][200];
    fake_image_make(&img, false);
    dir_make_all(in_base("oci/blobs/sha256"), 0755, NULL);
    for (size_t i = 0; i < img.n; i++)
        layout_blob(&img.layers[i]);
    layout_blob(&img.config);
    layout_blob(&img.manifest);
    put("oci/oci-layout", STR("{\"imageLayoutVersion\":\"1.0.0\"}"));
    buf_printf(
        &index,
        "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":"
        "\"%s\",\"size\":%zu,\"annotations\":{\"org.opencontainers.image.ref.name\":\"1.0\"}}]}",
        img.manifest.digest, img.manifest.bytes.n);
    put("oci/index.json", buf_str(&index));
    snprintf(to[0], sizeof(to[0]), "docker://127.0.0.1:%d/library/app:oci", port);
    snprintf(to[1], sizeof(to[1]), "docker://127.0.0.1:%d/library/app:v2s2", port);
    snprintf(to[2], sizeof(to[2]), "docker-archive:%s/app-docker.tar:docker.io/library/app:docker-archive", base);
    snprintf(to[3], sizeof(to[3]), "oci-archive:%s/app-oci.tar:docker.io/library/app:oci-archive", base);
    snprintf(to[4], sizeof(to[4]), "oci:%s/oci:1.0", base);
    RUN("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", to[4], to[0]);
    RUN("skopeo", "--insecure-policy", "copy", to[4], to[2]);
    RUN("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--format", "v2s2", to[4], to[1]);
    RUN("skopeo", "--insecure-policy", "copy", to[4], to[3]);
    RUN("gzip", "-k", in_base("app-docker.tar"));
    RUN("zstd", "-q", in_base("app-oci.tar"));
    fake_image_free(&img);
}

static int up(void **state) {
    char tls[400];
    snprintf(base, sizeof(base), "/var/tmp/dory-test-registry-XXXXXX");
    if (!mkdtemp(base))
        return -1;
    port = free_port();
    registry_pid = start_registry("registry.yml", port, "");
    push_images();
    make_certificates();
    tls_port = free_port();
    snprintf(tls, sizeof(tls), ", tls: { certificate: %s/cert.pem, key: %s/key.pem }", base, base);
    tls_registry_pid = start_registry("registry-tls.yml", tls_port, tls);
    return 0;
}

static int down(void **state) {
    const pid_t pids[] = {registry_pid, tls_registry_pid};
    for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
        if (pids[i] > 0) {
            kill(pids[i], SIGKILL);
            waitpid(pids[i], NULL, 0);
        }
    }
    return dir_remove_all(base, NULL);
}

static void assert_image(const struct image *img) {
    char path[512];
    struct stat st;
    assert_non_null(img);
    assert_non_null(img->layers[0]);
    assert_non_null(img->layers[1]);
    assert_null(img->layers[2]);
    snprintf(path, sizeof(path), "%s/etc/two", img->layers[1]);
    assert_int_equal(lstat(path, &st), 0);
    snprintf(path, sizeof(path), "%s/etc/one", img->layers[1]);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    assert_string_equal(json_as_str(json_item(json_get_c(img->config, "Entrypoint"), 0)).p, "/bin/sh");
}

static void pulls_what_skopeo_pushed(void **state) {
    struct store_env e;
    char yaml[300];
    snprintf(yaml, sizeof(yaml), "mirrors: {docker.io: {endpoint: ['http://127.0.0.1:%d']}}", port);
    env_init(&e, yaml);
    e.o.idle_timeout_ms = 5000;
    static const char *const names[] = {"app:oci", "app:v2s2", "docker.io/library/app:oci"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct env_pull p = env_pull(&e, names[i]);
        if (!p.img)
            fail_msg("%s", p.err.msg);
        assert_image(p.img);
        env_unref(&e, p.img);
    }
    char direct[100];
    snprintf(direct, sizeof(direct), "127.0.0.1:%d/library/app:oci", port);
    struct env_pull p = env_pull(&e, direct);
    assert_image(p.img);
    assert_int_equal(p.img->repo_tags_n, 3); /* schema 2 and OCI have one configuration: one image */
    env_unref(&e, p.img);
    snprintf(direct, sizeof(direct), "127.0.0.1:%d/library/app:nope", port);
    p = env_pull(&e, direct);
    assert_int_equal(p.code, -ENOENT);
    assert_non_null(strstr(p.err.msg, ": not found"));
    env_fini(&e);
}

static void tls_is_verified(void **state) {
    struct store_env e;
    char yaml[500], name[100];
    snprintf(name, sizeof(name), "127.0.0.1:%d/library/app:oci", tls_port);
    const char *const settings[] = {"ca_file: %s/ca.pem", "insecure_skip_verify: true", "ca_file: %s/key.pem",
                                    "ca_file: %s/missing.pem", "insecure_skip_verify: false"};
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        char tls[200];
        const char *percent = strstr(settings[i], "%s");
        snprintf(tls, sizeof(tls), "%.*s%s%s", (int)(percent ? percent - settings[i] : (ptrdiff_t)strlen(settings[i])),
                 settings[i], percent ? base : "", percent ? percent + 2 : "");
        snprintf(yaml, sizeof(yaml),
                 "mirrors: {tls.example: {endpoint: ['https://127.0.0.1:%d']}}\n"
                 "configs:\n  '127.0.0.1:%d':\n    tls:\n      %s\n",
                 tls_port, tls_port, tls);
        env_init(&e, yaml);
        e.o.idle_timeout_ms = 5000;
        struct env_pull p = env_pull(&e, "tls.example/library/app:oci");
        if (i < 2) {
            if (!p.img)
                fail_msg("%s", p.err.msg);
            assert_image(p.img);
        } else {
            assert_null(p.img);
            assert_non_null(strstr(p.err.msg, i == 3 ? "missing.pem" : "127.0.0.1"));
        }
        env_unref(&e, p.img);
        env_fini(&e);
    }
}

static void imports_what_skopeo_wrote(void **state) {
    static const char *const files[][2] = {{"app-docker.tar", "app:docker-archive"},
                                           {"app-docker.tar.gz", "app:docker-archive"},
                                           {"app-oci.tar", "app:oci-archive"},
                                           {"app-oci.tar.zst", "app:oci-archive"}};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct store_env e;
        env_init(&e, "");
        struct env_import im = env_import(&e, in_base(files[i][0]));
        if (im.images != 1)
            fail_msg("%s: %s", files[i][0], im.err.msg);
        struct image *img = env_find(&e, files[i][1]);
        assert_image(img);
        env_unref(&e, img);
        env_fini(&e);
    }
}

/* This program run as "--pull ROOT YAML": pulls and waits to be killed. */
static int pull_and_wait(const char *root, const char *yaml) {
    struct store_env e;
    env_init_at(&e, root, yaml);
    env_pull(&e, "app:oci");
    pause();
    return 0;
}

/* Killed at any moment, the store opens again, what it lists is whole, and the next pull succeeds. */
static void a_kill_leaves_nothing_half_done(void **state) {
    char root[128], yaml[300];
    snprintf(root, sizeof(root), "%s/store", base);
    snprintf(yaml, sizeof(yaml), "mirrors: {docker.io: {endpoint: ['http://127.0.0.1:%d']}}", port);
    int whole = 0;
    for (int round = 0; round < 24; round++) {
        struct store_env e;
        const char *const argv[] = {"/proc/self/exe", "--pull", root, yaml, NULL};
        pid_t pid = start(argv);
        usleep((useconds_t)(10000 + round * 6000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        env_init_at(&e, root, yaml);
        struct image *img = env_find(&e, "app:oci");
        if (img)
            assert_image(img);
        whole += img != NULL;
        env_unref(&e, img);
        struct env_pull p = env_pull(&e, "app:oci");
        assert_image(p.img);
        env_unref(&e, p.img);
        env_remove(&e, "app:oci");
        env_fini(&e);
    }
    print_message("%d of 24 were complete\n", whole);
}

int main(int argc, char **argv) {
    static const char *const programs[] = {"docker-registry", "skopeo", "zstd", "gzip"};
    if (geteuid() != 0) {
        puts("unpacking layers needs root");
        return 77;
    }
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        char path[64];
        snprintf(path, sizeof(path), "/usr/bin/%s", programs[i]);
        if (access(path, X_OK) < 0) {
            printf("%s is not installed\n", programs[i]);
            return 77;
        }
    }
    pki_init();
    if (argc == 4 && strcmp(argv[1], "--pull") == 0)
        return pull_and_wait(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pulls_what_skopeo_pushed),
        cmocka_unit_test(tls_is_verified),
        cmocka_unit_test(imports_what_skopeo_wrote),
        cmocka_unit_test(a_kill_leaves_nothing_half_done),
    };
    return cmocka_run_group_tests(tests, up, down);
}
