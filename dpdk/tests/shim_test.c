/* The shim on a port whose receive function returns what the test says. See shim.rs. */
#include "shim.c"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) \
	do { \
		if (!(what)) { \
			fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
			exit(1); \
		} \
	} while (0)

#define FRAMES 64

static struct rte_mempool *pool;
static struct rte_mbuf *next_burst[SHIM_BURST_MAX];
static uint16_t next_count;

static uint16_t
fake_rx(void *queue, struct rte_mbuf **mbufs, uint16_t room)
{
	CHECK(next_count <= room);
	memcpy(mbufs, next_burst, next_count * sizeof(*mbufs));
	return next_count;
}

/* A frame of `pieces` buffers with `bytes` bytes each, numbered from `first` on. */
static struct rte_mbuf *
make(uint16_t pieces, uint16_t bytes, uint8_t first)
{
	struct rte_mbuf *head = rte_pktmbuf_alloc(pool), *last = head;
	uint16_t i;

	CHECK(head != NULL);
	for (i = 0; i < pieces; i++) {
		if (i > 0) {
			last->next = rte_pktmbuf_alloc(pool);
			CHECK(last->next != NULL);
			last = last->next;
		}
		last->data_len = bytes;
		memset(rte_pktmbuf_mtod(last, void *), first + i, bytes);
	}
	head->nb_segs = pieces;
	head->pkt_len = (uint32_t)pieces * bytes;
	return head;
}

/* Receives one mbuf: whether it got through. */
static bool
receive(struct rte_mbuf *mbuf, struct shim_frame *frame)
{
	uint32_t malformed = 0;
	uint16_t received;

	next_burst[0] = mbuf;
	next_count = 1;
	received = shim_rx_burst(0, 0, frame, 1, &malformed);
	CHECK(received + malformed == 1);
	return received == 1;
}

static void
expect_dropped(struct rte_mbuf *mbuf)
{
	struct shim_frame frame;

	CHECK(!receive(mbuf, &frame));
	CHECK(rte_mempool_avail_count(pool) == FRAMES);
}

static void
sound_frames(void)
{
	struct shim_frame frame;
	struct rte_mbuf *mbuf = make(1, 60, 7);

	mbuf->ol_flags = RTE_MBUF_F_RX_RSS_HASH | RTE_MBUF_F_RX_IP_CKSUM_GOOD |
			RTE_MBUF_F_RX_L4_CKSUM_BAD;
	mbuf->hash.rss = 0xabcd;
	CHECK(receive(mbuf, &frame));
	CHECK(frame.mbuf == mbuf && frame.len == 60 && frame.capacity == 2048);
	CHECK(frame.data[0] == 7 && frame.rss_hash == 0xabcd);
	CHECK(frame.flags == (SHIM_RSS_HASH | SHIM_IP_GOOD | SHIM_L4_BAD));
	shim_free(mbuf);

	/* Three pieces become one. */
	CHECK(receive(make(3, 500, 1), &frame));
	CHECK(frame.len == 1500 && frame.mbuf->nb_segs == 1 && frame.mbuf->next == NULL);
	CHECK(frame.data[499] == 1 && frame.data[500] == 2 && frame.data[1499] == 3);
	shim_finish(frame.mbuf, 40, SHIM_TX_IPV4 | SHIM_TX_TCP_CKSUM, 20);
	CHECK(frame.mbuf->pkt_len == 40 && frame.mbuf->data_len == 40);
	CHECK(frame.mbuf->l2_len == 14 && frame.mbuf->l3_len == 20);
	CHECK(frame.mbuf->ol_flags == (SHIM_TX_IPV4 | SHIM_TX_TCP_CKSUM));
	shim_free(frame.mbuf);
	CHECK(rte_mempool_avail_count(pool) == FRAMES);
}

static void
frames_that_lie(void)
{
	struct rte_mbuf *mbuf;

	/* More pieces than fit one buffer. */
	expect_dropped(make(3, 1000, 0));
	/* A piece longer than its buffer. */
	mbuf = make(1, 60, 0);
	mbuf->data_len = mbuf->pkt_len = 2049;
	expect_dropped(mbuf);
	mbuf = make(1, 60, 0);
	mbuf->data_len = mbuf->pkt_len = UINT16_MAX;
	expect_dropped(mbuf);
	/* A piece that begins behind its buffer. */
	mbuf = make(1, 60, 0);
	mbuf->data_off = UINT16_MAX;
	expect_dropped(mbuf);
	/* A total that is not the sum, both ways and beyond 16 bits. */
	mbuf = make(1, 60, 0);
	mbuf->pkt_len = 59;
	expect_dropped(mbuf);
	mbuf = make(2, 60, 0);
	mbuf->pkt_len = 121;
	expect_dropped(mbuf);
	mbuf = make(1, 60, 0);
	mbuf->pkt_len = 60 + 65536;
	expect_dropped(mbuf);
	/* Fewer pieces than counted, and more. */
	mbuf = make(1, 60, 0);
	mbuf->nb_segs = 2;
	expect_dropped(mbuf);
	mbuf = make(2, 60, 0);
	mbuf->nb_segs = 1;
	expect_dropped(mbuf);
	mbuf = make(1, 60, 0);
	mbuf->nb_segs = 0;
	expect_dropped(mbuf);
	/* The second piece lies. */
	mbuf = make(2, 60, 0);
	mbuf->next->data_len = 4000;
	mbuf->pkt_len = 4060;
	expect_dropped(mbuf);
}

/* A burst keeps the order of its sound frames around those that are dropped. */
static void
mixed_burst(void)
{
	struct shim_frame frames[SHIM_BURST_MAX];
	uint32_t malformed = 5;
	uint16_t i;

	for (i = 0; i < 8; i++) {
		next_burst[i] = make(1, 60 + i, i);
		if (i % 3 == 1)
			next_burst[i]->pkt_len = 1;
	}
	next_count = 8;
	CHECK(shim_rx_burst(0, 0, frames, 32, &malformed) == 5);
	CHECK(malformed == 5 + 3);
	CHECK(frames[0].len == 60 && frames[1].len == 62 && frames[4].len == 66);
	for (i = 0; i < 5; i++)
		shim_free(frames[i].mbuf);
	CHECK(rte_mempool_avail_count(pool) == FRAMES);
}

static void
empty_pool(void)
{
	struct shim_frame frames[FRAMES], none;
	int i;

	for (i = 0; i < FRAMES; i++) {
		CHECK(shim_alloc(pool, &frames[i]));
		CHECK(frames[i].len == 0 && frames[i].capacity == 2048 && frames[i].flags == 0);
	}
	CHECK(!shim_alloc(pool, &none));
	for (i = 0; i < FRAMES; i++)
		shim_free(frames[i].mbuf);
	CHECK(rte_mempool_avail_count(pool) == FRAMES);
}

int
main(void)
{
	static void *queues[1];
	char prefix[64];
	char *arguments[] = {"shim", "--no-shconf", "--no-huge", "-m", "16", "--no-pci",
		"--no-telemetry", "--iova-mode=va", "--log-level=error", prefix, NULL};

	snprintf(prefix, sizeof(prefix), "--file-prefix=sunder-shim-%d", getpid());
	CHECK(rte_eal_init(RTE_DIM(arguments) - 1, arguments) >= 0);
	rmdir(rte_eal_get_runtime_dir());
	pool = rte_pktmbuf_pool_create("frames", FRAMES, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
			SOCKET_ID_ANY);
	CHECK(pool != NULL);
	rte_eth_fp_ops[0].rx_pkt_burst = fake_rx;
	rte_eth_fp_ops[0].rxq.data = queues;
	sound_frames();
	frames_that_lie();
	mixed_burst();
	empty_pool();
	return 0;
}
