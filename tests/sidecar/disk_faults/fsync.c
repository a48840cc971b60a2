/* Loaded before libc (LD_PRELOAD): while the file named by AGENTCOM_TEST_EIO exists, fsync fails with EIO; of folders only
   when its first byte is 'd', of files only when it is 'f'. The bytes may be on the disk all the same, as on a real one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  const char *path = getenv("AGENTCOM_TEST_EIO");
  int ordered = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (ordered >= 0) {
    char kind = 0;
    struct stat what;
    ssize_t got = read(ordered, &kind, 1);
    close(ordered);
    if (got == 1 && fstat(fd, &what) == 0 && (kind == 'd') == (S_ISDIR(what.st_mode) != 0)) {
      errno = EIO;
      return -1;
    }
  }
  return real(fd);
}
