/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Arbitrary bytes through the image reader. The first byte picks the kind, the rest is the file; for
 * the inventory and checksums.img also what image_dir_open() does with them.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cleanup.h"
#include "image/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Read entries to the end of the file or the first error, whichever comes first. */
static void read_entries(enum image_kind kind, const uint8_t *data, size_t size) {
        const struct image_kind_info *k = image_kind_info(kind);
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;
        _cleanup_image_file_ struct image_file *file = NULL;
        const ProtobufCMessageDescriptor *type = k->head ? k->head : k->message;
        int r;

        r = image_open_memory(AT_FDCWD, kind, "fuzzed.img", data, size, &file, &err);
        while (r >= 0 && type && image_remaining(file) > 0) {
                _cleanup_image_message_ ProtobufCMessage *message = NULL;

                r = image_read(file, type, &message, &err);
                type = k->message;
        }
        if (r < 0 && !ckpt_error_is_set(&err))
                __builtin_trap(); /* every refusal says why */
}

/* The same payload without a header in front: most mutations then reach the decoder. */
static void read_bare(enum image_kind kind, const uint8_t *data, size_t size) {
        const struct image_kind_info *k = image_kind_info(kind);
        const char *why = NULL;

        if (!k->message)
                return;
        if (image_wire_check(k->message, data, size, &why) >= 0) {
                ProtobufCMessage *message = protobuf_c_message_unpack(k->message, NULL, size, data);

                if (message)
                        protobuf_c_message_free_unpacked(message, NULL);
        } else if (!why) {
                __builtin_trap();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(image_records_done) struct image_record_vec records = { 0 };
        struct image_digest digest;
        enum image_kind kind;
        uint64_t len;

        if (size == 0)
                return 0;
        kind = (enum image_kind)(data[0] % IMAGE_KIND_MAX);
        data++;
        size--;
        read_entries(kind, data, size);
        read_bare(kind, data, size);
        if (kind == IMAGE_INVENTORY)
                (void)image_inventory_digest(data, size, &digest, &len);
        if (kind == IMAGE_CHECKSUMS)
                (void)image_checksums_parse(AT_FDCWD, data, size, &records, NULL);
        return 0;
}
