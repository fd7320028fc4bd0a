/* SHA-256 blocks by the SHA extensions of x86 processors: three to five times as fast as portable code. Private to hash.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool sha256_x86_usable(void); /* false on other machines; the blocks function is then never called */
void sha256_x86_blocks(uint32_t state[8], const unsigned char *data, size_t blocks);
