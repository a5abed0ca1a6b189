// Preloaded into a program, it makes listings and look-ups of one process older than those of the
// others: no step-N is listed or found by name, as where a file system's attributes are cached.
// Opening a file by its name works, as it does there. Loaded by the tests of several ranks.

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace {

bool hidden(const char* path) {
  return path != nullptr &&
         (std::strncmp(path, "step-", 5) == 0 || std::strstr(path, "/step-") != nullptr);
}

template <class F>
F* original(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

int not_found() {
  errno = ENOENT;
  return -1;
}

}  // namespace

extern "C" {

int stat(const char* path, struct stat* result) noexcept {
  return hidden(path) ? not_found() : original<decltype(stat)>("stat")(path, result);
}

int lstat(const char* path, struct stat* result) noexcept {
  return hidden(path) ? not_found() : original<decltype(lstat)>("lstat")(path, result);
}

int fstatat(int folder, const char* path, struct stat* result, int flags) noexcept {
  return hidden(path) ? not_found()
                      : original<decltype(fstatat)>("fstatat")(folder, path, result, flags);
}

int statx(int folder, const char* path, int flags, unsigned mask, struct statx* result) noexcept {
  return hidden(path) ? not_found()
                      : original<decltype(statx)>("statx")(folder, path, flags, mask, result);
}

int access(const char* path, int mode) noexcept {
  return hidden(path) ? not_found() : original<decltype(access)>("access")(path, mode);
}

struct dirent* readdir(DIR* folder) {
  for (;;) {
    dirent* entry = original<decltype(readdir)>("readdir")(folder);
    if (entry == nullptr || !hidden(entry->d_name)) return entry;
  }
}

struct dirent64* readdir64(DIR* folder) {
  for (;;) {
    dirent64* entry = original<decltype(readdir64)>("readdir64")(folder);
    if (entry == nullptr || !hidden(entry->d_name)) return entry;
  }
}

}  // extern "C"
