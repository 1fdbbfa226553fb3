/*
 * What becomes of the AF_PACKET sockets that DPDK's driver net_af_packet makes for itself.
 */
#ifndef SHUNT_PACKET_H
#define SHUNT_PACKET_H

/*
 * Whether what DPDK loads at run time (its drivers) calls this program's `setsockopt` (packet.c), and not the C library's. Then the driver's
 * sockets do not have the kernel reassemble fragments.
 */
int shunt_setsockopt_is_ours(void);

#endif
