/*
 * DPDK's inline functions and macros that sunder uses, as functions and constants that another
 * language can link against. There is no policy here, and no mbuf with wrong lengths gets out.
 */
#ifndef SUNDER_SHIM_H
#define SUNDER_SHIM_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_config.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* One frame, flat: no other code has to read an mbuf. */
struct shim_frame {
	struct rte_mbuf *mbuf;
	/* First byte of the Ethernet header. */
	uint8_t *data;
	/* The device's hash of the flow; valid if flags has SHIM_RSS_HASH. */
	uint32_t rss_hash;
	/* Bytes of the frame. */
	uint16_t len;
	/* Bytes from data to the end of the buffer; at least len. */
	uint16_t capacity;
	/* SHIM_* of the enumeration below. */
	uint8_t flags;
};

/* The device's verdict on a received frame; no bit means that it did not check. */
enum shim_frame_flags {
	SHIM_IP_GOOD = 1,
	SHIM_IP_BAD = 2,
	SHIM_L4_GOOD = 4,
	SHIM_L4_BAD = 8,
	SHIM_RSS_HASH = 16,
};

/* The macros behind these are not plain numbers, so bindgen ignores them. */
static const uint64_t SHIM_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_TX_OFFLOAD_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_TX_OFFLOAD_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t SHIM_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t SHIM_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t SHIM_RSS_TCP_IPV4 = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t SHIM_RSS_TCP_IPV6 = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t SHIM_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t SHIM_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t SHIM_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t SHIM_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint32_t SHIM_LCORE_ANY = LCORE_ID_ANY;

/* Most frames that shim_rx_burst takes at once. */
#define SHIM_BURST_MAX 64

/*
 * Receives at most `room` frames (and at most SHIM_BURST_MAX) into `out`; returns how many. Each is
 * in one piece, in memory of `pool` without another owner, and may be reused for sending: frames that
 * a driver returns otherwise are copied. A frame that does not fit one of the pool's or finds none
 * free, or has lengths that its buffer cannot have, is freed and added to `*malformed`.
 */
uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mempool *pool,
		struct shim_frame *out, uint16_t room, uint32_t *malformed);

/* rte_eth_tx_burst: the device takes the first n frames, n being the result; the others stay the caller's. */
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* An empty frame from the pool; false if there is none. */
bool shim_alloc(struct rte_mempool *pool, struct shim_frame *out);

/* Returns a frame to its pool, from any thread. */
void shim_free(struct rte_mbuf *mbuf);

/*
 * Prepares a frame for shim_tx_burst: its length, and what the device must compute (SHIM_TX_*;
 * 0 for nothing) behind an Ethernet header of 14 bytes and an IP header of `l3_bytes`.
 */
void shim_finish(struct rte_mbuf *mbuf, uint16_t len, uint64_t tx_flags, uint16_t l3_bytes);

/*
 * Stops a port, and closes it if `closes`, in DPDK's interrupt thread, and returns when that is
 * done: for a driver that disconnects in that thread and takes no lock against a thread that stops the
 * port. No thread may be in a burst. Returns the result of the last step, or a negative number if there
 * was none.
 */
int shim_stop_in_turn(uint16_t port, bool closes);

/* This thread's rte_errno. */
int shim_errno(void);

/* This thread's lcore number; SHIM_LCORE_ANY if it has none. */
uint32_t shim_lcore_id(void);

/* Sends DPDK's log to the file descriptor, which stays the caller's. Returns 0, or -1 and errno. */
int shim_log_to(int fd);

#endif
