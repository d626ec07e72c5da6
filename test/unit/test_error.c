/* SPDX-License-Identifier: GPL-2.0-only */
/* error.h, log.h and lib/io.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cleanup.h"
#include "error.h"
#include "lib/io.h"
#include "log.h"
#include "macro.h"

static void test_error_move(void **state) {
        _cleanup_error_ struct ckpt_error from = CKPT_ERROR_INIT, to = CKPT_ERROR_INIT;
        const char *what;

        (void)state;
        assert_int_equal(ckpt_error_move(&to, &from), 0);
        assert_false(ckpt_error_is_set(&to));

        ckpt_error(&from, -ENOENT, "first");
        ckpt_error_hint(&from, "Do this");
        what = from.what;
        assert_int_equal(ckpt_error_move(&to, &from), -ENOENT);
        assert_int_equal(to.code, -ENOENT);
        assert_ptr_equal(to.what, what);
        assert_string_equal(to.hint, "Do this");
        assert_false(ckpt_error_is_set(&from));
        assert_null(from.what);
        assert_null(from.hint);

        /* What is there already is kept. */
        ckpt_error(&from, -EIO, "second");
        ckpt_error_hint(&from, "Do that");
        assert_int_equal(ckpt_error_move(&to, &from), -EIO);
        assert_string_equal(ckpt_error_message(&to), "first");
        assert_string_equal(to.hint, "Do this");
        assert_false(ckpt_error_is_set(&from));
        assert_null(from.what);
        assert_null(from.hint);

        /* Nobody wants it. */
        ckpt_error(&from, -EIO, "third");
        assert_int_equal(ckpt_error_move(NULL, &from), -EIO);
        assert_false(ckpt_error_is_set(&from));
        assert_null(from.what);
}

static void test_error_first_wins(void **state) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT;

        (void)state;
        assert_false(ckpt_error_is_set(&err));
        assert_string_equal(ckpt_error_message(&err), "no error");
        assert_int_equal(ckpt_error_prefix(&err, "x"), 0);
        assert_int_equal(ckpt_error_hint(&err, "x"), 0);
        assert_null(err.hint);

        assert_int_equal(ckpt_error(&err, -ENOENT, "fd %d: %s", 7, "gone"), -ENOENT);
        assert_true(ckpt_error_is_set(&err));
        assert_string_equal(ckpt_error_message(&err), "fd 7: gone");
        assert_int_equal(ckpt_error(&err, -EIO, "later"), -EIO);
        assert_int_equal(ckpt_error_errno(&err, -EPERM, "later"), -EPERM);
        assert_int_equal(err.code, -ENOENT);
        assert_string_equal(ckpt_error_message(&err), "fd 7: gone");

        assert_int_equal(ckpt_error_prefix(&err, "pid %d", 812), -ENOENT);
        assert_string_equal(ckpt_error_message(&err), "pid 812: fd 7: gone");
        assert_int_equal(ckpt_error_prefix(&err, "%s", ckpt_error_message(&err)), -ENOENT);
        assert_string_equal(ckpt_error_message(&err), "pid 812: fd 7: gone: pid 812: fd 7: gone");

        assert_int_equal(ckpt_error_hint(&err, "Do %s", "this"), -ENOENT);
        assert_int_equal(ckpt_error_hint(&err, "%s, or that", err.hint), -ENOENT);
        assert_string_equal(err.hint, "Do this, or that");

        ckpt_error_clear(&err);
        assert_false(ckpt_error_is_set(&err));
        assert_null(err.what);
        assert_null(err.hint);
        assert_int_equal(ckpt_error(&err, -EIO, "again"), -EIO);
        assert_string_equal(ckpt_error_message(&err), "again");
}

static void test_error_errno(void **state) {
        _cleanup_error_ struct ckpt_error err = CKPT_ERROR_INIT, odd = CKPT_ERROR_INIT;

        (void)state;
        errno = EBUSY;
        assert_int_equal(ckpt_error_errno(&err, -ENOSPC, "pages-%d.img", 1), -ENOSPC);
        assert_int_equal(errno, EBUSY);
        assert_string_equal(ckpt_error_message(&err), "pages-1.img: No space left on device");
        assert_int_equal(ckpt_error_errno(&odd, -123456, "x"), -123456);
        assert_string_equal(ckpt_error_message(&odd), "x: the kernel gave an unknown reason");
}

static void test_error_nobody_cares(void **state) {
        (void)state;
        assert_int_equal(ckpt_error(NULL, -ENOENT, "x"), -ENOENT);
        assert_int_equal(ckpt_error_errno(NULL, -ENOENT, "x"), -ENOENT);
        /* `return ckpt_error_hint(err, ...)` after an error may not become a success. */
        assert_true(ckpt_error_hint(NULL, "x") < 0);
        assert_true(ckpt_error_prefix(NULL, "x") < 0);
}

static void test_error_without_memory(void **state) {
        struct ckpt_error err = { .code = -ENOMEM };

        (void)state;
        assert_string_equal(ckpt_error_message(&err), "Cannot allocate memory");
}

/* A code that is not an error would let its caller report success. */
static void test_error_needs_a_code(void **state) {
        int status;
        pid_t pid;

        (void)state;
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct ckpt_error err = CKPT_ERROR_INIT;

                close(STDERR_FILENO);
                signal(SIGABRT, SIG_DFL);
                ckpt_error(&err, 0, "x");
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static char *file_text(int fd) {
        char *text = NULL;

        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_int_equal(read_all(fd, 1 << 24, &text, NULL), 0);
        return text;
}

static void test_log_levels(void **state) {
        (void)state;
        for (int level = LOG_LEVEL_NONE; level < LOG_LEVEL_MAX; level++) {
                _cleanup_close_ int fd = memfd_create("log", MFD_CLOEXEC);
                _cleanup_free_ char *text = NULL;

                log_open(fd, (enum log_level)level, false);
                log_error("to%s", "-error");
                log_warn("to-warn");
                log_info("to-info");
                log_debug("to-debug");
                assert_false(log_enabled(LOG_LEVEL_MAX));
                text = file_text(fd);
                assert_int_equal(strstr(text, "error: to-error\n") != NULL, level >= LOG_LEVEL_ERROR);
                assert_int_equal(strstr(text, "warning: to-warn\n") != NULL, level >= LOG_LEVEL_WARN);
                assert_int_equal(strstr(text, "to-info\n") != NULL, level >= LOG_LEVEL_INFO);
                assert_int_equal(strstr(text, "debug: to-debug\n") != NULL, level >= LOG_LEVEL_DEBUG);
        }
        log_open(-1, LOG_LEVEL_NONE, false);
}

static void test_log_lines(void **state) {
        _cleanup_close_ int fd = memfd_create("log", MFD_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        char longer[5000], pid[32];
        unsigned seconds, micros;
        struct timespec from, to;

        (void)state;
        memset(longer, 'x', sizeof(longer));
        longer[sizeof(longer) - 1] = '\0';
        clock_gettime(CLOCK_MONOTONIC, &from);
        log_open(fd, LOG_LEVEL_DEBUG, true);
        errno = EBUSY;
        log_info("name '%s'\n", "a\nb\033[2J\177\tc");
        log_info("%s", longer);
        for (size_t n = 960; n < 1030; n++) /* around the size of the buffer */
                log_info("%.*s", (int)n, longer);
        assert_int_equal(errno, EBUSY);
        clock_gettime(CLOCK_MONOTONIC, &to);
        log_open(-1, LOG_LEVEL_NONE, false);

        text = file_text(fd);
        assert_int_equal(sscanf(text, "%u.%6u ", &seconds, &micros), 2);
        assert_true(seconds <= (unsigned)(to.tv_sec - from.tv_sec));
        snprintf(pid, sizeof(pid), " [%d] name", (int)getpid());
        assert_non_null(strstr(text, pid));
        assert_non_null(strstr(text, "name 'a;b?[2J??c'\n"));
        assert_non_null(strstr(text, longer));
        assert_null(strstr(text, "x?"));
        size_t lines = 0;
        for (const char *c = text; *c; c++)
                lines += *c == '\n';
        assert_int_equal(lines, 72);
        assert_true(text[strlen(text) - 1] == '\n' && text[strlen(text) - 2] == 'x');
}

/* A sink that is gone or full must neither crash nor stop the work. */
static void test_log_bad_sink(void **state) {
        _cleanup_close_ int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

        (void)state;
        errno = 0;
        log_open(full, LOG_LEVEL_DEBUG, false);
        log_info("x");
        log_open(9999, LOG_LEVEL_DEBUG, false);
        log_info("x");
        log_open(-1, LOG_LEVEL_DEBUG, false);
        log_info("x");
        assert_int_equal(errno, 0);
        log_open(-1, LOG_LEVEL_NONE, false);
}

#define THREADS 4
#define LINES   500

static void *log_many(void *arg) {
        for (int i = 0; i < LINES; i++)
                log_info("thread %p says line %d in full", arg, i);
        return NULL;
}

static void test_log_threads(void **state) {
        char path[] = "/tmp/ckpt-log.XXXXXX";
        _cleanup_close_ int fd = mkostemp(path, O_APPEND | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        pthread_t threads[THREADS];
        char *save = NULL;
        int lines = 0;

        (void)state;
        assert_true(fd >= 0);
        unlink(path);
        log_open(fd, LOG_LEVEL_INFO, false);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, log_many, threads), 0);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        log_open(-1, LOG_LEVEL_NONE, false);

        text = file_text(fd);
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++) {
                unsigned a, b, n;
                char tail[16];
                void *p;

                assert_int_equal(sscanf(line, "%u.%u thread %p says line %u in %15s", &a, &b, &p, &n, tail),
                                 5);
                assert_string_equal(tail, "full");
        }
        assert_int_equal(lines, THREADS * LINES);
}

/* Write in pieces, so that the reader sees short counts. */
static void *feed(void *arg) {
        int fd = *(int *)arg;

        for (int i = 0; i < 100; i++)
                if (write(fd, "0123456789", 10) != 10)
                        break;
        close(fd);
        return NULL;
}

static void test_io_read(void **state) {
        _cleanup_close_ int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        pthread_t thread;
        char buf[2000], *text = NULL;
        size_t size = 0;
        int p[2];

        (void)state;
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        assert_int_equal(pthread_create(&thread, NULL, feed, &p[1]), 0);
        assert_int_equal(read_full(p[0], buf, 995), 995);
        assert_int_equal(buf[994], '4');
        assert_int_equal(read_full(p[0], buf, sizeof(buf)), 5);
        assert_int_equal(read_full(p[0], buf, sizeof(buf)), 0);
        pthread_join(thread, NULL);
        close(p[0]);

        assert_int_equal(read_full(-1, buf, 1), -EBADF);
        assert_int_equal(read_full(-1, buf, 0), 0);
        assert_int_equal(read_all(zero, 10000, &text, &size), -EFBIG);
        assert_null(text);
        assert_int_equal(read_all(-1, 10, &text, &size), -EBADF);
        assert_int_equal(read_all(zero, SIZE_MAX, &text, &size), -EINVAL);
}

static void test_io_read_all(void **state) {
        static const size_t sizes[] = { 0, 1, 4094, 4095, 4096, 4097, 100000 };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_close_ int fd = memfd_create("io", MFD_CLOEXEC);
                _cleanup_free_ char *text = NULL, *data = malloc(sizes[i] + 1);
                size_t size = 77;

                memset(data, 'd', sizes[i]);
                assert_int_equal(write_full(fd, data, sizes[i]), 0);
                lseek(fd, 0, SEEK_SET);
                assert_int_equal(read_all(fd, sizes[i], &text, &size), 0);
                assert_int_equal(size, sizes[i]);
                assert_memory_equal(text, data, size);
                assert_int_equal(text[size], 0);
                if (sizes[i] == 0)
                        continue;
                free(TAKE_PTR(text));
                lseek(fd, 0, SEEK_SET);
                assert_int_equal(read_all(fd, sizes[i] - 1, &text, &size), -EFBIG);
        }
}

static void test_io_write(void **state) {
        _cleanup_close_ int fd = memfd_create("io", MFD_CLOEXEC),
                            full = open("/dev/full", O_WRONLY | O_CLOEXEC);
        char buf[8] = { 0 };

        (void)state;
        assert_int_equal(write_full(fd, "abcdef", 6), 0);
        assert_int_equal(pwrite_full(fd, "XY", 2, 2), 0);
        assert_int_equal(lseek(fd, 0, SEEK_CUR), 6);
        assert_int_equal(pread_full(fd, buf, 4, 1), 4);
        assert_memory_equal(buf, "bXYe", 4);
        assert_int_equal(pread_full(fd, buf, 8, 4), 2);
        assert_int_equal(pread_full(fd, buf, 8, 60), 0);
        assert_int_equal(write_full(full, "x", 1), -ENOSPC);
        assert_int_equal(write_full(-1, "x", 1), -EBADF);
        assert_int_equal(pwrite_full(-1, "x", 1, 0), -EBADF);
        assert_int_equal(pread_full(fd, buf, 1, -1), -EINVAL);
}

static void test_io_advance(void **state) {
        char buf[10];
        struct iovec iov[] = { { buf, 3 }, { buf + 3, 4 }, { buf + 7, 3 } };
        size_t first = 0;

        (void)state;
        iov_advance(iov, &first, 0);
        assert_int_equal(first, 0);
        iov_advance(iov, &first, 2);
        assert_int_equal(first, 0);
        assert_ptr_equal(iov[0].iov_base, buf + 2);
        assert_int_equal(iov[0].iov_len, 1);
        iov_advance(iov, &first, 1);
        assert_int_equal(first, 1);
        assert_int_equal(iov[1].iov_len, 4);
        iov_advance(iov, &first, 5);
        assert_int_equal(first, 2);
        assert_ptr_equal(iov[2].iov_base, buf + 8);
        assert_int_equal(iov[2].iov_len, 2);
        iov_advance(iov, &first, 2);
        assert_int_equal(first, 3);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_error_first_wins),
                cmocka_unit_test(test_error_move),
                cmocka_unit_test(test_error_errno),
                cmocka_unit_test(test_error_nobody_cares),
                cmocka_unit_test(test_error_without_memory),
                cmocka_unit_test(test_error_needs_a_code),
                cmocka_unit_test(test_log_levels),
                cmocka_unit_test(test_log_lines),
                cmocka_unit_test(test_log_bad_sink),
                cmocka_unit_test(test_log_threads),
                cmocka_unit_test(test_io_read),
                cmocka_unit_test(test_io_read_all),
                cmocka_unit_test(test_io_write),
                cmocka_unit_test(test_io_advance),
        };

        return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
