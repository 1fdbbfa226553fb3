#include "shim.h"

#include <stdio.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mempool.h>

uint16_t shunt_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t shunt_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

struct rte_mbuf *shunt_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void shunt_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void shunt_flush_cache(struct rte_mempool *pool)
{
	struct rte_mempool_cache *cache = rte_mempool_default_cache(pool, rte_lcore_id());

	if (cache != NULL)
		rte_mempool_cache_flush(cache, pool);
}

static void flush(struct rte_mempool *pool, void *argument)
{
	(void)argument;
	shunt_flush_cache(pool);
}

void shunt_flush_caches(void)
{
	rte_mempool_walk(flush, NULL);
}

unsigned int shunt_common_count(const struct rte_mempool *pool)
{
	/* rte_mempool_ops_get_count does this, and is not exported. */
	return rte_mempool_get_ops(pool->ops_index)->get_count(pool);
}

int shunt_is_registered(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

int shunt_errno(void)
{
	return rte_errno;
}

uint64_t shunt_tsc(void)
{
	return rte_rdtsc();
}

int shunt_log_to_stderr(void)
{
	return rte_openlog_stream(stderr);
}
