/* SPDX-License-Identifier: GPL-2.0-only */
/* Images of IPC namespaces: sound ones, ones of other writers, ones that lie. */
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "mem/restore.h"
#include "ns/ipc_internal.h"
#include "test_image.h"

#define PID  77
#define NS   9
#define BASE 0x10000000ULL

/* A small sound namespace, to be spoilt by the tests. */
struct image {
        Img__TaskKobjIds root_ids, ids;
        Img__IpcVar var;
        uint32_t sem_ctls[4];
        size_t nr_sem_ctls;
        Img__IpcDesc shm_desc[2], sem_desc, msg_desc;
        Img__IpcShm shm[2];
        Img__IpcSem sem;
        Img__IpcMsg msg;
        Img__IpcMessage message[2];
        const char *raw; /* of the first segment */
        size_t raw_size;
        uint16_t values[8]; /* of the set, padded */
        size_t values_size;
        size_t text_size; /* of each message, padded */
        bool no_var;
        Img__Vma vma;
        bool has_vma;
        Img__SemUndo undo, *undos[1];
        bool has_undo;
        Img__Mm mm;
        Img__TaskCore tc;
        Img__Core core;
        struct ckpt_run command;
        struct restore r;
        struct restore_task task, *tasks[1];
        struct restore_thread thread;
        struct ckpt_error err;
};

static void set_ids(Img__TaskKobjIds *ids, uint32_t ipc) {
        img__task_kobj_ids__init(ids);
        ids->has_ipc_ns_id = true;
        ids->ipc_ns_id = ipc;
}

static void set_desc(Img__IpcDesc *desc, uint32_t id, uint32_t key) {
        img__ipc_desc__init(desc);
        desc->id = id;
        desc->key = key;
        desc->mode = 0640;
}

static void sound(struct image *m) {
        memset(m, 0, sizeof(*m));
        set_ids(&m->root_ids, 3);
        set_ids(&m->ids, NS);
        img__ipc_var__init(&m->var);
        m->var.msg_ctlmax = 8192;
        m->var.msg_ctlmnb = 16384;
        m->var.msg_ctlmni = m->var.shm_ctlmni = 100;
        m->var.shm_ctlmax = m->var.shm_ctlall = 1 << 30;
        m->var.mq_msg_max = 10;
        memcpy(m->sem_ctls, (uint32_t[]){ 100, 1000, 32, 10 }, sizeof(m->sem_ctls));
        m->nr_sem_ctls = 4;
        for (uint32_t i = 0; i < 2; i++) {
                set_desc(&m->shm_desc[i], 32768 + i, 0x1000 + i);
                img__ipc_shm__init(&m->shm[i]);
                m->shm[i].desc = &m->shm_desc[i];
                m->shm[i].size = 10000;
                m->shm[i].has_in_pagemaps = m->shm[i].in_pagemaps = true;
        }
        set_desc(&m->sem_desc, 5, 0x2000);
        img__ipc_sem__init(&m->sem);
        m->sem.desc = &m->sem_desc;
        m->sem.nsems = 3;
        memcpy(m->values, (uint16_t[]){ 7, 0, 32767 }, 6);
        m->values_size = 8;
        set_desc(&m->msg_desc, 6, 0);
        img__ipc_msg__init(&m->msg);
        m->msg.desc = &m->msg_desc;
        m->msg.qbytes = 1000;
        m->msg.qnum = 2;
        for (int i = 0; i < 2; i++) {
                img__ipc_message__init(&m->message[i]);
                m->message[i].mtype = 4;
                m->message[i].msize = 5;
        }
        m->text_size = 8;
}

static void write_objects(struct image_set *set, struct image *m) {
        static const char text[64] = "hello";
        struct image_file *file;
        struct ckpt_error *err = &m->err;

        assert_ok(image_open_write(set, IMAGE_IPCNS_SHM, NS, &file, err), err);
        for (int i = 0; i < 2; i++) {
                assert_ok(image_write(file, &m->shm[i].base, err), err);
                if (i == 0)
                        assert_ok(image_write_raw(file, m->raw, m->raw_size, err), err);
        }
        assert_ok(image_close(file, err), err);
        assert_ok(image_open_write(set, IMAGE_IPCNS_SEM, NS, &file, err), err);
        assert_ok(image_write(file, &m->sem.base, err), err);
        assert_ok(image_write_raw(file, m->values, m->values_size, err), err);
        assert_ok(image_close(file, err), err);
        assert_ok(image_open_write(set, IMAGE_IPCNS_MSG, NS, &file, err), err);
        assert_ok(image_write(file, &m->msg.base, err), err);
        for (int i = 0; i < 2; i++) {
                assert_ok(image_write(file, &m->message[i].base, err), err);
                assert_ok(image_write_raw(file, text, m->text_size, err), err);
        }
        assert_ok(image_close(file, err), err);
}

static void make_task(struct image *m) {
        img__core__init(&m->core);
        img__task_core__init(&m->tc);
        m->core.tc = &m->tc;
        if (m->has_undo) {
                m->undos[0] = &m->undo;
                m->tc.sem_undos = m->undos;
                m->tc.n_sem_undos = 1;
        }
        m->thread = (struct restore_thread){ .task = &m->task, .tid = PID, .core = &m->core };
        m->task = (struct restore_task){
                .restore = &m->r, .pid = PID, .ids = &m->ids, .threads = &m->thread, .nr_threads = 1
        };
        m->tasks[0] = &m->task;
        m->r.run = &m->command;
        m->r.tasks = m->tasks;
        m->r.nr_tasks = 1;
        if (m->has_vma) {
                struct restore_area *area = restore_area_vec_add(&restore_mem_of(&m->task)->areas);

                *area = (struct restore_area){
                        .start = m->vma.start, .end = m->vma.end, .kind = MEM_SYSV, .msg = &m->vma, .fd = -1
                };
        }
}

/* Store, load; what became of it. The caller ends it with done(). */
static int load(struct image *m) {
        Img__Inventory inventory = IMG__INVENTORY__INIT;
        _cleanup_image_set_ struct image_set *set = NULL;
        _cleanup_dir_ struct test_dir dir = test_dir_make();
        int r;

        m->var.sem_ctls = m->sem_ctls;
        m->var.n_sem_ctls = m->nr_sem_ctls;
        assert_ok(image_set_create(dir.fd, NULL, &set, &m->err), &m->err);
        if (!m->no_var)
                assert_ok(image_store(set, IMAGE_IPC_VAR, NS, &m->var.base, &m->err), &m->err);
        write_objects(set, m);
        inventory.dump_criu_run_id = (char *)"run";
        inventory.root_ids = &m->root_ids;
        assert_ok(image_set_commit(set, &inventory, &m->err), &m->err);
        make_task(m);
        assert_ok(image_dir_open(dir.fd, 1, &m->r.dir, &m->err), &m->err);
        r = ipc_load(&m->r, &m->err);
        assert_true((r < 0) == ckpt_error_is_set(&m->err));
        return r;
}

static void done(struct image *m) {
        ipc_restore_free(&m->r);
        image_dir_free(m->r.dir);
        mem_restore_free(&m->task.mem);
        arena_done(&m->task.arena);
        ckpt_error_clear(&m->err);
}

static void expect(struct image *m, int code, const char *what) {
        int r = load(m);

        if (r != code)
                fail_msg("%s: %d instead of %d: %s", what, r, code, ckpt_error_message(&m->err));
        done(m);
}

static void test_sound(void **state) {
        static struct image m;
        uint16_t value;
        uint64_t size;

        sound(&m);
        assert_ok(load(&m), &m.err);
        assert_true(ipc_find_segment(&m.r, 32769, &size));
        assert_int_equal(size, 10000);
        assert_false(ipc_find_segment(&m.r, 1, &size));
        assert_true(ipc_find_sem(&m.r, 5, 2, &value));
        assert_int_equal(value, 32767);
        assert_false(ipc_find_sem(&m.r, 5, 3, &value));
        assert_false(ipc_find_sem(&m.r, 6, 0, &value));
        done(&m);
        /* In the namespace of the tool, there is none to be made. */
        sound(&m);
        set_ids(&m.ids, 3);
        assert_ok(load(&m), &m.err);
        assert_null(m.r.ipc);
        done(&m);
        sound(&m);
        m.no_var = true;
        expect(&m, -ENOENT, "no limits");
}

/* Each changes one thing about the sound image. */
#define SPOIL(code, statement)                \
        do {                                  \
                sound(&m);                    \
                statement;                    \
                expect(&m, code, #statement); \
        } while (0)

static void test_hostile_segments(void **state) {
        static struct image m;

        SPOIL(-EBADMSG, m.shm_desc[1].id = 32768);
        SPOIL(-EBADMSG, m.shm_desc[1].key = 0x1000);
        SPOIL(0, m.shm_desc[1].key = m.shm_desc[0].key = 0);
        SPOIL(-EBADMSG, m.shm_desc[0].id = 0x80000000);
        SPOIL(-EBADMSG, m.shm_desc[0].mode = 04000);
        SPOIL(-EBADMSG, m.shm_desc[0].mode = UINT32_MAX);
        SPOIL(-EBADMSG, m.shm_desc[0].mode |= SHM_DEST); /* with a key */
        SPOIL(0, (m.shm_desc[0].mode |= SHM_DEST, m.shm_desc[0].key = 0));
        SPOIL(-EBADMSG, (m.shm[0].has_name_key = true, m.shm[0].name_key = 5));
        SPOIL(-EBADMSG, m.shm_desc[0].uid = UINT32_MAX);
        SPOIL(-EBADMSG, m.shm_desc[0].cgid = UINT32_MAX);
        SPOIL(-EBADMSG, m.shm[0].size = 0);
        SPOIL(-EBADMSG, m.shm[0].size = UINT64_MAX);
        SPOIL(-EBADMSG, m.shm[0].size = 1ULL << 47);
        SPOIL(-ENOTSUP, (m.shm[0].has_hugetlb_flag = true, m.shm[0].hugetlb_flag = SHM_HUGETLB));
        /* Bytes that are not there, or are no entry. */
        SPOIL(-EBADMSG, m.shm[0].has_in_pagemaps = false);
        SPOIL(-EBADMSG, (m.shm[0].in_pagemaps = false, m.shm[0].size = 1ULL << 45));
        SPOIL(-EBADMSG, (m.raw = "too much", m.raw_size = 8));
}

static void test_hostile_sets(void **state) {
        static struct image m;

        SPOIL(-EBADMSG, m.sem.nsems = 0);
        SPOIL(-EBADMSG, m.sem.nsems = 5);
        SPOIL(-EBADMSG, m.sem.nsems = UINT32_MAX);
        SPOIL(-EBADMSG, m.sem.nsems = 0x80000000);
        SPOIL(-EBADMSG, m.values[1] = 32768);
        SPOIL(-EBADMSG, m.values_size = 4);
        SPOIL(-EBADMSG, m.sem_desc.mode = SHM_DEST);
        SPOIL(-EBADMSG, m.sem_desc.id = UINT32_MAX);
}

static void test_hostile_queues(void **state) {
        static struct image m;

        SPOIL(-EBADMSG, m.msg.qnum = 3);
        SPOIL(-EBADMSG, m.msg.qnum = 1); /* the other is no queue */
        SPOIL(-EBADMSG, m.msg.qnum = UINT32_MAX);
        SPOIL(-EBADMSG, m.msg.qbytes = UINT32_MAX);
        SPOIL(-EBADMSG, m.message[0].mtype = 0);
        SPOIL(-EBADMSG, m.message[1].mtype = 1ULL << 63);
        SPOIL(-EBADMSG, m.message[1].msize = 9);
        SPOIL(-EBADMSG, m.message[1].msize = UINT32_MAX);
        SPOIL(-EBADMSG, m.text_size = 4);
        SPOIL(-EBADMSG, m.msg_desc.mode = 01000);
}

static void test_hostile_limits(void **state) {
        static struct image m;

        SPOIL(-EBADMSG, m.nr_sem_ctls = 3);
        SPOIL(-EBADMSG, m.nr_sem_ctls = 0);
        SPOIL(-EBADMSG, m.sem_ctls[2] = UINT32_MAX);
        SPOIL(-EBADMSG, m.var.msg_ctlmax = 1U << 31);
        SPOIL(-EBADMSG, m.var.shm_rmid_forced = UINT32_MAX);
        SPOIL(0, m.var.shm_ctlmax = UINT64_MAX);
}

static void set_vma(struct image *m, uint32_t id, uint64_t pgoff, uint64_t pages) {
        img__vma__init(&m->vma);
        m->has_vma = true;
        m->vma.start = BASE;
        m->vma.end = BASE + pages * PAGE_SIZE;
        m->vma.shmid = id;
        m->vma.pgoff = pgoff;
}

static void set_undo(struct image *m, uint32_t id, uint32_t num) {
        img__sem_undo__init(&m->undo);
        m->has_undo = true;
        m->undo.semid = id;
        m->undo.num = num;
        m->undo.adjust = 1;
}

/* What tasks have of it. */
static void test_references(void **state) {
        static struct image m;

        SPOIL(0, set_vma(&m, 32768, 0, 3));
        SPOIL(0, set_vma(&m, 32768, PAGE_SIZE, 2));
        SPOIL(-EBADMSG, set_vma(&m, 32768, 0, 4));
        SPOIL(-EBADMSG, set_vma(&m, 32768, PAGE_SIZE, 3));
        SPOIL(-EBADMSG, set_vma(&m, 5, 0, 1));
        SPOIL(-ENOTSUP, (set_vma(&m, 32768, 0, 3), set_ids(&m.ids, 3)));
        SPOIL(0, set_undo(&m, 5, 2));
        SPOIL(-EBADMSG, set_undo(&m, 5, 3));
        SPOIL(-EBADMSG, set_undo(&m, 6, 0));
        SPOIL(-EBADMSG, (set_undo(&m, 5, 2), set_ids(&m.ids, 3)));
}

static int check_namespace(void) {
        struct shmid_ds shm;
        struct {
                long type;
                char text[16];
        } buf;
        char *at = shmat(32768, NULL, SHM_RDONLY);

        if (at == (void *)-1 || strcmp(at, "the content") != 0 || shmctl(32768, IPC_STAT, &shm) < 0 ||
            shm.shm_segsz != 12 || shm.shm_nattch != 1 || shm.shm_perm.mode != 0640)
                return 2;
        if (shmget(0x1001, 10000, 0) != 32769)
                return 3;
        if (semget(0x2000, 3, 0) != 5 || semctl(5, 0, GETVAL) != 7 || semctl(5, 2, GETVAL) != 32767)
                return 4;
        for (int i = 0; i < 2; i++)
                if (msgrcv(6, &buf, sizeof(buf.text), 0, IPC_NOWAIT) != 5 || buf.type != 4 ||
                    memcmp(buf.text, "hello", 5) != 0)
                        return 5;
        return 0;
}

static int enter(struct image *m) {
        int r = ipc_enter(&m->r, &m->err);

        if (r < 0)
                return 1;
        r = check_namespace();
        if (r == 0 && ipc_leave(&m->r, &m->err) < 0)
                return 6;
        return r;
}

/* With the content behind the entry, as other writers have it. */
static void test_made(void **state) {
        static struct image m;
        int status;
        pid_t pid;

        if (geteuid() != 0)
                skip();
        sound(&m);
        m.shm[0].in_pagemaps = false;
        m.shm[0].size = 12;
        m.raw = "the content\0\0\0\0";
        m.raw_size = 16;
        assert_ok(load(&m), &m.err);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(enter(&m));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        done(&m);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sound),          cmocka_unit_test(test_hostile_segments),
                cmocka_unit_test(test_hostile_sets),   cmocka_unit_test(test_hostile_queues),
                cmocka_unit_test(test_hostile_limits), cmocka_unit_test(test_references),
                cmocka_unit_test(test_made),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
