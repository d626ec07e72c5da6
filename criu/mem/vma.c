/* SPDX-License-Identifier: GPL-2.0-only */
#include "mem/vma.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "macro.h"
#include "proc/maps.h"

const struct mem_advice mem_advices[] = {
        { MADV_RANDOM, PROC_VMF_RR, false, "give MADV_RANDOM back" },
        { MADV_SEQUENTIAL, PROC_VMF_SR, false, "give MADV_SEQUENTIAL back" },
        { MADV_DONTFORK, PROC_VMF_DC, true, "give MADV_DONTFORK back" },
        { MADV_MERGEABLE, PROC_VMF_MG, false, "give MADV_MERGEABLE back" },
        { MADV_HUGEPAGE, PROC_VMF_HG, false, "give MADV_HUGEPAGE back" },
        { MADV_NOHUGEPAGE, PROC_VMF_NH, false, "give MADV_NOHUGEPAGE back" },
        { MADV_DONTDUMP, PROC_VMF_DD, false, "give MADV_DONTDUMP back" },
        { MADV_WIPEONFORK, PROC_VMF_WF, true, "give MADV_WIPEONFORK back" },
};
const size_t mem_nr_advices = ELEMENTSOF(mem_advices);

uint64_t mem_advice_mask(void) {
        uint64_t mask = 0;

        for (size_t i = 0; i < mem_nr_advices; i++)
                mask |= 1ULL << mem_advices[i].value;
        return mask;
}

static uint64_t early_advice(const Img__Vma *v) {
        uint64_t bits = v->madv;

        for (size_t i = 0; i < mem_nr_advices; i++)
                if (mem_advices[i].late)
                        bits &= ~(1ULL << mem_advices[i].value);
        return bits;
}

static const char *name_of(const Img__Vma *v) {
        return v->anon_name ? v->anon_name : "";
}

bool mem_same_area(const Img__Vma *parent, const Img__Vma *child) {
        const uint32_t late_flags = MAP_LOCKED;
        const uint32_t position = VMA_HEAP;

        return parent->prot == child->prot && ((parent->flags ^ child->flags) & ~late_flags) == 0 &&
               ((parent->status ^ child->status) & ~position) == 0 && parent->shmid == child->shmid &&
               parent->fd == child->fd && parent->fdflags == child->fdflags &&
               (child->fd < 0 || child->pgoff - child->start == parent->pgoff - parent->start) &&
               early_advice(parent) == early_advice(child) && strcmp(name_of(parent), name_of(child)) == 0;
}

bool mem_sysv_read_only(const Img__Vma *v) {
        return v->has_fdflags ? (v->fdflags & O_ACCMODE) == O_RDONLY : !(v->prot & PROT_WRITE);
}
