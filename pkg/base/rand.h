/* Randomness from the kernel. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define UUID_LEN 36

void rand_bytes(void *out, size_t n);
uint64_t rand_u64(void);
uint64_t rand_below(uint64_t bound);         /* uniform in [0, bound) */
void rand_uuid(char out[UUID_LEN + 1]);      /* version 4, lower case */
void rand_hex(char *out, size_t hex_digits); /* NUL-terminated: out holds hex_digits + 1 */
/* n characters of Kubernetes' safe alphabet (no vowels, no look-alikes), NUL-terminated. */
void rand_suffix(char *out, size_t n);
