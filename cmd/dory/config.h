/*
 * Settings of `dory server`: one table names each of them once, and gives it its flag, environment variable, key in
 * config.yaml, default and help line. The command line wins over the environment, which wins over the file.
 * Unknown flags, keys and DORY_* variables are refused by name.
 */
#pragma once

#include "base/base.h"

struct string_list {
    const char **items; /* NULL-terminated when not NULL */
    size_t n;
};

struct config {
    const char *config_file;
    bool debug;
    const char *data_dir;
    const char *run_dir;
    const char *token, *token_file;
    const char *bind_address;
    int64_t https_listen_port;
    const char *advertise_address;
    struct string_list tls_san;
    const char *cluster_cidr, *service_cidr, *service_node_port_range, *cluster_dns, *cluster_domain;
    const char *write_kubeconfig, *write_kubeconfig_mode;
    const char *node_name, *node_ip;
    struct string_list node_label, node_taint;
    const char *resolv_conf, *private_registry;
    int64_t max_pods;
    struct string_list disable;
    int64_t ingress_http_port, ingress_https_port;
    bool disable_agent;
    struct arena *arena; /* owns the strings */
};

/* Fills c from defaults, the config files, DORY_* and argv (without the program and command names). */
int config_load(struct config *c, int argc, char **argv, struct error *err);
void config_fini(struct config *c);
void config_print_help(void);
bool config_disabled(const struct config *c, const char *component);
