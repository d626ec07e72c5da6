/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A look at the bytes of a message before protobuf-c decodes it. protobuf-c recurses as deep as the
 * input says, merges repeated singular fields, takes any enum value and cuts strings at a NUL; none of
 * that should be up to whoever made the image. /
 */
#include <errno.h>
#include <string.h>

#include "image/internal.h"
#include "macro.h"

#define DEPTH_MAX  64
#define FIELDS_MAX 256

/* What decoding may allocate. A message of IMAGE_ENTRY_MAX with the smallest areas that mm-N.img
 * can hold stays below; empty submessages in a row would go far beyond. */
#define MEMORY_MAX   ((uint64_t)2 << 30)
#define MEMORY_FIELD 48 /* protobuf-c's own bookkeeping for each field, while it decodes */

struct scan {
        uint64_t memory;
        const char *why;
};

static int bad(struct scan *scan, const char *why) {
        scan->why = why;
        return -EBADMSG;
}

static int varint(const uint8_t *data, size_t len, size_t *pos, uint64_t *ret) {
        uint64_t value = 0;

        for (unsigned shift = 0; shift < 70; shift += 7) {
                uint8_t byte;

                if (*pos >= len)
                        return -EBADMSG;
                byte = data[(*pos)++];
                if (shift == 63 && byte > 1)
                        return -EBADMSG;
                value |= (uint64_t)(byte & 0x7f) << shift;
                if (!(byte & 0x80)) {
                        *ret = value;
                        return 0;
                }
        }
        return -EBADMSG;
}

static int fixed(const uint8_t *data, size_t len, size_t *pos, size_t size, uint64_t *ret) {
        uint64_t value = 0;

        if (len - *pos < size)
                return -EBADMSG;
        for (size_t i = 0; i < size; i++)
                value |= (uint64_t)data[*pos + i] << (8 * i);
        *pos += size;
        *ret = value;
        return 0;
}

int image_wire_next(const uint8_t *data, size_t len, size_t *pos, struct image_wire_field *ret) {
        uint64_t tag, value = 0;
        int r;

        r = varint(data, len, pos, &tag);
        if (r < 0)
                return r;
        if (tag >> 3 == 0 || tag >> 3 > (1U << 29) - 1)
                return -EBADMSG;
        *ret = (struct image_wire_field){ .number = (uint32_t)(tag >> 3), .type = tag & 7 };
        switch (ret->type) {
        case 0:
                return varint(data, len, pos, &ret->value);
        case 1:
                return fixed(data, len, pos, 8, &ret->value);
        case 5:
                return fixed(data, len, pos, 4, &ret->value);
        case 2:
                r = varint(data, len, pos, &value);
                if (r < 0)
                        return r;
                if (value > len - *pos)
                        return -EBADMSG;
                ret->data = data + *pos;
                ret->len = (size_t)value;
                *pos += ret->len;
                return 0;
        default: /* groups, and what is not assigned */
                return -EBADMSG;
        }
}

static unsigned wire_type(const ProtobufCFieldDescriptor *field) {
        switch (field->type) {
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_FIXED64:
        case PROTOBUF_C_TYPE_DOUBLE:
                return 1;
        case PROTOBUF_C_TYPE_STRING:
        case PROTOBUF_C_TYPE_BYTES:
        case PROTOBUF_C_TYPE_MESSAGE:
                return 2;
        case PROTOBUF_C_TYPE_SFIXED32:
        case PROTOBUF_C_TYPE_FIXED32:
        case PROTOBUF_C_TYPE_FLOAT:
                return 5;
        default:
                return 0;
        }
}

static int check_enum(const ProtobufCFieldDescriptor *field, uint64_t value, struct scan *scan) {
        if (!protobuf_c_enum_descriptor_get_value(field->descriptor, (int)(uint32_t)value))
                return bad(scan, "an enum value that the format does not have");
        return 0;
}

/* The numbers of a repeated field may stand together in one length-delimited field. */
static int check_packed(const ProtobufCFieldDescriptor *field, const struct image_wire_field *wire,
                        struct scan *scan) {
        unsigned type = wire_type(field);
        size_t pos = 0;

        while (pos < wire->len) {
                uint64_t value;
                int r;

                r = type == 0 ? varint(wire->data, wire->len, &pos, &value)
                              : fixed(wire->data, wire->len, &pos, type == 1 ? 8 : 4, &value);
                if (r < 0)
                        return bad(scan, "a broken list of numbers");
                scan->memory += 8;
                if (field->type == PROTOBUF_C_TYPE_ENUM && check_enum(field, value, scan) < 0)
                        return -EBADMSG;
        }
        return 0;
}

static int check_message(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t len,
                         unsigned depth, struct scan *scan);

static int check_field(const ProtobufCFieldDescriptor *field, const struct image_wire_field *wire,
                       unsigned depth, struct scan *scan) {
        unsigned type = wire_type(field);

        if (wire->type != type) {
                if (field->label == PROTOBUF_C_LABEL_REPEATED && wire->type == 2)
                        return check_packed(field, wire, scan);
                return bad(scan, "a field of another type than the format says");
        }
        switch (field->type) {
        case PROTOBUF_C_TYPE_ENUM:
                return check_enum(field, wire->value, scan);
        case PROTOBUF_C_TYPE_STRING:
                if (memchr(wire->data, 0, wire->len))
                        return bad(scan, "a string with a NUL byte in it");
                scan->memory += wire->len;
                return 0;
        case PROTOBUF_C_TYPE_BYTES:
                scan->memory += wire->len;
                return 0;
        case PROTOBUF_C_TYPE_MESSAGE:
                return check_message(field->descriptor, wire->data, wire->len, depth + 1, scan);
        default:
                return 0;
        }
}

static int check_message(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t len,
                         unsigned depth, struct scan *scan) {
        uint64_t seen[FIELDS_MAX / 64] = { 0 };
        size_t pos = 0;

        ckpt_assert(descriptor->n_fields <= FIELDS_MAX);
        if (depth > DEPTH_MAX)
                return bad(scan, "messages nested too deep");
        scan->memory += descriptor->sizeof_message + 16;
        while (pos < len) {
                const ProtobufCFieldDescriptor *field;
                struct image_wire_field wire;
                size_t index;
                int r;

                if (image_wire_next(data, len, &pos, &wire) < 0)
                        return bad(scan, "a broken field");
                scan->memory += MEMORY_FIELD;
                if (scan->memory > MEMORY_MAX)
                        return bad(scan, "more fields than fit into memory");
                field = protobuf_c_message_descriptor_get_field(descriptor, wire.number);
                if (!field) {
                        scan->memory += wire.len + 16;
                        continue;
                }
                index = (size_t)(field - descriptor->fields);
                if (field->label != PROTOBUF_C_LABEL_REPEATED && (seen[index / 64] >> (index % 64)) & 1)
                        return bad(scan, "a field that occurs twice");
                seen[index / 64] |= (uint64_t)1 << (index % 64);
                r = check_field(field, &wire, depth, scan);
                if (r < 0)
                        return r;
        }
        for (unsigned i = 0; i < descriptor->n_fields; i++)
                if (descriptor->fields[i].label == PROTOBUF_C_LABEL_REQUIRED &&
                    !((seen[i / 64] >> (i % 64)) & 1))
                        return bad(scan, "a required field is missing");
        return 0;
}

int image_wire_check(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data, size_t len,
                     const char **ret_why) {
        struct scan scan = { 0 };
        int r;

        r = check_message(descriptor, data, len, 0, &scan);
        if (r < 0)
                *ret_why = scan.why;
        return r;
}
