#define _GNU_SOURCE
#include "packet.h"

#include <dlfcn.h>
#include <linux/if_packet.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The C library's function is this system call alone where `long` has 64 bits. */
_Static_assert(sizeof(long) == 8, "on 32 bits, setsockopt also converts times");

/* In an `int`, the group's number is below, then its type, then these flags. */
#define FANOUT_FLAGS_SHIFT 16
#define UNWANTED ((uint32_t)(PACKET_FANOUT_FLAG_DEFRAG | PACKET_FANOUT_FLAG_ROLLOVER) << FANOUT_FLAGS_SHIFT)

/*
 * Stands before the C library's function of that name, for the whole process: the dynamic linker looks into the program first. All goes to the
 * kernel as it is but one option. Of a packet socket's PACKET_FANOUT, two flags are taken out, which DPDK's driver always sets and has no
 * argument for (drivers/net/af_packet):
 *
 * - DEFRAG has the kernel reassemble IPv4 packets before the socket sees them. A reassembled packet fits no frame of the ring, or no link, and is
 *   lost; a part whose others do not come is, too.
 * - ROLLOVER gives a full socket's packets to the next: parts of a flow would come to a worker that does not remember it.
 */
int setsockopt(int socket, int level, int option, const void *value, socklen_t length)
{
	uint32_t fanout;

	if (level == SOL_PACKET && option == PACKET_FANOUT && value != NULL && length == sizeof(fanout)) {
		memcpy(&fanout, value, sizeof(fanout));
		fanout &= ~UNWANTED;
		value = &fanout;
	}
	return (int)syscall(SYS_setsockopt, socket, level, option, value, length);
}

int shunt_setsockopt_is_ours(void)
{
	/* As the dynamic linker looks it up for a driver. */
	return dlsym(RTLD_DEFAULT, "setsockopt") == (void *)setsockopt;
}
