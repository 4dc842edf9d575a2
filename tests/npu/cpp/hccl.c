// Stands in for the vendor's collectives (HCCL) below the real ProcessGroupHCCL: processes of this machine add up in shared
// memory. As on a chip, one that waits for a process that is gone waits for ever. `HOST_HCCL_DIES=RANK:CALL` kills the
// process of that rank as it makes that call, counted from 1.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, BAD_PARAMETER = 1, NO_MEMORY = 3, UNKNOWN = 5, BAD_CALL = 8 };
enum { INT8 = 0, INT32 = 2, FP32 = 4, UINT8 = 7, BFP16 = 11 };
enum { SUM = 0, MOST = 8, ROOM = 1 << 20 };

// What the processes of a group share: who has come how often, and a place for the numbers of each.
struct Shared {
  _Atomic uint32_t came, turn;
  char rooms[MOST][ROOM];
};

struct Comm {
  struct Shared* shared;
  uint32_t rank, count, calls;
};

static void meet(struct Comm* comm) {
  struct Shared* shared = comm->shared;
  uint32_t turn = shared->turn;
  if (atomic_fetch_add(&shared->came, 1) + 1 == comm->count) {
    shared->came = 0;
    shared->turn = turn + 1;
  }
  while (shared->turn == turn) sched_yield();
}

static void die_if_told(struct Comm* comm) {
  unsigned rank, call;
  const char* told = getenv("HOST_HCCL_DIES");
  comm->calls += 1;
  if (told == NULL || sscanf(told, "%u:%u", &rank, &call) != 2) return;
  if (rank == comm->rank && call == comm->calls) kill(getpid(), SIGKILL);
}

static size_t size_of(int kind) {
  switch (kind) {
    case INT8:
    case UINT8:
      return 1;
    case BFP16:
      return 2;
    case INT32:
    case FP32:
      return 4;
    default:
      return 0;
  }
}

static float wide(uint16_t half) {
  uint32_t bits = (uint32_t)half << 16;
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

// To the nearest, and of two the even one.
static uint16_t narrow(float number) {
  uint32_t bits;
  memcpy(&bits, &number, sizeof bits);
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void add_up(const struct Comm* comm, void* to, size_t count, int kind) {
  char(*rooms)[ROOM] = comm->shared->rooms;
  for (size_t i = 0; i < count; ++i) {
    float sum = 0;
    int32_t whole = 0;
    for (uint32_t rank = 0; rank < comm->count; ++rank) {
      if (kind == FP32) sum += ((const float*)rooms[rank])[i];
      if (kind == BFP16) sum += wide(((const uint16_t*)rooms[rank])[i]);
      if (kind == INT32) whole += ((const int32_t*)rooms[rank])[i];
    }
    if (kind == FP32) ((float*)to)[i] = sum;
    if (kind == BFP16) ((uint16_t*)to)[i] = narrow(sum);
    if (kind == INT32) ((int32_t*)to)[i] = whole;
  }
}

int HcclGetRootInfo(char* root) {
  static int made;
  snprintf(root, 64, "/dev/shm/host-hccl-%d-%d", getpid(), ++made);
  int file = open(root, O_RDWR | O_CREAT | O_EXCL, 0600);
  if (file < 0) return BAD_CALL;
  int status = ftruncate(file, sizeof(struct Shared));
  close(file);
  return status == 0 ? SUCCESS : BAD_CALL;
}

int HcclCommInitRootInfo(uint32_t count, const char* root, uint32_t rank, void** made) {
  if (count > MOST || rank >= count) return BAD_PARAMETER;
  int file = open(root, O_RDWR);
  if (file < 0) return BAD_CALL;
  void* shared = mmap(NULL, sizeof(struct Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  struct Comm* comm = calloc(1, sizeof *comm);
  if (shared == MAP_FAILED || comm == NULL) return NO_MEMORY;
  *comm = (struct Comm){.shared = shared, .rank = rank, .count = count};
  meet(comm);
  if (rank == 0) unlink(root);
  *made = comm;
  return SUCCESS;
}

int HcclCommInitRootInfoConfig(uint32_t count, const char* root, uint32_t rank, const void* config, void** made) {
  (void)config;
  return HcclCommInitRootInfo(count, root, rank, made);
}

int HcclAllReduce(void* from, void* to, uint64_t count, int kind, int act, void* made, void* stream) {
  (void)stream;
  struct Comm* comm = made;
  size_t size = size_of(kind);
  if (act != SUM || size < 2) return UNKNOWN;
  die_if_told(comm);
  for (uint64_t start = 0; start < count; start += ROOM / size) {
    size_t part = count - start < ROOM / size ? count - start : ROOM / size;
    memcpy(comm->shared->rooms[comm->rank], (char*)from + start * size, part * size);
    meet(comm);
    add_up(comm, (char*)to + start * size, part, kind);
    meet(comm);
  }
  return SUCCESS;
}

int HcclBroadcast(void* bytes, uint64_t count, int kind, uint32_t root, void* made, void* stream) {
  (void)stream;
  struct Comm* comm = made;
  size_t size = size_of(kind);
  if (size == 0 || root >= comm->count) return UNKNOWN;
  die_if_told(comm);
  for (uint64_t start = 0; start < count; start += ROOM / size) {
    size_t part = count - start < ROOM / size ? count - start : ROOM / size;
    char* place = (char*)bytes + start * size;
    if (comm->rank == root) memcpy(comm->shared->rooms[root], place, part * size);
    meet(comm);
    if (comm->rank != root) memcpy(place, comm->shared->rooms[root], part * size);
    meet(comm);
  }
  return SUCCESS;
}

int HcclCommDestroy(void* made) {
  struct Comm* comm = made;
  munmap(comm->shared, sizeof *comm->shared);
  free(comm);
  return SUCCESS;
}

int HcclGetCommName(void* made, char* name) {
  (void)made;
  strcpy(name, "host");
  return SUCCESS;
}

int HcclGetCommAsyncError(void* made, int* error) {
  (void)made;
  *error = SUCCESS;
  return SUCCESS;
}
