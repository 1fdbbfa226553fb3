#include "generator.h"

#include <errno.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

/* Clients have the lower 24 bits of a flow's number as their address; the rest, and some of these again, are the port. */
#define CLIENT_BITS 24
#define FIRST_PORT 1024
#define PORT_SPREAD 0x3fff

static inline void put32(uint8_t *to, uint32_t value)
{
	value = rte_cpu_to_be_32(value);
	memcpy(to, &value, sizeof(value));
}

static inline void put16(uint8_t *to, uint16_t value)
{
	value = rte_cpu_to_be_16(value);
	memcpy(to, &value, sizeof(value));
}

static inline void write_flow(const struct shunt_generator *generator, uint8_t *frame, uint64_t flow)
{
	uint32_t low = flow & ((1u << CLIENT_BITS) - 1);
	uint32_t source = generator->source + low;
	uint32_t destination = generator->destination + (uint32_t)((flow & 0xffff) * generator->destinations >> 16);

	put32(frame + generator->source_at, source);
	put32(frame + generator->destination_at, destination);
	/* The TCP or UDP checksum stays that of flow 0: no load balancer in direct-routing mode looks at it. */
	put16(frame + generator->port_at, FIRST_PORT + (uint16_t)(flow >> CLIENT_BITS) + (low & PORT_SPREAD));
	if (generator->checksum_at != 0) {
		uint32_t sum = generator->checksum + (source >> 16) + (source & 0xffff) + (destination >> 16) +
			       (destination & 0xffff);
		sum = (sum & 0xffff) + (sum >> 16);
		sum += sum >> 16;
		put16(frame + generator->checksum_at, (uint16_t)~sum);
	}
}

static uint16_t generate(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count, uint16_t most, void *user)
{
	struct shunt_generator *generator = user;
	uint64_t flows = __atomic_load_n(&generator->flows, __ATOMIC_RELAXED);
	uint64_t step = __atomic_load_n(&generator->step, __ATOMIC_RELAXED);
	uint64_t flow = generator->flow;

	(void)port, (void)queue, (void)most;
	if (flows == 0)
		return count;
	/* Of the two, one may be new and the other old. */
	step %= flows;
	if (flow >= flows)
		flow %= flows;
	for (uint16_t place = 0; place < count; place++) {
		uint8_t *frame = rte_pktmbuf_mtod(mbufs[place], uint8_t *);

		flow += step;
		if (flow >= flows)
			flow -= flows;
		/* Whole cache lines: of a constant length, and the buffer has room. */
		memcpy(frame, generator->frame, 64);
		if (mbufs[place]->data_len > 64)
			memcpy(frame + 64, generator->frame + 64, 64);
		write_flow(generator, frame, flow);
	}
	generator->flow = flow;
	return count;
}

int shunt_generator_install(uint16_t port, uint16_t queue, struct shunt_generator *generator)
{
	if (rte_eth_add_rx_callback(port, queue, generate, generator) == NULL)
		return rte_errno != 0 ? -rte_errno : -ENOTSUP;
	return 0;
}
