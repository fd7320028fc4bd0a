/* The machine's own name and address. */
#pragma once

#include "base/base.h"

#define ADDRESS_MAX 46

/* The IPv4 address other machines would use: of the default route's interface, else of any interface that is up, else
 * 127.0.0.1 (a machine without a network is a cluster of one). */
void address_of_node(char out[ADDRESS_MAX]);
/* The host name in lower case as a node name; -EINVAL when it is no DNS subdomain. */
int node_name_of_host(char out[254], struct error *err);
/* The n-th (from 1) address of an IPv4 network "10.43.0.0/16"; -EINVAL names what is wrong with it. */
int cidr_address(const char *cidr, uint32_t n, char out[ADDRESS_MAX], struct error *err);
/* Whether address lies in cidr; both must be valid. */
bool cidr_contains(const char *cidr, const char *address);
