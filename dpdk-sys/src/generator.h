/*
 * A frame generator inside the process, for benches: a receive callback that writes into each received buffer, whatever the
 * device has put there, a frame of the next flow. Nothing of shuntd refers to it, so it is not linked into it.
 */
#ifndef SHUNT_GENERATOR_H
#define SHUNT_GENERATOR_H

#include <stdint.h>

/* The longest frame. */
#define SHUNT_GENERATOR_FRAME 128

struct shunt_generator {
	/* What is the same in all frames; fields that depend on the flow hold those of flow 0. */
	uint8_t frame[SHUNT_GENERATOR_FRAME];
	/* Where the last four bytes of source and destination address, the source port and IPv4's checksum are; 0: no checksum. */
	uint16_t source_at;
	uint16_t destination_at;
	uint16_t port_at;
	uint16_t checksum_at;
	/* Those four bytes of flow 0, as numbers. */
	uint32_t source;
	uint32_t destination;
	/* The sum of the IPv4 header's other words. */
	uint32_t checksum;
	/* How many destinations there are, behind the first. At most 65536. */
	uint32_t destinations;
	/* The flow of the last frame. The callback's own. */
	uint64_t flow;
	/* How many flows there are, and how far it is from each to the next, modulo that number; 0 flows: frames are left as they
	 * are. Other threads may write these at any time. */
	uint64_t flows;
	uint64_t step;
};

/* Has the generator write what a queue receives. It must stay where it is as long as the port is open. */
int shunt_generator_install(uint16_t port, uint16_t queue, struct shunt_generator *generator);

#endif
