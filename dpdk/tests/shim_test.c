/* The shim on a port whose receive function returns the test's mbufs. See shim.rs. */
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

static struct rte_mempool *pool, *other_pool;
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
make_of(struct rte_mempool *pool, uint16_t pieces, uint16_t bytes, uint8_t first)
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

static struct rte_mbuf *
make(uint16_t pieces, uint16_t bytes, uint8_t first)
{
	return make_of(pool, pieces, bytes, first);
}

/* Receives one mbuf: whether it was returned. */
static bool
receive(struct rte_mbuf *mbuf, struct shim_frame *frame)
{
	uint32_t malformed = 0;
	uint16_t received;

	next_burst[0] = mbuf;
	next_count = 1;
	received = shim_rx_burst(0, 0, pool, frame, 1, &malformed);
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

/* Receives one of another pool: the returned frame is of ours, with its bytes, flags and hash. */
static void
expect_copied(struct rte_mbuf *mbuf)
{
	struct shim_frame frame;

	mbuf->ol_flags |= RTE_MBUF_F_RX_RSS_HASH | RTE_MBUF_F_RX_IP_CKSUM_GOOD;
	mbuf->hash.rss = 0xabcd;
	CHECK(receive(mbuf, &frame));
	CHECK(frame.mbuf != mbuf && frame.mbuf->pool == pool && frame.mbuf->nb_segs == 1);
	CHECK(RTE_MBUF_DIRECT(frame.mbuf) && rte_mbuf_refcnt_read(frame.mbuf) == 1);
	CHECK(frame.len == 100 && frame.capacity == 2048 && frame.rss_hash == 0xabcd);
	CHECK(frame.flags == (SHIM_RSS_HASH | SHIM_IP_GOOD));
	CHECK(frame.data[0] == 7 && frame.data[99] == 7);
	memset(frame.data, 9, 100);
	shim_free(frame.mbuf);
}

static uint16_t external_frees;

static void
free_external(void *address, void *opaque)
{
	external_frees++;
}

/* Memory that has another owner as well, or that is not of our pool. */
static void
frames_that_are_not_ours(void)
{
	static uint8_t memory[2048];
	struct rte_mbuf_ext_shared_info *shared;
	struct rte_mbuf *mbuf, *indirect;
	uint16_t usable = sizeof(memory);
	int i;

	/* Another pool's. */
	expect_copied(make_of(other_pool, 1, 100, 7));
	CHECK(rte_mempool_avail_count(other_pool) == FRAMES);
	/* One with another owner, for whom it stays unchanged. */
	mbuf = make(1, 100, 7);
	rte_mbuf_refcnt_update(mbuf, 1);
	expect_copied(mbuf);
	CHECK(rte_mbuf_refcnt_read(mbuf) == 1 && *rte_pktmbuf_mtod(mbuf, uint8_t *) == 7);
	/* One that refers to another's buffer. */
	indirect = rte_pktmbuf_clone(mbuf, pool);
	CHECK(indirect != NULL && !RTE_MBUF_DIRECT(indirect));
	expect_copied(indirect);
	CHECK(rte_mbuf_refcnt_read(mbuf) == 1 && *rte_pktmbuf_mtod(mbuf, uint8_t *) == 7);
	rte_pktmbuf_free(mbuf);
	/* The driver's own memory. */
	mbuf = rte_pktmbuf_alloc(pool);
	shared = rte_pktmbuf_ext_shinfo_init_helper(memory, &usable, free_external, NULL);
	rte_pktmbuf_attach_extbuf(mbuf, memory, RTE_BAD_IOVA, usable, shared);
	memset(rte_pktmbuf_append(mbuf, 100), 7, 100);
	expect_copied(mbuf);
	CHECK(external_frees == 1 && memory[0] == 7);
	CHECK(rte_mempool_avail_count(pool) == FRAMES);

	/* No frame is free to copy into. */
	struct rte_mbuf *all[FRAMES];
	for (i = 0; i < FRAMES; i++)
		all[i] = rte_pktmbuf_alloc(pool);
	CHECK(!receive(make_of(other_pool, 1, 100, 7), &(struct shim_frame){0}));
	for (i = 0; i < FRAMES; i++)
		rte_pktmbuf_free(all[i]);
	CHECK(rte_mempool_avail_count(other_pool) == FRAMES);
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
	/* A piece that starts after its buffer. */
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
	/* The second piece has a wrong length. */
	mbuf = make(2, 60, 0);
	mbuf->next->data_len = 4000;
	mbuf->pkt_len = 4060;
	expect_dropped(mbuf);
}

/* A burst keeps the order of its valid frames around dropped ones. */
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
	CHECK(shim_rx_burst(0, 0, pool, frames, 32, &malformed) == 5);
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
	other_pool = rte_pktmbuf_pool_create("others", FRAMES, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
			SOCKET_ID_ANY);
	CHECK(pool != NULL && other_pool != NULL);
	rte_eth_fp_ops[0].rx_pkt_burst = fake_rx;
	rte_eth_fp_ops[0].rxq.data = queues;
	sound_frames();
	frames_that_are_not_ours();
	frames_that_lie();
	mixed_burst();
	empty_pool();
	return 0;
}
