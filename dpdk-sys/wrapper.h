/* What bindgen reads: DPDK's public headers and our shim. */
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

#include "src/generator.h"
#include "src/interface.h"
#include "src/packet.h"
#include "src/shim.h"
