/* Preloaded into paidup: the disk as a test wants it.

   The test shares the file named in DISK with this library: it says which call on the database's
   files is to fail and how, and hears how many there were. The file named in DISK_RECORD gets every
   change that reached those files, every sync, every answer 200 and every message to the shop, in
   their order, of all processes that write there. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* Kinds of calls, the same numbers as in disk.rs. */
enum kind { WRITE = 1, SYNC, SYNC_FOLDER, READ, TRUNCATE, OPEN, UNLINK, MAP };
/* What happens at the call that is to fail: one of these, or else an errno. */
enum effect { HALF = 1000, KILL, HALF_AND_KILL };
/* What is recorded besides WRITE, SYNC, TRUNCATE, UNLINK, and OPEN for a file that was made. */
enum { FAILED_SYNC = 20, ANSWER, RENAME, MESSAGE };
enum file { NONE = -1, DATABASE, LOG, JOURNAL, NEW, SHARED, FOLDER };

static struct {
    volatile uint32_t kind, effect, at, lasts, seen;
} *disk;
static const char *database = "";
static int record = -1;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static int real_open(const char *path, int flags, mode_t mode) {
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

__attribute__((constructor)) static void start(void) {
    const char *shared = getenv("DISK"), *recorded = getenv("DISK_RECORD");
    if (getenv("DATABASE_PATH"))
        database = getenv("DATABASE_PATH");
    if (shared) {
        int descriptor = real_open(shared, O_RDWR | O_CLOEXEC, 0);
        long page = syscall(SYS_mmap, 0, sizeof *disk, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (page == -1)
            abort();
        disk = (void *)page;
        close(descriptor);
    }
    if (recorded)
        record = real_open(recorded, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* What is done and what is recorded of it are one, for all threads and all processes. */
static void enter(void) {
    pthread_mutex_lock(&order);
    if (record >= 0)
        flock(record, LOCK_EX);
}

static void leave(void) {
    if (record >= 0)
        flock(record, LOCK_UN);
    pthread_mutex_unlock(&order);
}

static enum file file_named(const char *path) {
    size_t length = strlen(database);
    if (length == 0)
        return NONE;
    const char *end = strrchr(database, '/');
    size_t folder = end ? (size_t)(end - database) : 0;
    if (strlen(path) == folder && strncmp(path, database, folder) == 0)
        return FOLDER;
    if (strncmp(path, database, length) != 0)
        return NONE;
    const char *endings[] = {"", "-wal", "-journal", ".new", "-shm"};
    for (int file = DATABASE; file <= SHARED; file++)
        if (strcmp(path + length, endings[file]) == 0)
            return file;
    return NONE;
}

static enum file file_of(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return NONE;
    path[length] = 0;
    return file_named(path);
}

/* What is to happen to this call; 0 is nothing. */
static unsigned strike(enum kind kind) {
    if (!disk || disk->kind != kind)
        return 0;
    uint32_t number = __sync_add_and_fetch(&disk->seen, 1), at = disk->at;
    if (at == 0 || number < at || (number > at && !disk->lasts))
        return 0;
    /* A short write is one; what follows it is the full disk that made it short. */
    if (disk->effect == HALF && number > at)
        return ENOSPC;
    if (disk->effect == KILL)
        kill(getpid(), SIGKILL);
    return disk->effect;
}

static void note(int what, enum file file, uint64_t offset, const void *bytes, uint64_t length) {
    if (record < 0 || file == SHARED)
        return;
    uint64_t head[4] = {what, file, offset, length};
    if (write(record, head, sizeof head) != sizeof head ||
        (bytes && write(record, bytes, length) != (ssize_t)length))
        abort();
}

static int fail(unsigned code) {
    errno = code;
    return -1;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t offset) {
    enum file file = file_of(descriptor);
    unsigned effect = file == NONE ? 0 : strike(WRITE);
    if (effect == HALF || effect == HALF_AND_KILL)
        count /= 2;
    else if (effect)
        return fail(effect);
    enter();
    ssize_t written = syscall(SYS_pwrite64, descriptor, bytes, count, offset);
    if (file != NONE && written > 0)
        note(WRITE, file, offset, bytes, written);
    leave();
    if (effect == HALF_AND_KILL)
        kill(getpid(), SIGKILL);
    return written;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t offset) {
    return pwrite64(descriptor, bytes, count, offset);
}

ssize_t pread64(int descriptor, void *bytes, size_t count, off64_t offset) {
    unsigned effect = file_of(descriptor) == NONE ? 0 : strike(READ);
    if (effect)
        return fail(effect);
    return syscall(SYS_pread64, descriptor, bytes, count, offset);
}

ssize_t pread(int descriptor, void *bytes, size_t count, off_t offset) {
    return pread64(descriptor, bytes, count, offset);
}

static int sync_file(int descriptor, long call) {
    enum file file = file_of(descriptor);
    unsigned effect = file == NONE ? 0 : strike(file == FOLDER ? SYNC_FOLDER : SYNC);
    enter();
    if (file != NONE)
        note(effect ? FAILED_SYNC : SYNC, file, 0, 0, 0);
    /* Not for real: what a power cut would leave is computed from the record, not from this disk. */
    int done = effect ? fail(effect) : file == NONE ? (int)syscall(call, descriptor) : 0;
    leave();
    return done;
}

int fsync(int descriptor) { return sync_file(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return sync_file(descriptor, SYS_fdatasync); }

int ftruncate64(int descriptor, off64_t length) {
    enum file file = file_of(descriptor);
    unsigned effect = file == NONE ? 0 : strike(TRUNCATE);
    if (effect)
        return fail(effect);
    enter();
    int done = syscall(SYS_ftruncate, descriptor, length);
    if (file != NONE && done == 0)
        note(TRUNCATE, file, length, 0, 0);
    leave();
    return done;
}

int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

static int open_file(const char *path, int flags, mode_t mode) {
    enum file file = file_named(path);
    unsigned effect = file == NONE ? 0 : strike(OPEN);
    if (effect)
        return fail(effect);
    enter();
    int is_new = file != NONE && flags & O_CREAT && access(path, F_OK) != 0;
    int descriptor = real_open(path, flags, mode);
    if (is_new && descriptor >= 0)
        note(OPEN, file, 0, 0, 0);
    leave();
    return descriptor;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_file(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_file(path, flags, mode);
}

int unlink(const char *path) {
    enum file file = file_named(path);
    unsigned effect = file == NONE ? 0 : strike(UNLINK);
    if (effect)
        return fail(effect);
    enter();
    int done = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (file != NONE && done == 0)
        note(UNLINK, file, 0, 0, 0);
    leave();
    return done;
}

int rename(const char *from, const char *to) {
    enum file file = file_named(from);
    unsigned effect = file == NONE ? 0 : strike(UNLINK);
    if (effect)
        return fail(effect);
    pthread_mutex_lock(&order);
    int done = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (file != NONE && done == 0)
        note(RENAME, file, file_named(to), 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}

void *mmap64(void *at, size_t length, int access, int flags, int descriptor, off64_t offset) {
    unsigned effect = descriptor < 0 || file_of(descriptor) == NONE ? 0 : strike(MAP);
    if (effect) {
        errno = effect;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, length, access, flags, descriptor, offset);
}

void *mmap(void *at, size_t length, int access, int flags, int descriptor, off_t offset) {
    return mmap64(at, length, access, flags, descriptor, offset);
}

static int begins(const void *bytes, size_t count, const char *text) {
    return count >= strlen(text) && memcmp(bytes, text, strlen(text)) == 0;
}

/* Before it is sent: whoever has it may rely on all that is recorded before it. */
ssize_t send(int descriptor, const void *bytes, size_t count, int flags) {
    int is_answer = begins(bytes, count, "HTTP/1.1 200");
    int is_message = begins(bytes, count, "POST ") || begins(bytes, count, "{\"type\":\"order.changed\"");
    if (record >= 0 && (is_answer || is_message)) {
        enter();
        note(is_answer ? ANSWER : MESSAGE, DATABASE, 0, bytes, count);
        leave();
    }
    return syscall(SYS_sendto, descriptor, bytes, count, flags, 0, 0);
}
