/* Stands between a program and the C library's file operations. Loaded with LD_PRELOAD.
 *
 * FAULTS names a `struct fault` in a file that a test writes to while the program runs: what a full, a read-only or
 * a dying disk does to the real program.
 *
 * TRACE names a file to which everything is appended that changes files below TRACE_ROOT, in the order in which it
 * was done: what a disk had when power was lost can be made of it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

enum { READ = 1, WRITE = 2, SYNC = 4, RENAME = 8, OPEN = 16, CREATE = 32, REMOVE = 64, OPEN_TO_WRITE = 128 };

/* Which operations on paths with this in them fail, and how; none if `operations` is 0. */
struct fault {
    volatile uint32_t operations;
    volatile int32_t error;
    char path[248];
};

/* What was done; the path, the other path and the bytes follow. */
struct record {
    char kind; /* d(irectory), c(reate), w(rite), t(runcate), s(ync), r(ename), u(nlink) */
    char unused[3];
    uint32_t path, other;
    uint32_t length;
    uint64_t offset;
};

static const struct fault *fault;
static const char *root;
static int trace = -1;
/* Held from before an operation until it is written down. */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void) {
    const char *name = getenv("FAULTS");
    int file = name ? syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *shared = mmap(NULL, sizeof *fault, PROT_READ, MAP_SHARED, file, 0);
        if (shared != MAP_FAILED) fault = shared;
        close(file);
    }
    name = getenv("TRACE");
    root = getenv("TRACE_ROOT");
    if (name && root) trace = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CLOEXEC);
}

static int path_of(int file, char *path) {
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t length = readlink(name, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static int fails(uint32_t operations, const char *path) {
    if (!fault || !(fault->operations & operations) || !strstr(path, fault->path)) return 0;
    errno = fault->error;
    return 1;
}

static int fails_on(uint32_t operations, int file) {
    char path[PATH_MAX];
    return fault && (fault->operations & operations) && path_of(file, path) && fails(operations, path);
}

/* Whether something is to be written down; if so, others wait until it is. */
static int begin(const char *path) {
    if (trace < 0 || strncmp(path, root, strlen(root))) return 0;
    pthread_mutex_lock(&order);
    return 1;
}

static int begin_on(int file, char *path) { return trace >= 0 && path_of(file, path) && begin(path); }

static void end(int done, char kind, const char *path, const char *other, const void *bytes, size_t length,
                uint64_t offset) {
    int error = errno;
    if (done) {
        struct record record = {.kind = kind, .path = strlen(path), .other = strlen(other), .length = length,
                                .offset = offset};
        struct iovec parts[] = {{&record, sizeof record}, {(void *)path, record.path}, {(void *)other, record.other},
                                {(void *)bytes, bytes ? length : 0}};
        if (syscall(SYS_writev, trace, parts, 4) < 0) abort();
    }
    pthread_mutex_unlock(&order);
    errno = error;
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
        if (fails(operations, path)) return -1;                                                      \
        int traced = flags & O_CREAT && access(path, F_OK) && begin(path);                           \
        int file = REAL(name)(path, flags, mode);                                                    \
        if (traced) end(file >= 0, 'c', path, "", NULL, 0, 0);                                       \
        return file;                                                                                 \
    }
OPENS(open)
OPENS(open64)

#define READS(name, declared, passed) \
    ssize_t name declared { return fails_on(READ, file) ? -1 : REAL(name) passed; }
READS(read, (int file, void *to, size_t length), (file, to, length))
READS(pread, (int file, void *to, size_t length, off_t at), (file, to, length, at))
READS(pread64, (int file, void *to, size_t length, off64_t at), (file, to, length, at))
READS(preadv2, (int file, const struct iovec *to, int count, off_t at, int flags), (file, to, count, at, flags))
READS(preadv64v2, (int file, const struct iovec *to, int count, off64_t at, int flags), (file, to, count, at, flags))
READS(sendfile, (int to, int file, off_t *at, size_t count), (to, file, at, count))
READS(sendfile64, (int to, int file, off64_t *at, size_t count), (to, file, at, count))

/* A write without a place is for what is not in the data directory. */
ssize_t write(int file, const void *from, size_t length) {
    return fails_on(WRITE, file) ? -1 : REAL(write)(file, from, length);
}

#define CHANGES(operation, kind, result, name, declared, passed, bytes, length, at) \
    result name declared {                                                          \
        char path[PATH_MAX];                                                        \
        if (fails_on(operation, file)) return -1;                                   \
        int traced = begin_on(file, path);                                          \
        result done = REAL(name) passed;                                            \
        if (traced) end(done >= 0, kind, path, "", bytes, length, at);              \
        return done;                                                                \
    }
CHANGES(WRITE, 'w', ssize_t, pwrite, (int file, const void *from, size_t count, off_t at), (file, from, count, at),
        from, done, at)
CHANGES(WRITE, 'w', ssize_t, pwrite64, (int file, const void *from, size_t count, off64_t at),
        (file, from, count, at), from, done, at)

/* What several parts come to, one behind the other. */
#define WRITES_PARTS(name, place)                                                                    \
    ssize_t name(int file, const struct iovec *parts, int count, place at) {                         \
        char path[PATH_MAX];                                                                         \
        if (fails_on(WRITE, file)) return -1;                                                        \
        int traced = begin_on(file, path);                                                           \
        ssize_t done = REAL(name)(file, parts, count, at);                                           \
        if (traced) {                                                                                \
            int error = errno;                                                                       \
            size_t length = done < 0 ? 0 : done, have = 0;                                           \
            char *bytes = malloc(length + 1);                                                        \
            if (!bytes) abort();                                                                     \
            for (int i = 0; have < length; i++) {                                                    \
                size_t part = parts[i].iov_len < length - have ? parts[i].iov_len : length - have;   \
                memcpy(bytes + have, parts[i].iov_base, part);                                       \
                have += part;                                                                        \
            }                                                                                        \
            errno = error;                                                                           \
            end(done >= 0, 'w', path, "", bytes, length, at);                                        \
            free(bytes);                                                                             \
        }                                                                                            \
        return done;                                                                                 \
    }
WRITES_PARTS(pwritev, off_t)
WRITES_PARTS(pwritev64, off64_t)

CHANGES(WRITE, 't', int, ftruncate, (int file, off_t size), (file, size), NULL, 0, size)
CHANGES(WRITE, 't', int, ftruncate64, (int file, off64_t size), (file, size), NULL, 0, size)
CHANGES(SYNC, 's', int, fsync, (int file), (file), NULL, 0, 0)
CHANGES(SYNC, 's', int, fdatasync, (int file), (file), NULL, 0, 0)

#define NAMES(operation, kind, name, declared, passed, path, other)   \
    int name declared {                                               \
        if (fails(operation, path)) return -1;                        \
        int traced = begin(path);                                     \
        int done = REAL(name) passed;                                 \
        if (traced) end(done >= 0, kind, path, other, NULL, 0, 0);    \
        return done;                                                  \
    }
NAMES(RENAME, 'r', rename, (const char *from, const char *to), (from, to), from, to)
NAMES(REMOVE, 'u', unlink, (const char *path), (path), path, "")
NAMES(CREATE, 'd', mkdir, (const char *path, mode_t mode), (path, mode), path, "")
