/* Preloaded into paidup: while /run/paidup-disk-hangs exists, a sync never comes back, as on a disk
   or a network file system that has stopped answering. */
#include <sys/syscall.h>
#include <unistd.h>

static int sync_or_hang(int descriptor) {
    while (access("/run/paidup-disk-hangs", F_OK) == 0)
        usleep(50000);
    return syscall(SYS_fdatasync, descriptor);
}

int fsync(int descriptor) { return sync_or_hang(descriptor); }
int fdatasync(int descriptor) { return sync_or_hang(descriptor); }
