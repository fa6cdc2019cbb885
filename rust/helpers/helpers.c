// SPDX-License-Identifier: GPL-2.0

#include <linux/atomic.h>
#include <linux/blk-cgroup.h>
#include <linux/gfp.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/unaligned.h>

#include "helpers.h"

u32 dmox_fetch_or_u32(u32 bits, u32 *word)
{
	return atomic_fetch_or(bits, (atomic_t *)word);
}

u32 dmox_fetch_and_u32(u32 bits, u32 *word)
{
	return atomic_fetch_and(bits, (atomic_t *)word);
}

u64 dmox_fetch_or_u64(u64 bits, u64 *word)
{
	return atomic64_fetch_or(bits, (atomic64_t *)word);
}

u64 dmox_fetch_and_u64(u64 bits, u64 *word)
{
	return atomic64_fetch_and(bits, (atomic64_t *)word);
}

/* All these locks are one lockdep class, since no two of them may be held at once. */
void dmox_irq_lock_init(spinlock_t *lock)
{
	spin_lock_init(lock);
}

unsigned long dmox_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

void dmox_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

unsigned int dmox_noio_save(void)
{
	return memalloc_noio_save();
}

void dmox_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}

void dmox_work_init(struct work_struct *work, work_func_t function)
{
	INIT_WORK(work, function);
}

void dmox_timer_init(struct timer_list *timer, void (*function)(struct timer_list *))
{
	timer_setup(timer, function, 0);
}

/* One state for each line of the module that is limited: one must not hide another. */
bool dmox_ratelimit(unsigned int line, const char *name)
{
	static struct ratelimit_state states[8] = {
		[0 ... 7] = RATELIMIT_STATE_INIT(states, DEFAULT_RATELIMIT_INTERVAL,
						 DEFAULT_RATELIMIT_BURST),
	};

	if (WARN_ON_ONCE(line >= ARRAY_SIZE(states)))
		return true;
	return ___ratelimit(&states[line], name);
}

/* Returns 0 in an interrupt and in threads of the kernel, which work for everybody. */
size_t dmox_process_name(char *name, size_t size)
{
	ssize_t length;

	if (!in_task() || current->flags & PF_KTHREAD)
		return 0;
	length = strscpy(name, current->comm, size);
	return length < 0 ? size - 1 : length;
}

/* Compound, so that a network block device may send the pages without a copy. */
struct page *dmox_alloc_pages(unsigned int order, bool may_wait)
{
	gfp_t gfp = (may_wait ? GFP_KERNEL : GFP_NOWAIT | __GFP_NOWARN) | __GFP_ZERO;

	if (order)
		gfp |= __GFP_COMP | __GFP_NORETRY | __GFP_NOWARN;
	return alloc_pages(gfp, order);
}

void *dmox_page_address(struct page *page)
{
	return page_address(page);
}

/*
 * A bio for I/O that everybody may come to wait for: no cgroup's limits apply to it, whichever
 * process happened to start it.
 */
void dmox_bio_init_internal(struct bio *bio, struct block_device *bdev, struct bio_vec *vecs,
			    unsigned short max_vecs, blk_opf_t opf)
{
	bio_init(bio, NULL, vecs, max_vecs, opf);
	bio->bi_bdev = bdev;
	bio_associate_blkg_from_css(bio, blkcg_root_css);
}

/*
 * The data of a bio, by an iterator of one's own. All stop at the end of the data.
 */
void dmox_bio_copy_out(struct bio *bio, struct bvec_iter *iter, void *to, unsigned int bytes)
{
	while (bytes && iter->bi_size) {
		struct bio_vec piece = bio_iter_iovec(bio, *iter);
		unsigned int len = min(piece.bv_len, bytes);

		piece.bv_len = len;
		memcpy_from_bvec(to, &piece);
		to += len;
		bytes -= len;
		bio_advance_iter_single(bio, iter, len);
	}
}

/* Zeroes where there is nothing to copy from. */
void dmox_bio_copy_in(struct bio *bio, struct bvec_iter *iter, const void *from,
		      unsigned int bytes)
{
	while (bytes && iter->bi_size) {
		struct bio_vec piece = bio_iter_iovec(bio, *iter);
		unsigned int len = min(piece.bv_len, bytes);

		piece.bv_len = len;
		if (from) {
			memcpy_to_bvec(&piece, from);
			from += len;
		} else {
			memzero_bvec(&piece);
		}
		bytes -= len;
		bio_advance_iter_single(bio, iter, len);
	}
}

/* Whether `len` bytes are all zero: 64 at a time, where memchr_inv() looks at 8. */
static bool dmox_all_zero(const u8 *data, unsigned int len)
{
	for (; len >= 64; data += 64, len -= 64) {
		const u64 *word = (const u64 *)data;
		u64 any = 0;
		int i;

		for (i = 0; i < 8; i++)
			any |= get_unaligned(word + i);
		if (any)
			return false;
	}
	return !len || !memchr_inv(data, 0, len);
}

bool dmox_bio_is_zero(struct bio *bio, const struct bvec_iter *start, unsigned int bytes)
{
	struct bvec_iter iter = *start;

	while (bytes && iter.bi_size) {
		struct bio_vec piece = bio_iter_iovec(bio, iter);
		unsigned int len = min(piece.bv_len, bytes);
		void *data = bvec_kmap_local(&piece);
		bool zero = dmox_all_zero(data, len);

		kunmap_local(data);
		if (!zero)
			return false;
		bytes -= len;
		bio_advance_iter_single(bio, &iter, len);
	}
	return true;
}

void dmox_bio_skip(struct bio *bio, struct bvec_iter *iter, unsigned int bytes)
{
	bio_advance_iter(bio, iter, min(bytes, iter->bi_size));
}

void dmox_bio_set_dev(struct bio *bio, struct block_device *bdev)
{
	bio_set_dev(bio, bdev);
}

sector_t dmox_bdev_sectors(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev);
}

bool dmox_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

unsigned int dmox_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

void dmox_bdev_limits(struct block_device *bdev, struct queue_limits *limits)
{
	*limits = bdev_get_queue(bdev)->limits;
}

int dmox_bdev_name(struct block_device *bdev, char *name, size_t size)
{
	return scnprintf(name, size, "%pg", bdev);
}

dev_t dmox_dm_dev(struct dm_target *target)
{
	return disk_devt(dm_disk(dm_table_get_md(target->table)));
}
