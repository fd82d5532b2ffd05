/* Stands between a program and the C library's file operations, and lets them fail as a test says: what a full, a
 * read-only or a dying disk does to the real program. Loaded with LD_PRELOAD; FAULTS names a file of `struct fault`s
 * that the test writes to while the program runs. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ = 1, WRITE = 2, SYNC = 4, RENAME = 8, OPEN = 16, CREATE = 32, REMOVE = 64, OPEN_TO_WRITE = 128 };

/* Which operations on paths with this in them fail, and how; none if `operations` is 0. */
struct fault {
    volatile uint32_t operations;
    volatile int32_t error;
    char path[248];
};

static const struct fault *fault;

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("FAULTS");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof *fault, PROT_READ, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED) fault = shared;
    close(file);
}

static int fails(uint32_t operations, const char *path) {
    if (!fault || !(fault->operations & operations) || !strstr(path, fault->path)) return 0;
    errno = fault->error;
    return 1;
}

static int fails_on(uint32_t operations, int file) {
    char name[32], path[PATH_MAX];
    if (!fault || !(fault->operations & operations)) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(operations, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                                                                  \
    int name(const char *path, int flags, ...) {                                                     \
        va_list rest;                                                                                \
        va_start(rest, flags);                                                                       \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                    \
        va_end(rest);                                                                                \
        uint32_t operations = OPEN;                                                                  \
        if (flags & O_CREAT) operations |= CREATE;                                                   \
        if ((flags & O_ACCMODE) != O_RDONLY) operations |= OPEN_TO_WRITE;                            \
        return fails(operations, path) ? -1 : REAL(name)(path, flags, mode);                         \
    }
OPENS(open)
OPENS(open64)

#define ON_FILE(operation, result, name, declared, passed) \
    result name declared { return fails_on(operation, file) ? -1 : REAL(name) passed; }
ON_FILE(READ, ssize_t, read, (int file, void *to, size_t length), (file, to, length))
ON_FILE(READ, ssize_t, pread, (int file, void *to, size_t length, off_t at), (file, to, length, at))
ON_FILE(READ, ssize_t, pread64, (int file, void *to, size_t length, off64_t at), (file, to, length, at))
ON_FILE(WRITE, ssize_t, write, (int file, const void *from, size_t length), (file, from, length))
ON_FILE(WRITE, ssize_t, pwrite, (int file, const void *from, size_t length, off_t at), (file, from, length, at))
ON_FILE(WRITE, ssize_t, pwrite64, (int file, const void *from, size_t length, off64_t at), (file, from, length, at))
ON_FILE(WRITE, int, ftruncate, (int file, off_t length), (file, length))
ON_FILE(WRITE, int, ftruncate64, (int file, off64_t length), (file, length))
ON_FILE(SYNC, int, fsync, (int file), (file))
ON_FILE(SYNC, int, fdatasync, (int file), (file))

int rename(const char *from, const char *to) { return fails(RENAME, to) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return fails(REMOVE, path) ? -1 : REAL(unlink)(path); }
int mkdir(const char *path, mode_t mode) { return fails(CREATE, path) ? -1 : REAL(mkdir)(path, mode); }
