/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C functions that Rust cannot call because they are inline or macros. A line or two each in
 * helpers.c; anything longer belongs elsewhere.
 */
#ifndef DMOX_HELPERS_H
#define DMOX_HELPERS_H

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

/* Atomics. */
u32 dmox_fetch_or_u32(u32 bits, u32 *word);
u32 dmox_fetch_and_u32(u32 bits, u32 *word);
u64 dmox_fetch_or_u64(u64 bits, u64 *word);
u64 dmox_fetch_and_u64(u64 bits, u64 *word);

/* Locks and contexts. */
void dmox_irq_lock_init(spinlock_t *lock);
unsigned long dmox_spin_lock_irqsave(spinlock_t *lock);
void dmox_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);
unsigned int dmox_noio_save(void);
void dmox_noio_restore(unsigned int flags);

/* Work, timers, rates. */
void dmox_work_init(struct work_struct *work, work_func_t function);
void dmox_timer_init(struct timer_list *timer, void (*function)(struct timer_list *));
bool dmox_ratelimit(unsigned int line, const char *name);
size_t dmox_process_name(char *name, size_t size);

/* Memory. */
struct page *dmox_alloc_pages(unsigned int order, bool may_wait);
void *dmox_page_address(struct page *page);

/* Bios and block devices. */
void dmox_bio_init_internal(struct bio *bio, struct block_device *bdev, struct bio_vec *vecs,
			    unsigned short max_vecs, blk_opf_t opf);
void dmox_bio_copy_out(struct bio *bio, struct bvec_iter *iter, void *to, unsigned int bytes);
void dmox_bio_copy_in(struct bio *bio, struct bvec_iter *iter, const void *from,
		      unsigned int bytes);
bool dmox_bio_is_zero(struct bio *bio, const struct bvec_iter *iter, unsigned int bytes);
void dmox_bio_skip(struct bio *bio, struct bvec_iter *iter, unsigned int bytes);
void dmox_bio_set_dev(struct bio *bio, struct block_device *bdev);
sector_t dmox_bdev_sectors(struct block_device *bdev);
bool dmox_bdev_read_only(struct block_device *bdev);
unsigned int dmox_bdev_logical_block_size(struct block_device *bdev);
void dmox_bdev_limits(struct block_device *bdev, struct queue_limits *limits);
int dmox_bdev_name(struct block_device *bdev, char *name, size_t size);

/* Device-mapper. */
dev_t dmox_dm_dev(struct dm_target *target);

#endif
