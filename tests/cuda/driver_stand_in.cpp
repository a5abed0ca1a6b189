// A libcuda.so.1 without a card behind it, for a library that compiles for a card it is told of: it
// takes the code of kernels and runs none. cuDNN asks the driver for no more than that to build a
// plan from device properties ("deviceless" compilation, since 9.8).
#include <string>
#include <vector>

namespace ink {
namespace {

std::vector<std::string>& looked_up() {
  static std::vector<std::string> names;
  return names;
}

// CUresult of cuda.h. The header itself is not here: it renames functions by macros, and a library
// that opens the driver looks for the plain names.
constexpr int kSuccess = 0, kNotSupported = 801;

}  // namespace

}  // namespace ink

using ink::kNotSupported;
using ink::kSuccess;

extern "C" {

// Gives every kernel that was looked up since the last call, in order.
void take_looked_up_kernels(void (*take)(void* to, const char* kernel), void* to) {
  for (const std::string& name : ink::looked_up()) take(to, name.c_str());
  ink::looked_up().clear();
}

int cuInit(unsigned) { return kSuccess; }
int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
int cuDeviceGetCount(int* count) {
  *count = 1;
  return kSuccess;
}
int cuGetErrorString(int, const char** text) {
  *text = "not supported by the stand-in of the driver";
  return kSuccess;
}
int cuGetErrorName(int, const char** name) {
  *name = "CUDA_ERROR_NOT_SUPPORTED";
  return kSuccess;
}

// A library is its code, a kernel its name.
int cuLibraryLoadData(const void** library, const void* code, void*, void*, unsigned, void*, void*,
                      unsigned) {
  *library = code;
  return kSuccess;
}
int cuLibraryUnload(const void*) { return kSuccess; }
int cuLibraryGetKernel(const void** kernel, const void* library, const char* name) {
  *kernel = library;
  ink::looked_up().emplace_back(name);
  return kSuccess;
}
int cuKernelGetFunction(const void** function, const void* kernel) {
  *function = kernel;
  return kSuccess;
}
int cuKernelSetAttribute(int, int, const void*, int) { return kSuccess; }
int cuFuncSetAttribute(const void*, int, int) { return kSuccess; }

// What has to be there and is of no use without a card.
int cuGetExportTable() { return kNotSupported; }
int cuGetProcAddress_v2() { return kNotSupported; }
int cuDeviceGet() { return kNotSupported; }
int cuCtxGetCurrent() { return kNotSupported; }
int cuCtxGetLimit() { return kNotSupported; }
int cuCtxPopCurrent() { return kNotSupported; }
int cuCtxPushCurrent() { return kNotSupported; }
int cuStreamGetCtx() { return kNotSupported; }
int cuLinkCreate() { return kNotSupported; }
int cuLinkAddData() { return kNotSupported; }
int cuLinkComplete() { return kNotSupported; }
int cuLinkDestroy() { return kNotSupported; }
int cuLibraryLoadFromFile() { return kNotSupported; }
int cuKernelGetAttribute() { return kNotSupported; }
int cuOccupancyMaxPotentialClusterSize() { return kNotSupported; }
int cuLaunchKernel() { return kNotSupported; }
int cuLaunchKernelEx() { return kNotSupported; }
int cuLaunchCooperativeKernel() { return kNotSupported; }

}  // extern "C"
