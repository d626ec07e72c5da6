/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Interfaces of the kernel that are newer than the headers of Debian 12 (Linux 6.1), as far as
 * the probes use them. Numbers and layouts are those of the kernel's stable user interface.
 */
#pragma once

#include <linux/fs.h>
#include <linux/prctl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>

#ifndef PAGEMAP_SCAN /* 6.7 */
struct page_region {
        __u64 start, end, categories;
};

struct pm_scan_arg {
        __u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
        __u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_SCAN          _IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING   (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#define PAGE_IS_WRITTEN       (1 << 1)
#define PAGE_IS_PRESENT       (1 << 3)
#endif

#ifndef PAGE_IS_GUARD /* 6.15 */
#define PAGE_IS_GUARD (1 << 8)
#endif

#ifndef PROCMAP_QUERY /* 6.11 */
struct procmap_query {
        __u64 size, query_flags, query_addr;
        __u64 vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
        __u32 dev_major, dev_minor, vma_name_size, build_id_size;
        __u64 vma_name_addr, build_id_addr;
};

#define PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)
#endif

#ifndef UFFDIO_MOVE /* 6.8 */
struct uffdio_move {
        __u64 dst, src, len, mode;
        __s64 move;
};

#define UFFDIO_MOVE       _IOWR(UFFDIO, 0x05, struct uffdio_move)
#define UFFD_FEATURE_MOVE (1 << 16)
#endif

#ifndef UFFD_FEATURE_WP_ASYNC /* 6.7 */
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED /* 6.4 */
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif

#ifndef MADV_GUARD_INSTALL /* 6.13 */
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_COLLAPSE /* 6.1 */
#define MADV_COLLAPSE 25
#endif

#ifndef PR_TIMER_CREATE_RESTORE_IDS /* 6.15 */
#define PR_TIMER_CREATE_RESTORE_IDS     77
#define PR_TIMER_CREATE_RESTORE_IDS_OFF 0
#define PR_TIMER_CREATE_RESTORE_IDS_ON  1
#endif

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG /* 6.4 */
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
struct ptrace_sud_config {
        __u64 mode, selector, offset, len;
};
#endif

#ifndef PIDFD_THREAD /* 6.9 */
#define PIDFD_THREAD O_EXCL
#endif

#ifndef PIDFD_GET_CGROUP_NAMESPACE /* 6.11 */
#define PIDFD_GET_CGROUP_NAMESPACE            _IO(0xff, 1)
#define PIDFD_GET_IPC_NAMESPACE               _IO(0xff, 2)
#define PIDFD_GET_MNT_NAMESPACE               _IO(0xff, 3)
#define PIDFD_GET_NET_NAMESPACE               _IO(0xff, 4)
#define PIDFD_GET_PID_NAMESPACE               _IO(0xff, 5)
#define PIDFD_GET_PID_FOR_CHILDREN_NAMESPACE  _IO(0xff, 6)
#define PIDFD_GET_TIME_NAMESPACE              _IO(0xff, 7)
#define PIDFD_GET_TIME_FOR_CHILDREN_NAMESPACE _IO(0xff, 8)
#define PIDFD_GET_USER_NAMESPACE              _IO(0xff, 9)
#define PIDFD_GET_UTS_NAMESPACE               _IO(0xff, 10)
#endif

#ifndef ARCH_MAP_VDSO_64
#define ARCH_MAP_VDSO_64 0x2003
#endif

#define MEMBARRIER_GET_REGISTRATIONS (1 << 9) /* 6.3; an enumerator in newer headers */
