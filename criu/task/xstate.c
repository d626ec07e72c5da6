/* SPDX-License-Identifier: GPL-2.0-only */
#include "task/xstate.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "macro.h"

enum {
        FX_FCW = 0,
        FX_FSW = 2,
        FX_FTW = 4,
        FX_FOP = 6,
        FX_RIP = 8,
        FX_RDP = 16,
        FX_MXCSR = 24,
        FX_MXCSR_MASK = 28,
        FX_ST = 32,
        FX_XMM = 160,
        HEADER = 512, /* u64 xstate_bv, u64 xcomp_bv, zeroes */
        ST_WORDS = 32,
        XMM_WORDS = 64,

        X87 = 0,
        SSE = 1,
        YMM = 2,
        PKRU = 9,
        XTILE_DATA = 18, /* AMX: the kernel gives a thread room for it only when it uses it */
};

#define BIT(n) (1ULL << (n))

/* What the kernel gives every process: access to key 0 only (arch/x86, init_pkru_value). */
static const uint32_t pkru_default = 0x55555554;

/* Components that the messages have an array for. */
struct known {
        unsigned int number;
        const char *name;
        size_t count_at, array_at; /* in Img__UserX86Xsave */
        uint32_t width, count;     /* of the array's elements */
};

#define KNOWN(number, name, field, width, count)                                                          \
        {                                                                                                 \
                number, name, offsetof(Img__UserX86Xsave, n_##field), offsetof(Img__UserX86Xsave, field), \
                        width, count                                                                      \
        }

static const struct known known[] = {
        KNOWN(YMM, "AVX", ymmh_space, 4, 64),       KNOWN(3, "MPX", bndreg_state, 8, 8),
        KNOWN(4, "MPX", bndcsr_state, 8, 8),        KNOWN(5, "AVX-512", opmask_reg, 8, 8),
        KNOWN(6, "AVX-512", zmm_upper, 8, 64),      KNOWN(7, "AVX-512", hi16_zmm, 8, 128),
        KNOWN(PKRU, "protection keys", pkru, 4, 2),
};

static size_t known_size(const struct known *k) {
        return (size_t)k->width * k->count;
}

static const struct known *find_known(unsigned int number) {
        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (known[i].number == number)
                        return &known[i];
        return NULL;
}

/* Reads XCR0: which components the kernel has switched on. */
static uint64_t read_xcr0(void) {
        uint32_t a, d;

        __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
        return (uint64_t)d << 32 | a;
}

void xstate_layout_read(struct xstate_layout *ret) {
        uint32_t a, b, c, d;

        *ret = (struct xstate_layout){ .xcr0 = BIT(X87) | BIT(SSE) };
        if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
                return;
        ret->xcr0 = read_xcr0() & ~BIT(63);
        for (unsigned int i = 2; i < XSTATE_COMPONENTS; i++) {
                if (!(ret->xcr0 & BIT(i)))
                        continue;
                if (!__get_cpuid_count(0xd, i, &a, &b, &c, &d) || b > XSTATE_SIZE_MAX ||
                    a > XSTATE_SIZE_MAX - b || b < XSTATE_SIZE_MIN)
                        a = b = 0;
                ret->component[i].size = a;
                ret->component[i].offset = b;
        }
}

/* Where a component stands in an area, or NULL: not on this CPU, or beyond the end. */
static char *component_at(const struct xstate_layout *layout, unsigned int i, const void *area,
                          size_t size) {
        uint32_t offset = layout->component[i].offset, len = layout->component[i].size;

        if (!(layout->xcr0 & BIT(i)) || len == 0 || offset > size || len > size - offset)
                return NULL;
        return (char *)area + offset;
}

static bool all_zero(const void *p, size_t size) {
        const char *c = p;

        return size == 0 || (c[0] == 0 && memcmp(c, c + 1, size - 1) == 0);
}

static uint32_t get16(const char *area, size_t at) {
        uint16_t v;

        memcpy(&v, area + at, sizeof(v));
        return v;
}

static uint32_t get32(const char *area, size_t at) {
        uint32_t v;

        memcpy(&v, area + at, sizeof(v));
        return v;
}

static uint64_t get64(const char *area, size_t at) {
        uint64_t v;

        memcpy(&v, area + at, sizeof(v));
        return v;
}

static void legacy_to_image(const char *area, struct arena *arena, Img__UserX86Fpregs *fp) {
        fp->cwd = get16(area, FX_FCW);
        fp->swd = get16(area, FX_FSW);
        fp->twd = get16(area, FX_FTW);
        fp->fop = get16(area, FX_FOP);
        fp->rip = get64(area, FX_RIP);
        fp->rdp = get64(area, FX_RDP);
        fp->mxcsr = get32(area, FX_MXCSR);
        fp->mxcsr_mask = get32(area, FX_MXCSR_MASK);
        fp->n_st_space = ST_WORDS;
        fp->st_space = arena_copy(arena, area + FX_ST, ST_WORDS * sizeof(uint32_t));
        fp->n_xmm_space = XMM_WORDS;
        fp->xmm_space = arena_copy(arena, area + FX_XMM, XMM_WORDS * sizeof(uint32_t));
}

static void known_to_image(const struct known *k, const char *from, struct arena *arena,
                           Img__UserX86Xsave *xsave) {
        *(size_t *)((char *)xsave + k->count_at) = k->count;
        *(void **)((char *)xsave + k->array_at) = arena_copy(arena, from, known_size(k));
}

static void add_component(unsigned int i, const char *from, size_t size, struct arena *arena,
                          Img__UserX86Fpregs *fp) {
        Img__UserX86XstateComponent *c =
                arena_message(arena, Img__UserX86XstateComponent, img__user_x86_xstate_component__init);

        if (!fp->components)
                fp->components = arena_new_array(arena, Img__UserX86XstateComponent *, XSTATE_COMPONENTS);
        c->number = i;
        c->data.len = size;
        c->data.data = arena_copy(arena, from, size);
        fp->components[fp->n_components++] = c;
}

int xstate_to_image(const struct xstate_layout *layout, const void *area, size_t size, struct arena *arena,
                    Img__UserX86Fpregs *ret, struct ckpt_error *err) {
        Img__UserX86Xsave *xsave;
        uint64_t bv;

        if (size < XSTATE_SIZE_MIN)
                return ckpt_error(err, -EIO, "the kernel gives only %zu bytes of extended registers", size);
        bv = get64(area, HEADER);
        legacy_to_image(area, arena, ret);
        xsave = arena_message(arena, Img__UserX86Xsave, img__user_x86_xsave__init);
        xsave->xstate_bv = bv;
        for (unsigned int i = 2; i < XSTATE_COMPONENTS; i++) {
                const struct known *k = find_known(i);
                const char *from = component_at(layout, i, area, size);

                /* Readers of the format expect the AVX array also where it is all zero. */
                if (!(bv & BIT(i)) && !(i == YMM && from))
                        continue;
                if (!from || (k && layout->component[i].size < known_size(k)))
                        return ckpt_error(err, -ENOTSUP,
                                          "it uses component %u of the extended registers, of which the "
                                          "CPU does not tell the place",
                                          i);
                if (i == XTILE_DATA)
                        return ckpt_error(err, -ENOTSUP,
                                          "it has data in the tile registers (AMX), which cannot be "
                                          "restored from outside");
                if (k)
                        known_to_image(k, from, arena, xsave);
                else
                        add_component(i, from, layout->component[i].size, arena, ret);
        }
        ret->xsave = xsave;
        return 0;
}

static void put(char *area, size_t at, const void *value, size_t size) {
        memcpy(area + at, value, size);
}

static int legacy_from_image(const Img__UserX86Fpregs *fp, char *area, struct ckpt_error *err) {
        const uint16_t words[4] = { (uint16_t)fp->cwd, (uint16_t)fp->swd, (uint16_t)fp->twd,
                                    (uint16_t)fp->fop };

        if ((fp->cwd | fp->swd | fp->twd | fp->fop) > UINT16_MAX || fp->mxcsr > UINT16_MAX ||
            (fp->n_st_space != 0 && fp->n_st_space != ST_WORDS) ||
            (fp->n_xmm_space != 0 && fp->n_xmm_space != XMM_WORDS))
                return ckpt_error(err, -EBADMSG, "its floating-point registers make no sense");
        put(area, FX_FCW, words, sizeof(words));
        put(area, FX_RIP, &fp->rip, sizeof(fp->rip));
        put(area, FX_RDP, &fp->rdp, sizeof(fp->rdp));
        put(area, FX_MXCSR, &fp->mxcsr, sizeof(fp->mxcsr));
        put(area, FX_MXCSR_MASK, &fp->mxcsr_mask, sizeof(fp->mxcsr_mask));
        if (fp->n_st_space)
                put(area, FX_ST, fp->st_space, ST_WORDS * sizeof(uint32_t));
        if (fp->n_xmm_space)
                put(area, FX_XMM, fp->xmm_space, XMM_WORDS * sizeof(uint32_t));
        return 0;
}

/* Is the component as good as unused, so that a CPU without it loses nothing? */
static bool is_initial(const struct known *k, const void *data) {
        uint32_t pkru;

        if (k->number != PKRU)
                return all_zero(data, known_size(k));
        memcpy(&pkru, data, sizeof(pkru));
        return pkru == 0 || pkru == pkru_default;
}

static int known_from_image(const struct xstate_layout *layout, const struct known *k,
                            const Img__UserX86Xsave *xsave, void *area, size_t size, uint64_t *bv,
                            struct ckpt_error *err) {
        size_t n = *(const size_t *)((const char *)xsave + k->count_at);
        const void *data = *(void *const *)((const char *)xsave + k->array_at);
        char *to = component_at(layout, k->number, area, size);

        if (n != 0 && n != k->count)
                return ckpt_error(err, -EBADMSG, "its %s registers are %zu words, not %u", k->name, n,
                                  k->count);
        if (n == 0 || !(xsave->xstate_bv & BIT(k->number))) {
                *bv &= ~BIT(k->number);
                return 0;
        }
        if (to && layout->component[k->number].size >= known_size(k)) {
                memcpy(to, data, known_size(k));
                return 0;
        }
        if (!is_initial(k, data)) {
                ckpt_error(err, -ENOTSUP, "it uses the %s registers, which this CPU or kernel does not have",
                           k->name);
                return ckpt_error_hint(err,
                                       "Restore it on a machine whose CPU has all that the old one had");
        }
        *bv &= ~BIT(k->number);
        return 0;
}

static int component_from_image(const struct xstate_layout *layout, const Img__UserX86XstateComponent *c,
                                void *area, size_t size, uint64_t bv, uint64_t *seen,
                                struct ckpt_error *err) {
        char *to;

        if (c->number < 2 || c->number >= XSTATE_COMPONENTS || find_known(c->number) ||
            !(bv & BIT(c->number)) || (*seen & BIT(c->number)))
                return ckpt_error(err, -EBADMSG, "component %u of its extended registers makes no sense",
                                  c->number);
        to = component_at(layout, c->number, area, size);
        if (!to || c->data.len != layout->component[c->number].size)
                return ckpt_error(err, -ENOTSUP,
                                  "it uses component %u of the extended registers (%zu bytes), which this "
                                  "CPU or kernel does not have",
                                  c->number, c->data.len);
        memcpy(to, c->data.data, c->data.len);
        *seen |= BIT(c->number);
        return 0;
}

/* Images of a CPU without protection keys: what a new process has. */
static void default_pkru(const struct xstate_layout *layout, const Img__UserX86Xsave *xsave, void *area,
                         size_t size, uint64_t *bv) {
        char *to = component_at(layout, PKRU, area, size);

        if (!to || (xsave && xsave->n_pkru > 0))
                return;
        memcpy(to, &pkru_default, sizeof(pkru_default));
        *bv |= BIT(PKRU);
}

int xstate_from_image(const struct xstate_layout *layout, const Img__UserX86Fpregs *fp, void *area,
                      size_t size, struct ckpt_error *err) {
        uint64_t bv = fp->xsave ? fp->xsave->xstate_bv : BIT(X87) | BIT(SSE), seen = BIT(X87) | BIT(SSE);
        int r;

        ckpt_assert(size >= XSTATE_SIZE_MIN);
        memset(area, 0, size);
        r = legacy_from_image(fp, area, err);
        for (size_t i = 0; r == 0 && fp->xsave && i < ELEMENTSOF(known); i++) {
                r = known_from_image(layout, &known[i], fp->xsave, area, size, &bv, err);
                seen |= BIT(known[i].number);
        }
        for (size_t i = 0; r == 0 && i < fp->n_components; i++)
                r = component_from_image(layout, fp->components[i], area, size, bv, &seen, err);
        if (r < 0)
                return r;
        if (bv & ~seen)
                return ckpt_error(
                        err, -ENOTSUP,
                        "it uses extended registers that its image does not hold (xstate_bv %#llx)",
                        (unsigned long long)(bv & ~seen));
        default_pkru(layout, fp->xsave, area, size, &bv);
        put(area, HEADER, &bv, sizeof(bv));
        return 0;
}
