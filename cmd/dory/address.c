#include "address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <unistd.h>

/* Name of the interface of the default route, from /proc/net/route; false without one. */
static bool default_interface(char out[IF_NAMESIZE]) {
    struct buf text = {.limit = MiB(1)};
    bool found = false;
    if (file_read("/proc/net/route", &text, NULL) == 0)
        for (struct str rest = buf_str(&text); rest.p && !found;) {
            struct str line = str_split(&rest, '\n');
            struct str name, tail;
            if (str_cut(line, '\t', &name, &tail) && str_starts(tail, STR("00000000\t")) && name.n < IF_NAMESIZE) {
                memcpy(out, name.p, name.n);
                out[name.n] = 0;
                found = true;
            }
        }
    buf_fini(&text);
    return found;
}

void address_of_node(char out[ADDRESS_MAX]) {
    char wanted[IF_NAMESIZE] = "";
    bool have_default = default_interface(wanted);
    struct ifaddrs *all = NULL;
    bool found = false;
    snprintf(out, ADDRESS_MAX, "127.0.0.1");
    if (getifaddrs(&all) < 0)
        return;
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP) ||
            (i->ifa_flags & IFF_LOOPBACK))
            continue;
        bool is_default = have_default && strcmp(i->ifa_name, wanted) == 0;
        /* Our own bridge of an earlier run is no way to the outside. */
        if ((found && !is_default) || str_starts(str_c(i->ifa_name), STR("dory")))
            continue;
        const struct sockaddr_in *in = (const void *)i->ifa_addr;
        inet_ntop(AF_INET, &in->sin_addr, out, ADDRESS_MAX);
        found = true;
        if (is_default)
            break;
    }
    freeifaddrs(all);
}

int node_name_of_host(char out[254], struct error *err) {
    if (gethostname(out, 254) < 0)
        return error_sys(err, -errno, "gethostname");
    out[253] = 0;
    for (char *p = out; *p; p++) {
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + 32);
        bool ok =
            (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || ((*p == '-' || *p == '.') && p != out && p[1] != 0);
        if (!ok)
            return error_set(err, -EINVAL, "the host name \"%s\" is no valid node name: give one with --node-name",
                             out);
    }
    return out[0] ? 0 : error_set(err, -EINVAL, "this host has no name: give one with --node-name");
}

static int parse_cidr(const char *cidr, uint32_t *net, int *prefix, struct error *err) {
    struct str base, len;
    char text[ADDRESS_MAX];
    int64_t bits;
    struct in_addr in;
    if (!str_cut(str_c(cidr), '/', &base, &len) || base.n >= sizeof(text) || !str_to_i64(len, &bits) || bits < 0 ||
        bits > 32)
        return error_set(err, -EINVAL, "\"%s\" is no IPv4 network (address/bits)", cidr);
    memcpy(text, base.p, base.n);
    text[base.n] = 0;
    if (inet_pton(AF_INET, text, &in) != 1)
        return error_set(err, -EINVAL, "\"%s\" is no IPv4 network (address/bits)", cidr);
    *prefix = (int)bits;
    *net = ntohl(in.s_addr) & (bits ? ~0u << (32 - bits) : 0);
    return 0;
}

int cidr_address(const char *cidr, uint32_t n, char out[ADDRESS_MAX], struct error *err) {
    uint32_t net;
    int prefix;
    int rc = parse_cidr(cidr, &net, &prefix, err);
    if (rc < 0)
        return rc;
    if (prefix > 30 || n >= (1u << (32 - prefix)) - 1)
        return error_set(err, -EINVAL, "\"%s\" is too small a network", cidr);
    struct in_addr in = {htonl(net + n)};
    inet_ntop(AF_INET, &in, out, ADDRESS_MAX);
    return 0;
}

bool cidr_contains(const char *cidr, const char *address) {
    uint32_t net;
    int prefix;
    struct in_addr in;
    if (parse_cidr(cidr, &net, &prefix, NULL) < 0 || inet_pton(AF_INET, address, &in) != 1)
        return false;
    return (ntohl(in.s_addr) & (prefix ? ~0u << (32 - prefix) : 0)) == net;
}
