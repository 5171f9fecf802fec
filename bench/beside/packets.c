/*
 * Packet generator and receiver of the relay benchmark: both ends of every session, in one process with two threads.
 *
 *   packets LEFT_NS RIGHT_NS FLOWS SIZE SECONDS WINDOW RATE PIDS
 *
 * LEFT_NS and RIGHT_NS are files of network namespaces; a socket stays in the one that it was made in. FLOWS is a file
 * with a line for each session: "LS LD LP RS RD RP", which are source, destination and port of what the left end sends,
 * then the same of the right end. Four more words, all in hexadecimal, are for a relay with a header of its own: what
 * each end's packets begin with, and what each end says once before the first. With a leading line "turn" the left ends
 * are clients of a TURN server (RFC 8656) without authentication: each allocates, and binds a channel to its right end,
 * which then sends to the address that was allocated.
 *
 * SIZE: bytes of UDP payload on a wire without a prefix. WINDOW: packets of one direction that may be on their way.
 * RATE: packets a second in each direction, 0 for as many as the window lets through. PIDS: comma-separated processes whose CPU time
 * is read at begin and end, - for none; the kernel's ksoftirqd threads always are.
 *
 * Each thread sends on one side and receives what the other side's thread sent, so that the two together send in both
 * directions. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32, MOST_BYTES = 2048, MOST_PREFIX = 256, MOST_PIDS = 16, LEFT = 0, RIGHT = 1 };
#define WARM_UP_S 0.5
#define DRAIN_S 0.2
/* With a full window and nothing coming for so long, what is on its way counts as lost. */
#define STALL_S 0.01

struct route {
  struct in_addr from;
  struct sockaddr_in to;
  unsigned char prefix[MOST_PREFIX];
};

struct side {
  int socket;
  struct route *routes;
  int sent_prefix, received_prefix;
  /* Numbers of packets: sent by this side; received by this side, and the highest number among those. */
  _Atomic uint64_t sent, received, highest;
  uint64_t stalls;
};

static struct side sides[2];
static int sessions, size, window;
static double rate;
static _Atomic int running = 1;

static void fail(const char *what) {
  fprintf(stderr, "packets: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int socket_in(const char *namespace, int port) {
  int own = open("/proc/self/ns/net", O_RDONLY), other = open(namespace, O_RDONLY);
  if (own < 0 || other < 0 || setns(other, CLONE_NEWNET)) fail(namespace);
  int s = socket(AF_INET, SOCK_DGRAM, 0), big = 64 << 20, on = 1;
  if (s < 0) fail("socket");
  setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
  setsockopt(s, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
  setsockopt(s, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (bind(s, (struct sockaddr *)&any, sizeof any)) fail("bind");
  if (setns(own, CLONE_NEWNET)) fail("setns");
  close(own), close(other);
  return s;
}

/* ---- messages with a source address of choice ---- */

struct outgoing {
  struct mmsghdr heads[BATCH];
  struct iovec parts[BATCH][2];
  union {
    char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
    struct cmsghdr aligned;
  } controls[BATCH];
  unsigned char payloads[BATCH][MOST_BYTES];
};

static void prepare(struct outgoing *out) {
  memset(out, 0, sizeof *out);
  for (int i = 0; i < BATCH; i++) {
    struct msghdr *head = &out->heads[i].msg_hdr;
    head->msg_iov = out->parts[i], head->msg_iovlen = 2;
    head->msg_control = out->controls[i].room, head->msg_controllen = sizeof out->controls[i].room;
    struct cmsghdr *control = CMSG_FIRSTHDR(head);
    control->cmsg_level = IPPROTO_IP, control->cmsg_type = IP_PKTINFO;
    control->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
  }
}

static void address(struct outgoing *out, int i, struct route *route, int prefix, void *payload, int length) {
  struct msghdr *head = &out->heads[i].msg_hdr;
  head->msg_name = &route->to, head->msg_namelen = sizeof route->to;
  struct in_pktinfo info = {.ipi_spec_dst = route->from};
  memcpy(CMSG_DATA(CMSG_FIRSTHDR(head)), &info, sizeof info);
  out->parts[i][0] = (struct iovec){route->prefix, prefix};
  out->parts[i][1] = (struct iovec){payload, length};
}

static void send_one(struct side *side, struct route *route, int prefix, void *payload, int length) {
  static struct outgoing out;
  prepare(&out);
  address(&out, 0, route, prefix, payload, length);
  if (sendmsg(side->socket, &out.heads[0].msg_hdr, 0) < 0) fail("sendmsg");
}

/* ---- traffic ---- */

static void receive(struct side *side) {
  struct mmsghdr heads[BATCH];
  struct iovec parts[BATCH];
  static __thread unsigned char bytes[BATCH][MOST_PREFIX + 8];
  for (;;) {
    memset(heads, 0, sizeof heads);
    for (int i = 0; i < BATCH; i++) {
      parts[i] = (struct iovec){bytes[i], side->received_prefix + 8};
      heads[i].msg_hdr.msg_iov = &parts[i], heads[i].msg_hdr.msg_iovlen = 1;
    }
    int got = recvmmsg(side->socket, heads, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
    if (got <= 0) return;
    uint64_t highest = atomic_load(&side->highest);
    for (int i = 0; i < got; i++) {
      uint64_t number;
      if ((int)heads[i].msg_len < side->received_prefix + 8) continue;
      memcpy(&number, bytes[i] + side->received_prefix, 8);
      if (number > highest) highest = number;
    }
    atomic_store(&side->highest, highest);
    atomic_fetch_add(&side->received, got);
    if (got < BATCH) return;
  }
}

static void *carry(void *which) {
  struct side *own = &sides[(intptr_t)which], *peer = &sides[!(intptr_t)which];
  struct outgoing *out = malloc(sizeof *out);
  prepare(out);
  uint64_t number = 0, forgiven = 0, seen = 0;
  int session = 0;
  double began = now(), heard = began;
  while (atomic_load_explicit(&running, memory_order_relaxed)) {
    receive(own);
    uint64_t arrived = atomic_load(&peer->highest), base = arrived > forgiven ? arrived : forgiven;
    int room = window - (int)(number - base);
    if (arrived != seen) seen = arrived, heard = now();
    if (rate > 0) {
      double due = (now() - began) * rate - number;
      if (room > due) room = due < 0 ? 0 : (int)due;
      /* A timer's worth of packets at once, as many senders together would. */
      if (room < BATCH / 2 && room < window / 2) room = 0;
    }
    if (room <= 0) {
      struct pollfd ready = {own->socket, POLLIN, 0};
      struct timespec soon = {0, 200000};
      ppoll(&ready, 1, &soon, NULL);
      if (number - base >= (uint64_t)window && now() - heard > STALL_S)
        forgiven = number, heard = now(), own->stalls++;
      continue;
    }
    int n = room < BATCH ? room : BATCH;
    for (int i = 0; i < n; i++) {
      uint64_t next = number + i + 1;
      memcpy(out->payloads[i], &next, 8);
      address(out, i, &own->routes[session], own->sent_prefix, out->payloads[i], size);
      if (++session == sessions) session = 0;
    }
    int done = sendmmsg(own->socket, out->heads, n, 0);
    if (done < 0) {
      if (errno == ENOBUFS || errno == EAGAIN || errno == ECONNREFUSED || errno == EPERM) continue;
      fail("sendmmsg");
    }
    number += done;
    atomic_store(&own->sent, number);
  }
  return NULL;
}

/* ---- CPU time ---- */

static double schedstat(const char *path) {
  unsigned long long ns = 0;
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%llu", &ns) != 1) ns = 0;
  fclose(file);
  return ns / 1e9;
}

static double cpu_of(int pid) {
  char path[512];
  double sum = 0;
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *tasks = opendir(path);
  if (tasks == NULL) fail(path);
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    if (task->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/proc/%d/task/%.32s/schedstat", pid, task->d_name);
    sum += schedstat(path);
  }
  closedir(tasks);
  return sum;
}

static int softirq_threads(int *pids, int room) {
  int found = 0;
  DIR *all = opendir("/proc");
  for (struct dirent *one; all != NULL && (one = readdir(all)) != NULL && found < room;) {
    char path[512], name[32] = "";
    int pid = atoi(one->d_name);
    if (pid <= 0) continue;
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (fgets(name, sizeof name, file) && strncmp(name, "ksoftirqd/", 10) == 0) pids[found++] = pid;
    fclose(file);
  }
  if (all) closedir(all);
  return found;
}

static double own_cpu(void) { return cpu_of(getpid()); }

/* ---- TURN, as little of RFC 8656 as it takes ---- */

enum { ALLOCATE = 0x0003, CHANNEL_BIND = 0x0009, SUCCESS = 0x0100, COOKIE = 0x2112A442, CHANNEL = 0x4000 };

static void put16(unsigned char *at, unsigned v) { at[0] = v >> 8, at[1] = v; }
static void put32(unsigned char *at, uint32_t v) { put16(at, v >> 16), put16(at + 2, v & 0xffff); }

/* The request with these attributes, sent until it is answered; answers with the response's length. */
static int ask_turn(struct side *side, struct route *route, int method, const unsigned char *attributes, int length,
                    unsigned char *answer, int room) {
  static uint32_t transaction;
  unsigned char request[256] = {0};
  put16(request, method), put16(request + 2, length), put32(request + 4, COOKIE), put32(request + 8, ++transaction);
  memcpy(request + 20, attributes, length);
  for (int tries = 0; tries < 50; tries++) {
    send_one(side, route, 0, request, 20 + length);
    for (double until = now() + 0.1; now() < until;) {
      struct pollfd ready = {side->socket, POLLIN, 0};
      poll(&ready, 1, 20);
      int got = recv(side->socket, answer, room, MSG_DONTWAIT);
      if (got < 20 || memcmp(answer + 4, request + 4, 16) != 0) continue;
      if ((answer[0] << 8 | answer[1]) == (method | SUCCESS)) return got;
      fprintf(stderr, "packets: the TURN server refused request %x: type %02x%02x\n", method, answer[0], answer[1]);
      exit(1);
    }
  }
  fprintf(stderr, "packets: the TURN server does not answer\n");
  exit(1);
}

static void turn_session(struct route *left, struct route *right, int right_port) {
  unsigned char answer[1024];
  const unsigned char udp[8] = {0x00, 0x19, 0, 4, 17, 0, 0, 0};
  int got = ask_turn(&sides[LEFT], left, ALLOCATE, udp, sizeof udp, answer, sizeof answer);
  int found = 0;
  for (int at = 20; at + 4 <= got; at += 4 + (((answer[at + 2] << 8 | answer[at + 3]) + 3) & ~3)) {
    if ((answer[at] << 8 | answer[at + 1]) != 0x0016) continue; /* XOR-RELAYED-ADDRESS */
    uint32_t ip;
    memcpy(&ip, answer + at + 8, 4);
    right->to.sin_port = htons((answer[at + 6] << 8 | answer[at + 7]) ^ (COOKIE >> 16));
    right->to.sin_addr.s_addr = ip ^ htonl(COOKIE);
    found = 1;
  }
  if (!found) fprintf(stderr, "packets: an allocation without an address\n"), exit(1);
  unsigned char bind[20] = {0x00, 0x0c, 0, 4, CHANNEL >> 8, 0, 0, 0, 0x00, 0x12, 0, 8, 0, 1};
  put16(bind + 14, right_port ^ (COOKIE >> 16));
  put32(bind + 16, ntohl(right->from.s_addr) ^ COOKIE);
  ask_turn(&sides[LEFT], left, CHANNEL_BIND, bind, sizeof bind, answer, sizeof answer);
  put16(left->prefix, CHANNEL), put16(left->prefix + 2, size);
}

/* ---- sessions ---- */

static int unhex(const char *text, unsigned char *bytes) {
  int n = 0;
  for (unsigned byte; n < MOST_PREFIX && sscanf(text + 2 * n, "%2x", &byte) == 1; n++) bytes[n] = byte;
  return n;
}

static void read_flows(const char *name, int right_port) {
  FILE *file = fopen(name, "r");
  if (file == NULL) fail(name);
  static char line[4096], hex[4][2 * MOST_PREFIX + 2];
  char at[6][64];
  int room = 0, turn = 0;
  while (fgets(line, sizeof line, file)) {
    if (strcmp(line, "turn\n") == 0) {
      turn = 1;
      continue;
    }
    int words = sscanf(line, "%63s %63s %63s %63s %63s %63s %512s %512s %512s %512s", at[0], at[1], at[2], at[3], at[4],
                       at[5], hex[0], hex[1], hex[2], hex[3]);
    if (words != 6 && words != 10) fprintf(stderr, "packets: %s: %s", name, line), exit(1);
    if (sessions == room) {
      room = room ? 2 * room : 1024;
      for (int i = 0; i < 2; i++) {
        sides[i].routes = realloc(sides[i].routes, room * sizeof(struct route));
        if (sides[i].routes == NULL) fail("memory");
      }
    }
    for (int i = 0; i < 2; i++) {
      struct route *route = &sides[i].routes[sessions];
      memset(route, 0, sizeof *route);
      inet_pton(AF_INET, at[3 * i], &route->from);
      inet_pton(AF_INET, at[3 * i + 1], &route->to.sin_addr);
      route->to.sin_family = AF_INET, route->to.sin_port = htons(atoi(at[3 * i + 2]));
      if (words != 10) continue;
      unsigned char hello[MOST_PREFIX];
      sides[i].sent_prefix = sides[!i].received_prefix = unhex(hex[i], route->prefix);
      send_one(&sides[i], route, 0, hello, unhex(hex[2 + i], hello));
      if (sessions % 16 == 15) usleep(1000);
    }
    sessions++;
  }
  fclose(file);
  if (sessions == 0) fprintf(stderr, "packets: %s holds no session\n", name), exit(1);
  if (!turn) return;
  for (int i = 0; i < sessions; i++) turn_session(&sides[LEFT].routes[i], &sides[RIGHT].routes[i], right_port);
  sides[LEFT].sent_prefix = sides[LEFT].received_prefix = 4;
  sides[RIGHT].sent_prefix = sides[RIGHT].received_prefix = 0;
}

/*
 * One packet each way on every session, slowly, until all have come through: relays that learn have learned then, and neighbours
 * are known. Gives up on what does not come after a few rounds; the figures will show it.
 */
static uint64_t introduce(void) {
  unsigned char payload[MOST_BYTES] = {0};
  uint64_t before = 0;
  for (int round = 0; round < 4; round++) {
    before = sides[LEFT].received + sides[RIGHT].received;
    for (int i = 0; i < sessions; i++) {
      for (int side = 1; side >= 0; side--) send_one(&sides[side], &sides[side].routes[i], sides[side].sent_prefix, payload, size);
      if (i % 16 == 15) usleep(1000);
      receive(&sides[LEFT]), receive(&sides[RIGHT]);
    }
    usleep(50000);
    receive(&sides[LEFT]), receive(&sides[RIGHT]);
    before = sides[LEFT].received + sides[RIGHT].received - before;
    if (before >= 2u * sessions) break;
  }
  return before;
}

int main(int argc, char **argv) {
  if (argc != 9) return fprintf(stderr, "usage: packets LEFT_NS RIGHT_NS FLOWS SIZE SECONDS WINDOW RATE PIDS\n"), 2;
  size = atoi(argv[4]), window = atoi(argv[6]), rate = atof(argv[7]);
  double seconds = atof(argv[5]);
  if (size < 8 || size > MOST_BYTES || window < 1) return fprintf(stderr, "packets: bad size or window\n"), 2;
  sides[LEFT].socket = socket_in(argv[1], 5000);
  sides[RIGHT].socket = socket_in(argv[2], 5001);
  double setting_up = now();
  read_flows(argv[3], 5001);
  setting_up = now() - setting_up;
  uint64_t introduced = introduce();
  for (int i = 0; i < 2; i++) {
    atomic_store(&sides[i].received, 0);
    atomic_store(&sides[i].highest, 0);
  }

  int pids[MOST_PIDS], softirqs[8], watched = 0, softirq_count = softirq_threads(softirqs, 8);
  for (char *at = strtok(argv[8], ","); at != NULL && watched < MOST_PIDS; at = strtok(NULL, ","))
    if (atoi(at) > 0) pids[watched++] = atoi(at);

  pthread_t threads[2];
  for (intptr_t i = 0; i < 2; i++) pthread_create(&threads[i], NULL, carry, (void *)i);
  usleep(WARM_UP_S * 1e6);
  uint64_t sent[2], received[2], stalls = sides[LEFT].stalls + sides[RIGHT].stalls;
  double relays = 0, kernel = 0, own, began;
  for (int i = 0; i < watched; i++) relays -= cpu_of(pids[i]);
  for (int i = 0; i < softirq_count; i++) kernel -= cpu_of(softirqs[i]);
  for (int i = 0; i < 2; i++) sent[i] = sides[i].sent, received[i] = sides[i].received;
  own = own_cpu(), began = now();
  usleep(seconds * 1e6);
  double took = now() - began;
  for (int i = 0; i < 2; i++) sent[i] = sides[i].sent - sent[i], received[i] = sides[i].received - received[i];
  own = own_cpu() - own;
  for (int i = 0; i < watched; i++) relays += cpu_of(pids[i]);
  for (int i = 0; i < softirq_count; i++) kernel += cpu_of(softirqs[i]);
  stalls = sides[LEFT].stalls + sides[RIGHT].stalls - stalls;
  running = 0;
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  usleep(DRAIN_S * 1e6);
  for (int i = 0; i < 2; i++) receive(&sides[i]);
  uint64_t all_sent = sides[0].sent + sides[1].sent, all_received = sides[0].received + sides[1].received;
  printf("{\"sessions\":%d,\"settingUpSeconds\":%.3f,\"introduced\":%llu,\"seconds\":%.4f,\"sent\":[%llu,%llu],"
         "\"received\":[%llu,%llu],\"allSent\":%llu,\"allReceived\":%llu,\"stalls\":%llu,"
         "\"generatorCpu\":%.4f,\"relayCpu\":%.4f,\"softirqCpu\":%.4f}\n",
         sessions, setting_up, (unsigned long long)introduced, took, (unsigned long long)sent[0],
         (unsigned long long)sent[1], (unsigned long long)received[1], (unsigned long long)received[0],
         (unsigned long long)all_sent, (unsigned long long)all_received, (unsigned long long)stalls, own, relays, kernel);
  return 0;
}
