/* Makes writes and syncs of files fail, for tests. It is loaded before libc with LD_PRELOAD. The file in FAILING_DISK
 * says what fails: "ERRNO CALL PART". With "28 write -wal", every write to a file whose path contains "-wal"
 * fails with ENOSPC. While there is no such file, nothing fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int fd, const char *call) {
    const char *control = getenv("FAILING_DISK");
    if (!control) return 0;
    int file = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY);
    if (file < 0) return 0;
    char text[128] = {0}, link[64], path[512] = {0}, wanted[16], part[64];
    ssize_t length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    int error;
    if (length <= 0 || sscanf(text, "%d %15s %63s", &error, wanted, part) != 3 || strcmp(wanted, call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1) <= 0 || !strstr(path, part)) return 0;
    errno = error;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return fails(fd, "write") ? -1 : syscall(SYS_write, fd, bytes, count);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return fails(fd, "write") ? -1 : syscall(SYS_pwrite64, fd, bytes, count, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return fails(fd, "write") ? -1 : syscall(SYS_pwrite64, fd, bytes, count, at);
}
int fsync(int fd) { return fails(fd, "sync") ? -1 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return fails(fd, "sync") ? -1 : syscall(SYS_fdatasync, fd); }
