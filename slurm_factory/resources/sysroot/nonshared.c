/* Functions that every program and library has of its own where its C library is older than 2.33
   (stat and its kin, which were inline) or than 2.36 (the system calls of the mount API, which
   configure of Slurm 26.05 looks for in the headers), or of any age (atexit, at_quick_exit,
   pthread_atfork). */

#define _GNU_SOURCE
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

#if defined(__x86_64__)
#define STAT_VERSION 1
#else
#define STAT_VERSION 0
#endif
#define MKNOD_VERSION 0

extern int __xstat(int, const char *, struct stat *);
extern int __fxstat(int, int, struct stat *);
extern int __lxstat(int, const char *, struct stat *);
extern int __fxstatat(int, int, const char *, struct stat *, int);
extern int __xstat64(int, const char *, struct stat64 *);
extern int __fxstat64(int, int, struct stat64 *);
extern int __lxstat64(int, const char *, struct stat64 *);
extern int __fxstatat64(int, int, const char *, struct stat64 *, int);
extern int __xmknod(int, const char *, mode_t, dev_t *);
extern int __xmknodat(int, int, const char *, mode_t, dev_t *);

HIDDEN int stat(const char *restrict path, struct stat *restrict status)
{
    return __xstat(STAT_VERSION, path, status);
}

HIDDEN int fstat(int file, struct stat *status)
{
    return __fxstat(STAT_VERSION, file, status);
}

HIDDEN int lstat(const char *restrict path, struct stat *restrict status)
{
    return __lxstat(STAT_VERSION, path, status);
}

HIDDEN int fstatat(int directory, const char *restrict path, struct stat *restrict status,
                   int flags)
{
    return __fxstatat(STAT_VERSION, directory, path, status, flags);
}

HIDDEN int stat64(const char *restrict path, struct stat64 *restrict status)
{
    return __xstat64(STAT_VERSION, path, status);
}

HIDDEN int fstat64(int file, struct stat64 *status)
{
    return __fxstat64(STAT_VERSION, file, status);
}

HIDDEN int lstat64(const char *restrict path, struct stat64 *restrict status)
{
    return __lxstat64(STAT_VERSION, path, status);
}

HIDDEN int fstatat64(int directory, const char *restrict path, struct stat64 *restrict status,
                     int flags)
{
    return __fxstatat64(STAT_VERSION, directory, path, status, flags);
}

HIDDEN int mknod(const char *path, mode_t mode, dev_t device)
{
    return __xmknod(MKNOD_VERSION, path, mode, &device);
}

HIDDEN int mknodat(int directory, const char *path, mode_t mode, dev_t device)
{
    return __xmknodat(MKNOD_VERSION, directory, path, mode, &device);
}

/* Of the program or library that calls: they say when it is unloaded. */
extern void *__dso_handle HIDDEN;
extern int __cxa_atexit(void (*)(void *), void *, void *);
extern int __cxa_at_quick_exit(void (*)(void *), void *);
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *);

HIDDEN int atexit(void (*function)(void))
{
    return __cxa_atexit((void (*)(void *))function, NULL, __dso_handle);
}

HIDDEN int at_quick_exit(void (*function)(void))
{
    return __cxa_at_quick_exit((void (*)(void *))function, __dso_handle);
}

HIDDEN int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return __register_atfork(prepare, parent, child, __dso_handle);
}

/* fsopen(2), fsconfig(2), fsmount(2), move_mount(2), open_tree(2), fspick(2), mount_setattr(2). */
struct mount_attr;

HIDDEN int fsopen(const char *name, unsigned int flags)
{
    return (int)syscall(SYS_fsopen, name, flags);
}

HIDDEN int fsconfig(int file, unsigned int command, const char *key, const void *value, int aux)
{
    return (int)syscall(SYS_fsconfig, file, command, key, value, aux);
}

HIDDEN int fsmount(int file, unsigned int flags, unsigned int attributes)
{
    return (int)syscall(SYS_fsmount, file, flags, attributes);
}

HIDDEN int move_mount(int from, const char *path, int to, const char *target, unsigned int flags)
{
    return (int)syscall(SYS_move_mount, from, path, to, target, flags);
}

HIDDEN int open_tree(int directory, const char *path, unsigned int flags)
{
    return (int)syscall(SYS_open_tree, directory, path, flags);
}

HIDDEN int fspick(int directory, const char *path, unsigned int flags)
{
    return (int)syscall(SYS_fspick, directory, path, flags);
}

HIDDEN int mount_setattr(int directory, const char *path, unsigned int flags,
                         struct mount_attr *attributes, size_t size)
{
    return (int)syscall(SYS_mount_setattr, directory, path, flags, attributes, size);
}
