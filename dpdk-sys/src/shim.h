/*
 * DPDK's `static inline` functions and macros that Rust cannot see. What is here is called once per burst or
 * less often; what is needed once per packet is field access in dataplane/src/dpdk/mbuf.rs.
 */
#ifndef SHUNT_SHIM_H
#define SHUNT_SHIM_H

#include <stdint.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

uint16_t shunt_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t shunt_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
struct rte_mbuf *shunt_pktmbuf_alloc(struct rte_mempool *pool);
void shunt_pktmbuf_free(struct rte_mbuf *mbuf);
/* Gives the buffers in this thread's caches, of one pool or of all, back to the pools' common rings. */
void shunt_flush_cache(struct rte_mempool *pool);
void shunt_flush_caches(void);
/* Buffers in the pool's common ring, without those in caches. */
unsigned int shunt_common_count(const struct rte_mempool *pool);
/* Whether this thread is one of EAL's, or registered with it. */
int shunt_is_registered(void);
int shunt_errno(void);
uint64_t shunt_tsc(void);
/* Has DPDK log to standard error alone. Its own stream writes to syslog as well, which may block. */
int shunt_log_to_stderr(void);

/* Macros with casts or shifts that bindgen cannot evaluate. */
static const uint64_t SHUNT_ETH_RSS_FLOWS = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP;
static const uint64_t SHUNT_ETH_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHUNT_ETH_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t SHUNT_ETH_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t SHUNT_ETH_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHUNT_ETH_RX_OFFLOAD_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint32_t SHUNT_ETH_INTR_LSC = RTE_ETH_DEV_INTR_LSC;
static const uint32_t SHUNT_ETH_INTR_RMV = RTE_ETH_DEV_INTR_RMV;
static const uint32_t SHUNT_ETH_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint64_t SHUNT_MBUF_F_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t SHUNT_MBUF_F_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t SHUNT_MBUF_F_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t SHUNT_MBUF_F_RX_QINQ_STRIPPED = RTE_MBUF_F_RX_QINQ_STRIPPED;

#endif
