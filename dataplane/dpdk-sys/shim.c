/* DPDK's static inline functions and thread-local variables as ordinary functions. No logic. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <linux/if_packet.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include "wrapper.h"

/* Of libbpf and libxdp, which the AF_XDP driver links but whose headers need not be installed. The enums have the same
 * values: 0 warnings, 1 information, 2 debugging. */
typedef int (*bpf_print_fn)(int level, const char *format, va_list arguments);
bpf_print_fn libbpf_set_print(bpf_print_fn print);
bpf_print_fn libxdp_set_print(bpf_print_fn print);

int sluice_rte_errno(void)
{
	return rte_errno;
}

uint32_t sluice_lcore_id(void)
{
	return rte_lcore_id();
}

static sluice_log_callback log_callback;

static ssize_t log_write(void *cookie, const char *text, size_t length)
{
	(void)cookie;
	log_callback((uint32_t)rte_log_cur_msg_loglevel(), text, length);
	return (ssize_t)length;
}

/* libbpf and libxdp warn of every way that they try in vain, so that their warnings are notices here. */
static int bpf_print(int level, const char *format, va_list arguments)
{
	char text[512];
	uint32_t as = level <= 1 ? RTE_LOG_NOTICE + (uint32_t)level : RTE_LOG_DEBUG;
	int length;

	if (as > rte_log_get_global_level())
		return 0;
	length = vsnprintf(text, sizeof(text), format, arguments);
	if (length > 0)
		log_callback(as, text, (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1);
	return length;
}

int sluice_log_to(sluice_log_callback callback)
{
	cookie_io_functions_t functions = { .write = log_write };
	FILE *stream;

	log_callback = callback;
	libbpf_set_print(bpf_print);
	libxdp_set_print(bpf_print);
	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return -1;
	return rte_openlog_stream(stream);
}

uint64_t sluice_rdtsc(void)
{
	return rte_rdtsc();
}

uint32_t sluice_mempool_size(const struct rte_mempool *pool)
{
	return pool->size;
}

struct rte_mbuf *sluice_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int sluice_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, uint32_t count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void sluice_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

uint16_t sluice_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t sluice_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

int sluice_eth_link_get(uint16_t port, struct sluice_link *link)
{
	struct rte_eth_link state = { 0 };
	int result = rte_eth_link_get_nowait(port, &state);

	link->speed_mbps = state.link_speed;
	link->up = state.link_status == RTE_ETH_LINK_UP;
	return result;
}

uint32_t sluice_ring_sp_enqueue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, uint32_t count)
{
	return rte_ring_sp_enqueue_burst(ring, (void **)mbufs, count, NULL);
}

uint32_t sluice_ring_sc_dequeue_burst(struct rte_ring *ring, struct rte_mbuf **mbufs, uint32_t count)
{
	return rte_ring_sc_dequeue_burst(ring, (void **)mbufs, count, NULL);
}

/* What the AF_PACKET driver calls in place of setsockopt (build.rs). It asks the kernel to put IPv4 fragments together before
 * they are handed to a socket, and has no argument for not asking: conntrack must see fragments as they are. */
int sluice_af_packet_setsockopt(int socket, int level, int name, const void *value, socklen_t length)
{
	if (level == SOL_PACKET && name == PACKET_FANOUT && length == sizeof(int)) {
		int fanout = *(const int *)value & ~(PACKET_FANOUT_FLAG_DEFRAG << 16);

		return setsockopt(socket, level, name, &fanout, length);
	}
	return setsockopt(socket, level, name, value, length);
}
