/* A disk that can be watched, and that fails on command: loaded into a writer by LD_PRELOAD.
 *
 * DISK_DIR     the directory that is on this disk
 * DISK_TRACE   a file that gets what happens to it, in order: what is written and synced, and what
 *              the process says (lines that begin with '@' on its standard output)
 * DISK_FAIL    which operation of the disk fails, counted from 1
 * DISK_HOW     how: eio, enospc, or short (a write stops half way, and the next one says enospc);
 *              sync counts syncs alone, and fails one by eio
 * DISK_FULL    a file: while it is there, whatever would grow a file fails by enospc
 * DISK_ROOM    bytes that the disk says are free while DISK_FULL is there; else that it has much
 *
 * A record of the trace is: kind (1 byte), length of the path (2), offset (8), length of the data
 * (4), path, data; numbers are little-endian. Kinds: W write, T truncate (offset is the size),
 * B and S begin and end of a sync, with its number as offset, C create, M make a directory,
 * R rename (data is the new path), U unlink, A what the process says, F an operation failed.
 *
 * A write is noted when it has been made, a sync when it begins and when it has been made: what is
 * under way when a sync begins is not taken to be covered by it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) real;                                                             \
        if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                              \
        real;                                                                                      \
    })

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *dir, *full;
static size_t dir_len;
static int trace = -1, how, short_before;
static long fail_at, operations;
static uint64_t syncs, room;
enum { EIO_, ENOSPC_, SHORT_, SYNC_ };

__attribute__((constructor)) static void start(void) {
    dir = getenv("DISK_DIR");
    if (!dir) return;
    dir_len = strlen(dir);
    full = getenv("DISK_FULL");
    const char *text = getenv("DISK_FAIL");
    fail_at = text ? atol(text) : 0;
    text = getenv("DISK_HOW");
    how = !text || !strcmp(text, "eio") ? EIO_
        : !strcmp(text, "enospc")       ? ENOSPC_
        : !strcmp(text, "short")        ? SHORT_
                                        : SYNC_;
    text = getenv("DISK_ROOM");
    room = text ? (uint64_t)atoll(text) : (uint64_t)1 << 40;
    text = getenv("DISK_TRACE");
    if (text) trace = REAL(open)(text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

static int is_ours(const char *path) {
    return dir && !strncmp(path, dir, dir_len) && (path[dir_len] == '/' || !path[dir_len]);
}

/* The path of an open file, without the directory; 0 if it is not on this disk. */
static const char *path_of(int fd, char *buffer, size_t size) {
    if (!dir || fd < 0) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, size - 1);
    if (length <= 0) return 0;
    buffer[length] = 0;
    return is_ours(buffer) ? buffer + dir_len : 0;
}

static void put_all(const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t done = REAL(write)(trace, at, size);
        if (done <= 0) abort();
        at += done;
        size -= (size_t)done;
    }
}

/* Call with the lock held. */
static void note(char kind, const char *path, uint64_t offset, const void *data, size_t size) {
    if (trace < 0) return;
    unsigned char head[15] = {(unsigned char)kind};
    uint16_t path_size = (uint16_t)strlen(path);
    uint32_t data_size = (uint32_t)size;
    memcpy(head + 1, &path_size, 2);
    memcpy(head + 3, &offset, 8);
    memcpy(head + 11, &data_size, 4);
    put_all(head, sizeof head);
    put_all(path, path_size);
    put_all(data, size);
}

/* Counts an operation; true if it is the one to fail. Sets errno. */
static int fails_of(const char *path, int is_sync) {
    if (!fail_at || (how == SYNC_ && !is_sync)) return 0;
    if (__sync_add_and_fetch(&operations, 1) != fail_at) return 0;
    errno = how == EIO_ || how == SYNC_ ? EIO : ENOSPC;
    int error = errno;
    pthread_mutex_lock(&lock);
    note('F', path, (uint64_t)fail_at, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return 1;
}

static int fails(const char *path) { return fails_of(path, 0); }

/* True if a write up to `end` would grow a file of a full disk. */
static int is_full(int fd, off_t end) {
    if (!full || access(full, F_OK)) return 0;
    struct stat now;
    if (fstat(fd, &now) || end <= now.st_size) return 0;
    errno = ENOSPC;
    return 1;
}

static ssize_t write_at(int fd, const void *data, size_t size, off_t offset, const char *path) {
    if (is_full(fd, offset + (off_t)size)) return -1;
    if (short_before && size > 0) {
        short_before = 0;
        errno = ENOSPC;
        return -1;
    }
    if (fails(path)) {
        if (how != SHORT_) return -1;
        short_before = 1;
        size = size > 1 ? size / 2 : size;
    }
    ssize_t done = REAL(pwrite)(fd, data, size, offset);
    if (done > 0) {
        pthread_mutex_lock(&lock);
        note('W', path, (uint64_t)offset, data, (size_t)done);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    char buffer[4096];
    const char *path = path_of(fd, buffer, sizeof buffer);
    return path ? write_at(fd, data, size, offset, path) : REAL(pwrite)(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return pwrite(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size) {
    if (dir && fd == 1 && size > 0 && *(const char *)data == '@') {
        pthread_mutex_lock(&lock);
        note('A', "", 0, data, size);
        pthread_mutex_unlock(&lock);
        return REAL(write)(fd, data, size);
    }
    char buffer[4096];
    const char *path = fd > 2 && fd != trace ? path_of(fd, buffer, sizeof buffer) : 0;
    if (!path) return REAL(write)(fd, data, size);
    int flags = fcntl(fd, F_GETFL);
    off_t offset = lseek(fd, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = write_at(fd, data, size, offset, path);
    if (done > 0) lseek(fd, offset + done, SEEK_SET);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char buffer[4096];
    if (fd <= 2 || !path_of(fd, buffer, sizeof buffer)) return REAL(writev)(fd, parts, count);
    for (int i = 0; i < count; i++)
        if (parts[i].iov_len) return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

int ftruncate(int fd, off_t size) {
    char buffer[4096];
    const char *path = path_of(fd, buffer, sizeof buffer);
    if (path && (is_full(fd, size) || fails(path))) return -1;
    int done = REAL(ftruncate)(fd, size);
    if (!done && path) {
        pthread_mutex_lock(&lock);
        note('T', path, (uint64_t)size, "", 0);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int fallocate(int fd, int mode, off_t offset, off_t size) {
    char buffer[4096];
    if (!path_of(fd, buffer, sizeof buffer)) return REAL(fallocate)(fd, mode, offset, size);
    errno = EOPNOTSUPP;
    return -1;
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
    return fallocate(fd, mode, offset, size);
}

int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    char buffer[4096];
    if (!path_of(fd, buffer, sizeof buffer)) return REAL(posix_fallocate64)(fd, offset, size);
    return EOPNOTSUPP;
}

static int sync_of(int fd, int (*real)(int)) {
    char buffer[4096];
    const char *path = path_of(fd, buffer, sizeof buffer);
    if (!path) return real(fd);
    if (fails_of(path, 1)) return -1;
    pthread_mutex_lock(&lock);
    uint64_t number = ++syncs;
    note('B', path, number, "", 0);
    pthread_mutex_unlock(&lock);
    int done = real(fd);
    if (!done) {
        pthread_mutex_lock(&lock);
        note('S', path, number, "", 0);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int fsync(int fd) { return sync_of(fd, REAL(fsync)); }
int fdatasync(int fd) { return sync_of(fd, REAL(fdatasync)); }

/* Not a sync: it flushes no device and no metadata. Yet it can fail. */
int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags) {
    char buffer[4096];
    const char *path = path_of(fd, buffer, sizeof buffer);
    if (path && fails(path)) return -1;
    return REAL(sync_file_range)(fd, offset, size, flags);
}

static int open_of(int at, const char *name, int flags, mode_t mode) {
    char whole[4096];
    const char *path = name;
    if (*name != '/' && dir) {
        char *cwd = getcwd(whole, sizeof whole);
        size_t used = cwd ? strlen(cwd) : 0;
        snprintf(whole + used, sizeof whole - used, "/%s", name);
        path = whole;
    }
    int ours = is_ours(path);
    int is_new = ours && flags & O_CREAT && access(name, F_OK);
    if (is_new && full && !access(full, F_OK)) {
        errno = ENOSPC;
        return -1;
    }
    if (ours && flags & (O_CREAT | O_WRONLY | O_RDWR) && fails(path + dir_len)) return -1;
    int fd = REAL(openat)(at, name, flags, mode);
    if (fd >= 0 && ours && (is_new || flags & O_TRUNC)) {
        pthread_mutex_lock(&lock);
        if (is_new) note('C', path + dir_len, 0, "", 0);
        else note('T', path + dir_len, 0, "", 0);
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

#define MODE(flags)                                                                                \
    ({                                                                                             \
        mode_t mode = 0;                                                                           \
        if ((flags) & (O_CREAT | O_TMPFILE)) {                                                     \
            va_list rest;                                                                          \
            va_start(rest, flags);                                                                 \
            mode = va_arg(rest, mode_t);                                                           \
            va_end(rest);                                                                          \
        }                                                                                          \
        mode;                                                                                      \
    })

int open(const char *name, int flags, ...) { return open_of(AT_FDCWD, name, flags, MODE(flags)); }
int open64(const char *name, int flags, ...) {
    return open_of(AT_FDCWD, name, flags | O_LARGEFILE, MODE(flags));
}
int openat(int at, const char *name, int flags, ...) { return open_of(at, name, flags, MODE(flags)); }
int openat64(int at, const char *name, int flags, ...) {
    return open_of(at, name, flags | O_LARGEFILE, MODE(flags));
}

int mkdir(const char *name, mode_t mode) {
    int ours = is_ours(name);
    if (ours && fails(name + dir_len)) return -1;
    int done = REAL(mkdir)(name, mode);
    if (!done && ours) {
        pthread_mutex_lock(&lock);
        note('M', name + dir_len, 0, "", 0);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int rename(const char *from, const char *to) {
    int ours = is_ours(from) && is_ours(to);
    if (ours && fails(from + dir_len)) return -1;
    int done = REAL(rename)(from, to);
    if (!done && ours) {
        pthread_mutex_lock(&lock);
        note('R', from + dir_len, 0, to + dir_len, strlen(to + dir_len));
        pthread_mutex_unlock(&lock);
    }
    return done;
}

int unlink(const char *name) {
    int ours = is_ours(name);
    if (ours && fails(name + dir_len)) return -1;
    int done = REAL(unlink)(name);
    if (!done && ours) {
        pthread_mutex_lock(&lock);
        note('U', name + dir_len, 0, "", 0);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

static int space_of(int ours, int done, struct statvfs *space) {
    if (!done && ours && full) {
        uint64_t left = access(full, F_OK) ? (uint64_t)1 << 40 : room;
        space->f_bavail = space->f_bfree = left / space->f_frsize;
    }
    return done;
}

int statvfs(const char *name, struct statvfs *space) {
    return space_of(is_ours(name), REAL(statvfs)(name, space), space);
}

int fstatvfs(int fd, struct statvfs *space) {
    char buffer[4096];
    return space_of(path_of(fd, buffer, sizeof buffer) != 0, REAL(fstatvfs)(fd, space), space);
}

int statvfs64(const char *name, struct statvfs64 *space) {
    return space_of(is_ours(name), REAL(statvfs64)(name, space), (struct statvfs *)space);
}

int fstatvfs64(int fd, struct statvfs64 *space) {
    char buffer[4096];
    int done = REAL(fstatvfs64)(fd, space);
    return space_of(path_of(fd, buffer, sizeof buffer) != 0, done, (struct statvfs *)space);
}
