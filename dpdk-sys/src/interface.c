#define _GNU_SOURCE
#include "interface.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Entries of an indirection table: the largest that drivers have is 2048. */
#define MOST_ENTRIES 65536
#define CHUNK 4096
#define CHUNKS 4
/* How long the kernel may take to free the queue of a socket that has been closed. */
#define RELEASE_US 100000

static int ethtool(const char *interface, void *command)
{
	struct ifreq request = { .ifr_data = command };
	int descriptor, result;

	if (strlen(interface) >= sizeof(request.ifr_name)) {
		errno = ENODEV;
		return -1;
	}
	strcpy(request.ifr_name, interface);
	descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (descriptor < 0)
		return -1;
	result = ioctl(descriptor, SIOCETHTOOL, &request);
	close(descriptor);
	return result;
}

int shunt_channels_of(const char *interface, struct shunt_channels *channels)
{
	struct ethtool_channels told = { .cmd = ETHTOOL_GCHANNELS };

	if (ethtool(interface, &told) != 0)
		return -1;
	channels->receive = told.rx_count;
	channels->combined = told.combined_count;
	channels->most_receive = told.max_rx;
	channels->most_combined = told.max_combined;
	return 0;
}

uint32_t shunt_hashed_queues(const char *interface)
{
	struct ethtool_rxfh_indir size = { .cmd = ETHTOOL_GRXFHINDIR }, *table;
	uint32_t queues = 0;

	/* Of size 0, it asks for the size alone. */
	if (ethtool(interface, &size) != 0 || size.size == 0 || size.size > MOST_ENTRIES)
		return 0;
	table = calloc(1, sizeof(*table) + size.size * sizeof(table->ring_index[0]));
	if (table == NULL)
		return 0;
	table->cmd = ETHTOOL_GRXFHINDIR;
	table->size = size.size;
	if (ethtool(interface, table) == 0) {
		for (uint32_t i = 0; i < size.size; i++) {
			if (table->ring_index[i] >= queues)
				queues = table->ring_index[i] + 1;
		}
	}
	free(table);
	return queues;
}

int shunt_merges_segments(const char *interface)
{
	struct ethtool_value gro = { .cmd = ETHTOOL_GGRO }, flags = { .cmd = ETHTOOL_GFLAGS };

	if (ethtool(interface, &gro) == 0 && gro.data != 0)
		return 1;
	return ethtool(interface, &flags) == 0 && (flags.data & ETH_FLAG_LRO) != 0;
}

static long bpf(int command, union bpf_attr *attributes)
{
	return syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

static void program_name(uint32_t id, char name[16])
{
	union bpf_attr attributes;
	struct bpf_prog_info info;
	int program;

	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_id = id;
	program = (int)bpf(BPF_PROG_GET_FD_BY_ID, &attributes);
	if (program < 0)
		return;
	memset(&attributes, 0, sizeof(attributes));
	memset(&info, 0, sizeof(info));
	attributes.info.bpf_fd = (uint32_t)program;
	attributes.info.info_len = sizeof(info);
	attributes.info.info = (uintptr_t)&info;
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes) == 0)
		memcpy(name, info.name, 15);
	close(program);
}

/* The attribute of a kind, among those that begin at `attribute`. */
static struct rtattr *find(struct rtattr *attribute, long length, unsigned short kind)
{
	for (; RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length)) {
		if ((attribute->rta_type & NLA_TYPE_MASK) == kind)
			return attribute;
	}
	return NULL;
}

int shunt_xdp_program(unsigned int interface, uint32_t *id, char name[16])
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg body;
	} request = {
		.header = { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST },
		.body = { .ifi_family = AF_UNSPEC, .ifi_index = (int)interface },
	};
	/* One interface's answer; netlink aligns to four bytes. */
	static _Thread_local union {
		struct nlmsghdr header;
		char bytes[32768];
	} answer;
	struct rtattr *xdp, *program;
	ssize_t length;
	int descriptor;

	*id = 0;
	memset(name, 0, 16);
	descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (descriptor < 0)
		return -1;
	length = send(descriptor, &request, sizeof(request), 0);
	if (length >= 0)
		length = recv(descriptor, &answer, sizeof(answer), 0);
	close(descriptor);
	if (length < 0)
		return -1;
	if (!NLMSG_OK(&answer.header, (size_t)length) || answer.header.nlmsg_type != RTM_NEWLINK) {
		errno = ENODEV;
		return -1;
	}
	xdp = find(IFLA_RTA(NLMSG_DATA(&answer.header)), (long)IFLA_PAYLOAD(&answer.header), IFLA_XDP);
	program = xdp == NULL ? NULL : find(RTA_DATA(xdp), (long)RTA_PAYLOAD(xdp), IFLA_XDP_PROG_ID);
	if (program != NULL && RTA_PAYLOAD(program) >= sizeof(*id)) {
		memcpy(id, RTA_DATA(program), sizeof(*id));
		program_name(*id, name);
	}
	return 0;
}

static int try_memory(int descriptor, void *memory)
{
	struct xdp_umem_reg area = { .addr = (uintptr_t)memory, .len = CHUNK * CHUNKS, .chunk_size = CHUNK };
	const int rings[] = { XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING };
	int entries = CHUNKS;

	if (setsockopt(descriptor, SOL_XDP, XDP_UMEM_REG, &area, sizeof(area)) != 0)
		return -1;
	for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		if (setsockopt(descriptor, SOL_XDP, rings[i], &entries, sizeof(entries)) != 0)
			return -1;
	}
	return 0;
}

/*
 * Whether the queue is free. A socket that is bound holds the queue for a moment after it is closed, and then DPDK would not get it. So what is
 * asked for, zero copy, is what most devices do not have: a free queue's answer is "not supported", or another one of the device's. Where
 * it has, the moment is waited for.
 */
static int try_queue(int descriptor, unsigned int interface, uint32_t queue, int *bound)
{
	struct sockaddr_xdp address = {
		.sxdp_family = AF_XDP, .sxdp_flags = XDP_ZEROCOPY, .sxdp_ifindex = interface, .sxdp_queue_id = queue
	};

	*bound = bind(descriptor, (struct sockaddr *)&address, sizeof(address)) == 0;
	if (*bound)
		return 0;
	return errno == EBUSY || errno == ENODEV || errno == ENETDOWN || errno == EPERM ? SHUNT_XDP_BIND : 0;
}

/* A program that passes all frames to the kernel. */
static int load_program(void)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_type = BPF_PROG_TYPE_XDP;
	attributes.insns = (uintptr_t)code;
	attributes.insn_cnt = sizeof(code) / sizeof(code[0]);
	attributes.license = (uintptr_t) "GPL";
	return (int)bpf(BPF_PROG_LOAD, &attributes);
}

static int try_program(void)
{
	int program = load_program();

	if (program < 0)
		return SHUNT_XDP_PROGRAM;
	close(program);
	return 0;
}

int shunt_xdp_try_attach(unsigned int interface)
{
	union bpf_attr attributes;
	int program = load_program(), link, error;

	if (program < 0)
		return SHUNT_XDP_PROGRAM;
	memset(&attributes, 0, sizeof(attributes));
	attributes.link_create.prog_fd = (uint32_t)program;
	attributes.link_create.target_ifindex = interface;
	attributes.link_create.attach_type = BPF_XDP;
	/* As libxdp does: without the device's own driver ("native"), it does not attach. */
	attributes.link_create.flags = XDP_FLAGS_DRV_MODE;
	link = (int)bpf(BPF_LINK_CREATE, &attributes);
	error = errno;
	close(program);
	if (link >= 0)
		close(link);
	errno = error;
	/* Kernels before 5.9 have no such links: DPDK's driver will find out. */
	return link >= 0 || error == EINVAL ? 0 : SHUNT_XDP_ATTACH;
}

int shunt_xdp_try(unsigned int interface, uint32_t queue)
{
	int descriptor, failed = SHUNT_XDP_MEMORY, bound = 0, error;
	void *memory;

	descriptor = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (descriptor < 0)
		return SHUNT_XDP_SOCKET;
	memory = mmap(NULL, CHUNK * CHUNKS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory != MAP_FAILED && try_memory(descriptor, memory) == 0)
		failed = try_queue(descriptor, interface, queue, &bound);
	if (failed == 0)
		failed = try_program();
	error = errno;
	close(descriptor);
	if (memory != MAP_FAILED)
		munmap(memory, CHUNK * CHUNKS);
	if (bound)
		usleep(RELEASE_US);
	errno = error;
	return failed;
}
