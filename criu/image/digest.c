/* SPDX-License-Identifier: GPL-2.0-only */
#include <string.h>

#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> /* AVX2 or AVX-512 at run time: three times as fast as SSE2 */
#endif

#include "image/image.h"
#include "macro.h"

static struct image_digest hash(const void *data, size_t len) {
        XXH128_canonical_t canonical;
        struct image_digest digest;

        XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, len));
        memcpy(digest.byte, canonical.digest, sizeof(digest.byte));
        return digest;
}

struct image_digest image_chunk_digest(const void *data, size_t len) {
        ckpt_assert(len <= IMAGE_CHUNK_SIZE);
        return hash(data, len);
}

struct image_digest image_file_digest(const struct image_digest *chunks, size_t n) {
        return hash(n > 0 ? (const void *)chunks : "", n * sizeof(*chunks));
}

struct image_digest image_data_digest(const void *data, size_t len) {
        XXH3_state_t *state = NULL;
        const uint8_t *p = data;
        struct image_digest first;

        if (len <= IMAGE_CHUNK_SIZE) {
                first = hash(p, len);
                return image_file_digest(&first, len > 0);
        }
        state = XXH3_createState();
        ckpt_assert(state);
        XXH3_128bits_reset(state);
        for (size_t n; len > 0; p += n, len -= n) {
                n = MIN(len, (size_t)IMAGE_CHUNK_SIZE);
                first = hash(p, n);
                XXH3_128bits_update(state, first.byte, sizeof(first.byte));
        }
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state));
        XXH3_freeState(state);
        memcpy(first.byte, canonical.digest, sizeof(first.byte));
        return first;
}
