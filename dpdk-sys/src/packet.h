/*
 * AF_PACKET sockets of this process, those that DPDK's driver net_af_packet makes for itself.
 */
#ifndef SHUNT_PACKET_H
#define SHUNT_PACKET_H

#include <stddef.h>
#include <stdint.h>

/*
 * Whether what DPDK loads at run time (its drivers) calls this program's `setsockopt` (packet.c), and not the C library's. Then the driver's
 * sockets do not have the kernel reassemble fragments.
 */
int shunt_setsockopt_is_ours(void);
/*
 * This process's packet sockets that are bound to an interface, at most `room` of them. Returns how many there are.
 */
size_t shunt_packet_sockets(unsigned int interface, int *sockets, size_t room);
/* The flags of the fan-out group that a packet socket is in (PACKET_FANOUT_FLAG_...); 0: none, or it is in no group. */
uint32_t shunt_fanout_flags(int socket);

#endif
