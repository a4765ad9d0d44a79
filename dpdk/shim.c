/* See shim.h. */
#define _GNU_SOURCE
#include "shim.h"

#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <rte_alarm.h>
#include <rte_ether.h>
#include <rte_log.h>

static uint8_t
rx_flags(uint64_t ol_flags)
{
	uint8_t flags = 0;

	/*
	 * NONE means that the sum in the frame is not the final one but that the data is verified
	 * (rte_mbuf_core.h): equivalent to good.
	 */
	switch (ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) {
	case RTE_MBUF_F_RX_IP_CKSUM_GOOD:
	case RTE_MBUF_F_RX_IP_CKSUM_NONE:
		flags |= SHIM_IP_GOOD;
		break;
	case RTE_MBUF_F_RX_IP_CKSUM_BAD:
		flags |= SHIM_IP_BAD;
		break;
	default:
		break;
	}
	switch (ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) {
	case RTE_MBUF_F_RX_L4_CKSUM_GOOD:
	case RTE_MBUF_F_RX_L4_CKSUM_NONE:
		flags |= SHIM_L4_GOOD;
		break;
	case RTE_MBUF_F_RX_L4_CKSUM_BAD:
		flags |= SHIM_L4_BAD;
		break;
	default:
		break;
	}
	if (ol_flags & RTE_MBUF_F_RX_RSS_HASH)
		flags |= SHIM_RSS_HASH;
	return flags;
}

/*
 * Whether the pieces are as a copy requires: as many as are counted, each
 * within its buffer, and their lengths the frame's. Drivers copy some of these numbers from memory
 * that a device, a hypervisor or a peer process writes.
 */
static bool
is_sound(const struct rte_mbuf *mbuf)
{
	const struct rte_mbuf *piece = mbuf;
	uint32_t total = 0;
	uint16_t count = mbuf->nb_segs;

	for (; piece != NULL && count > 0; piece = piece->next, count--) {
		if ((uint32_t)piece->data_off + piece->data_len > piece->buf_len)
			return false;
		total += piece->data_len;
	}
	return piece == NULL && count == 0 && total == mbuf->pkt_len;
}

/*
 * Whether the frame's memory is its own, of our pool and in one piece. Any other may be read or
 * written elsewhere, or belong to a driver that needs it back.
 */
static bool
is_ours(const struct rte_mbuf *mbuf, const struct rte_mempool *pool)
{
	return mbuf->nb_segs == 1 && RTE_MBUF_DIRECT(mbuf) && rte_mbuf_refcnt_read(mbuf) == 1 &&
			mbuf->pool == pool;
}

/* A frame of our pool with the same bytes, flags and hash; NULL if it does not fit or there is none. */
static struct rte_mbuf *
copy(const struct rte_mbuf *from, struct rte_mempool *pool)
{
	struct rte_mbuf *to = rte_pktmbuf_alloc(pool);
	uint8_t *at;

	if (to == NULL)
		return NULL;
	if (from->pkt_len > rte_pktmbuf_tailroom(to)) {
		rte_pktmbuf_free(to);
		return NULL;
	}
	to->pkt_len = from->pkt_len;
	to->data_len = from->pkt_len;
	to->ol_flags = from->ol_flags & ~(RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL);
	to->hash = from->hash;
	at = rte_pktmbuf_mtod(to, uint8_t *);
	for (; from != NULL; from = from->next) {
		memcpy(at, rte_pktmbuf_mtod(from, const uint8_t *), from->data_len);
		at += from->data_len;
	}
	return to;
}

static void
flatten(struct rte_mbuf *mbuf, struct shim_frame *out)
{
	out->mbuf = mbuf;
	out->data = rte_pktmbuf_mtod(mbuf, uint8_t *);
	out->len = mbuf->data_len;
	out->capacity = mbuf->buf_len - mbuf->data_off;
}

uint16_t
shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mempool *pool, struct shim_frame *out,
		uint16_t room, uint32_t *malformed)
{
	struct rte_mbuf *mbufs[SHIM_BURST_MAX];
	uint16_t received, i, kept = 0;

	received = rte_eth_rx_burst(port, queue, mbufs, RTE_MIN(room, SHIM_BURST_MAX));
	for (i = 0; i < received; i++) {
		struct rte_mbuf *mbuf = mbufs[i];

		if (i + 1 < received)
			rte_prefetch0(rte_pktmbuf_mtod(mbufs[i + 1], void *));
		if (unlikely(!is_sound(mbuf))) {
			rte_pktmbuf_free(mbuf);
			*malformed += 1;
			continue;
		}
		if (unlikely(!is_ours(mbuf, pool))) {
			struct rte_mbuf *copied = copy(mbuf, pool);

			rte_pktmbuf_free(mbuf);
			if (copied == NULL) {
				*malformed += 1;
				continue;
			}
			mbuf = copied;
		}
		flatten(mbuf, &out[kept]);
		out[kept].rss_hash = mbuf->hash.rss;
		out[kept].flags = rx_flags(mbuf->ol_flags);
		kept++;
	}
	return kept;
}

uint16_t
shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

bool
shim_alloc(struct rte_mempool *pool, struct shim_frame *out)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

	if (mbuf == NULL)
		return false;
	flatten(mbuf, out);
	out->rss_hash = 0;
	out->flags = 0;
	return true;
}

void
shim_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

void
shim_finish(struct rte_mbuf *mbuf, uint16_t len, uint64_t tx_flags, uint16_t l3_bytes)
{
	/* A received frame may be reused for sending: its receive flags do not apply then. */
	mbuf->ol_flags = tx_flags;
	mbuf->data_len = len;
	mbuf->pkt_len = len;
	mbuf->tx_offload = 0;
	mbuf->l2_len = RTE_ETHER_HDR_LEN;
	mbuf->l3_len = l3_bytes;
}

/* One call of shim_stop_in_turn, for both threads. */
struct stopping {
	sem_t done;
	uint16_t port;
	bool closes;
	int result;
};

static void
stop_now(void *arg)
{
	struct stopping *stopping = arg;

	stopping->result = rte_eth_dev_stop(stopping->port);
	if (stopping->closes)
		stopping->result = rte_eth_dev_close(stopping->port);
	sem_post(&stopping->done);
}

int
shim_stop_in_turn(uint16_t port, bool closes)
{
	struct stopping stopping = { .port = port, .closes = closes };
	int code;

	if (sem_init(&stopping.done, 0, 0) != 0)
		return -1;
	/* An alarm makes the interrupt thread call a function, here in a microsecond. */
	code = rte_eal_alarm_set(1, stop_now, &stopping);
	if (code == 0) {
		while (sem_wait(&stopping.done) != 0)
			;
		code = stopping.result;
	}
	sem_destroy(&stopping.done);
	return code;
}

int
shim_errno(void)
{
	return rte_errno;
}

uint32_t
shim_lcore_id(void)
{
	return rte_lcore_id();
}

int
shim_log_to(int fd)
{
	static FILE *current;
	FILE *old = current;
	FILE *log;
	int own = dup(fd);

	if (own < 0)
		return -1;
	log = fdopen(own, "a");
	if (log == NULL) {
		close(own);
		return -1;
	}
	setvbuf(log, NULL, _IOLBF, BUFSIZ);
	if (rte_openlog_stream(log) != 0) {
		fclose(log);
		return -1;
	}
	current = log;
	if (old != NULL)
		fclose(old);
	return 0;
}
