/*
 * Linux network interfaces, as the kernel tells of them by ioctl, netlink and bpf: what is to be known before DPDK's AF_XDP driver
 * touches one.
 */
#ifndef SHUNT_INTERFACE_H
#define SHUNT_INTERFACE_H

#include <stdint.h>

/* How many channels an interface has (`ethtool -l`), and how many it can have. */
struct shunt_channels {
	uint32_t receive;
	uint32_t combined;
	uint32_t most_receive;
	uint32_t most_combined;
};

/* Returns 0, or -1 with errno: the driver does not tell, or there is no such interface. */
int shunt_channels_of(const char *interface, struct shunt_channels *channels);
/* How many receive queues, from the first on, the hash of flows reaches (`ethtool -x`); 0: the driver does not tell. */
uint32_t shunt_hashed_queues(const char *interface);

/* Whether the kernel or the device puts received TCP segments together (GRO, LRO); 0 too where it cannot be told. */
int shunt_merges_segments(const char *interface);

/*
 * The XDP program on an interface. `id` is 0 where there is none; `name` is empty where it cannot be told, for want of privileges. Returns 0, or
 * -1 with errno.
 */
int shunt_xdp_program(unsigned int interface, uint32_t *id, char name[16]);

/* What the kernel may refuse, see below. */
#define SHUNT_XDP_SOCKET 1
#define SHUNT_XDP_MEMORY 2
#define SHUNT_XDP_BIND 3
#define SHUNT_XDP_PROGRAM 4
#define SHUNT_XDP_ATTACH 5

/*
 * Tries whether this process may have an AF_XDP socket on a queue of an interface, and load an XDP program, with memory of its own; the
 * program is not attached. Returns 0, or the step that failed, with errno.
 */
int shunt_xdp_try(unsigned int interface, uint32_t queue);
/*
 * Tries whether an interface without an XDP program takes one, for a moment. A device may begin anew, as it does where DPDK attaches its
 * program. The kernel takes it off when this process ends, however it does. Returns as above.
 */
int shunt_xdp_try_attach(unsigned int interface);

#endif
