/* What bindgen reads: DPDK's headers, the shim's functions, and as constants what DPDK has only as function-like macros. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <rte_bus_vdev.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>

/* Offsets and sizes of mbuf fields, in bytes. By offset, because the unnamed unions around them, and with these the
 * names that bindgen makes up, changed between 22.11 and 24.11. */
enum sluice_mbuf_layout {
	SLUICE_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	SLUICE_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	SLUICE_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	SLUICE_MBUF_PORT = offsetof(struct rte_mbuf, port),
	SLUICE_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	SLUICE_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	SLUICE_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	SLUICE_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	SLUICE_MBUF_HASH_RSS = offsetof(struct rte_mbuf, hash.rss),
	SLUICE_MBUF_HASH_FDIR_HI = offsetof(struct rte_mbuf, hash.fdir.hi),
	SLUICE_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	SLUICE_MBUF_SIZE = sizeof(struct rte_mbuf),
};

static const uint64_t SLUICE_RX_VLAN = RTE_MBUF_F_RX_VLAN;
static const uint64_t SLUICE_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t SLUICE_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t SLUICE_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t SLUICE_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t SLUICE_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t SLUICE_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t SLUICE_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t SLUICE_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;

static const uint64_t SLUICE_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SLUICE_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t SLUICE_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t SLUICE_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;

static const uint64_t SLUICE_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t SLUICE_RSS_FRAG_IPV4 = RTE_ETH_RSS_FRAG_IPV4;
static const uint64_t SLUICE_RSS_TCP4 = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t SLUICE_RSS_UDP4 = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t SLUICE_RSS_OTHER4 = RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t SLUICE_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t SLUICE_RSS_FRAG_IPV6 = RTE_ETH_RSS_FRAG_IPV6;
static const uint64_t SLUICE_RSS_TCP6 = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t SLUICE_RSS_UDP6 = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t SLUICE_RSS_OTHER6 = RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

/* Called for each piece of text that DPDK logs; `level` is one of RTE_LOG_*, `text` is not terminated. */
typedef void (*sluice_log_callback)(uint32_t level, const char *text, size_t length);

/* The state of a link. `speed_mbps` is UINT32_MAX where the device does not know it. */
struct sluice_link {
	uint32_t speed_mbps;
	int up;
};

int sluice_rte_errno(void);
uint32_t sluice_lcore_id(void);
int sluice_log_to(sluice_log_callback callback);
uint64_t sluice_rdtsc(void);
uint32_t sluice_mempool_size(const struct rte_mempool *pool);
struct rte_mbuf *sluice_pktmbuf_alloc(struct rte_mempool *pool);
int sluice_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t count);
void sluice_pktmbuf_free(struct rte_mbuf *mbuf);
uint16_t sluice_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t sluice_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
int sluice_eth_link_get(uint16_t port, struct sluice_link *link);
uint32_t sluice_ring_sp_enqueue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, uint32_t count);
uint32_t sluice_ring_sc_dequeue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, uint32_t count);
