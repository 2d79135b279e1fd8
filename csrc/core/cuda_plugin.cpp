#include "core/cuda_plugin.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

namespace convcore::cuda {
namespace {

// The folder of the library that this code is in: _core's own.
std::string own_folder() {
  Dl_info info{};
  static const char here = 0;
  if (!dladdr(&here, &info) || !info.dli_fname) return "";
  const std::string file = info.dli_fname;
  const size_t slash = file.rfind('/');
  return slash == std::string::npos ? "" : file.substr(0, slash + 1);
}

struct Plugin {
  const Api* api = nullptr;
  std::string reason;

  Plugin() {
    const char* named = std::getenv("CONVCORE_CUDA_LIBRARY");
    const bool given = named && *named;
    const std::string file = given ? named : own_folder() + "libconvcore_cuda.so";
    // For ever: it has threads and a context of the driver. Its symbols are nobody else's.
    void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      const char* error = dlerror();
      const bool absent = error && std::strstr(error, "No such file") && std::strstr(error, file.c_str());
      if (absent && !given)
        reason = "this build of convcore has no CUDA plug-in (see docs/cuda.md, Building)";
      else
        reason = "the CUDA plug-in cannot be opened: " + std::string(error ? error : file);
      return;
    }
    using Entry = const Api* (*)(uint32_t);
    const auto entry = reinterpret_cast<Entry>(dlsym(library, "convcore_cuda_api"));
    const Api* table = entry ? entry(kApiVersion) : nullptr;
    if (!table || table->size != sizeof(Api)) {
      reason = "the CUDA plug-in " + file + " belongs to another version of convcore";
      return;
    }
    api = table;
    if (const char* why = table->probe()) reason = why;
  }
};

const Plugin& plugin() {
  static const Plugin once;
  return once;
}

class OutOfDeviceMemory : public std::bad_alloc {
 public:
  explicit OutOfDeviceMemory(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

}  // namespace

const std::string& unavailable_reason() { return plugin().reason; }

const Api& api() {
  const Plugin& p = plugin();
  if (!p.reason.empty()) throw std::runtime_error("CUDA is not available: " + p.reason);
  return *p.api;
}

const Api* opened() { return plugin().api; }

void check(const char* message) {
  if (!message) return;
  if (std::strncmp(message, kOutOfMemory, std::strlen(kOutOfMemory)) == 0) throw OutOfDeviceMemory(message);
  throw std::runtime_error(message);
}

}  // namespace convcore::cuda
