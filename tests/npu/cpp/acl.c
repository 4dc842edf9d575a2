// Stands in for the vendor's runtime (ACL) below the real libtorch_npu.so: two devices over the processor's memory, on which
// every task is done when it is asked for. What only has to succeed is made up by `cargo xtask npu`.

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICES = 2, NO_SUCH_DEVICE = 107001, NO_MEMORY = 207001 };

static const size_t TOTAL = (size_t)64 << 30;
static size_t held;
static __thread int32_t current;
static int context;

const char* aclrtGetSocName(void) { return "Ascend910B3"; }
const char* aclGetRecentErrMsg(void) { return ""; }

int aclrtGetDeviceCount(uint32_t* count) {
  *count = DEVICES;
  return 0;
}
int aclrtSetDevice(int32_t device) {
  if (device < 0 || device >= DEVICES) return NO_SUCH_DEVICE;
  current = device;
  return 0;
}
int aclrtGetDevice(int32_t* device) {
  *device = current;
  return 0;
}
int aclrtGetCurrentContext(void** found) {
  *found = &context;
  return 0;
}

static int make(void** made) {
  *made = calloc(1, 8);
  return *made == NULL ? NO_MEMORY : 0;
}
int aclrtCreateStream(void** stream) { return make(stream); }
int aclrtCreateStreamWithConfig(void** stream, uint32_t priority, uint32_t flags) {
  (void)priority, (void)flags;
  return make(stream);
}
int aclrtCreateEventWithFlag(void** event, uint32_t flags) {
  (void)flags;
  return make(event);
}
int aclrtCreateEventExWithFlag(void** event, uint32_t flags) { return aclrtCreateEventWithFlag(event, flags); }

// Everything has been done.
static int is_done(int* status) {
  *status = 1;
  return 0;
}
int aclrtStreamQuery(void* stream, int* status) {
  (void)stream;
  return is_done(status);
}
int aclrtQueryEventStatus(void* event, int* status) {
  (void)event;
  return is_done(status);
}
int aclrtQueryEventWaitStatus(void* event, int* status) {
  (void)event;
  return is_done(status);
}

static int take(void** bytes, size_t size) {
  if (posix_memalign(bytes, 4096, size) != 0) return NO_MEMORY;
  held += size;
  return 0;
}
int aclrtMalloc(void** bytes, size_t size, int policy) {
  (void)policy;
  return take(bytes, size);
}
int aclrtMallocAlign32(void** bytes, size_t size, int policy) {
  (void)policy;
  return take(bytes, size);
}
int aclrtMallocHost(void** bytes, size_t size) { return take(bytes, size); }
int aclrtFree(void* bytes) {
  free(bytes);
  return 0;
}
int aclrtFreeHost(void* bytes) { return aclrtFree(bytes); }
int aclrtGetMemInfo(int kind, size_t* unused, size_t* total) {
  (void)kind;
  *total = TOTAL;
  *unused = TOTAL - held;
  return 0;
}

int aclrtMemcpy(void* to, size_t most, const void* from, size_t size, int kind) {
  (void)most, (void)kind;
  memcpy(to, from, size);
  return 0;
}
int aclrtMemcpyAsync(void* to, size_t most, const void* from, size_t size, int kind, void* stream) {
  (void)stream;
  return aclrtMemcpy(to, most, from, size, kind);
}
int aclrtMemset(void* to, size_t most, int value, size_t size) {
  (void)most;
  memset(to, value, size);
  return 0;
}
int aclrtMemsetAsync(void* to, size_t most, int value, size_t size, void* stream) {
  (void)stream;
  return aclrtMemset(to, most, value, size);
}

// Settings: overflows become infinite (1), all others are off.
int aclrtGetDeviceSatMode(int* mode) { return is_done(mode); }
int aclrtGetSysParamOpt(int option, int64_t* value) {
  (void)option;
  *value = 0;
  return 0;
}
int aclrtCtxGetSysParamOpt(int option, int64_t* value) { return aclrtGetSysParamOpt(option, value); }
int aclrtQueryDeviceStatus(int device, int* status) {
  (void)device;
  *status = 0;
  return 0;
}
size_t aclGetCompileoptSize(int option) {
  (void)option;
  return 2;
}
int aclGetCompileopt(int option, char* value, size_t size) {
  (void)option;
  if (size > 0) strncpy(value, "0", size);
  return 0;
}

// What is looked up by name while the program runs, and only has to succeed.
#define SUCCEEDS(name) \
  int name(void) { return 0; }
SUCCEEDS(aclInit)
SUCCEEDS(aclFinalize)
SUCCEEDS(aclGetCANNVersion)
SUCCEEDS(aclSetCompileopt)
SUCCEEDS(aclsysGetCANNVersion)
SUCCEEDS(aclrtCtxSetSysParamOpt)
SUCCEEDS(aclrtDestroyEvent)
SUCCEEDS(aclrtDestroyStream)
SUCCEEDS(aclrtDeviceTaskAbort)
SUCCEEDS(aclrtGetLastError)
SUCCEEDS(aclrtPeekAtLastError)
SUCCEEDS(aclrtRecordEvent)
SUCCEEDS(aclrtResetDevice)
SUCCEEDS(aclrtSetCurrentContext)
SUCCEEDS(aclrtSetDeviceSatMode)
SUCCEEDS(aclrtSetOpExecuteTimeOut)
SUCCEEDS(aclrtSetOpWaitTimeout)
SUCCEEDS(aclrtSetStreamFailureMode)
SUCCEEDS(aclrtSetStreamOverflowSwitch)
SUCCEEDS(aclrtSetSysParamOpt)
SUCCEEDS(aclrtSetTsDevice)
SUCCEEDS(aclrtStreamWaitEvent)
SUCCEEDS(aclrtSynchronizeDevice)
SUCCEEDS(aclrtSynchronizeDeviceWithTimeout)
SUCCEEDS(aclrtSynchronizeEvent)
SUCCEEDS(aclrtSynchronizeStream)
SUCCEEDS(aclrtSynchronizeStreamWithTimeout)
