// SPDX-License-Identifier: GPL-2.0
/*
 * Requests to a block device, made by threads of the kernel: a load without system calls, which in
 * User Mode Linux cost more than what is to be measured.
 *
 * An order is one line of words NAME=VALUE, written to debugfs:/dmox-load/order; the write returns
 * when all is done, and the file then holds "requests=N cpu=NS wall=NS errors=N". What an order can
 * say stands in `words`. The file `cpu` holds the time that the kernel has used so far.
 *
 * Each page of data that is written begins with a word that says where it belongs and of which seed
 * it is; with check=1 reads are compared with that.
 */

#include <linux/bio.h>
#include <linux/bitmap.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

struct order {
	u64 offset; /* bytes, where the first job begins */
	u64 span; /* bytes of each job; they lie one behind the other */
	u64 count; /* requests of each job */
	u64 block; /* bytes of a request */
	u64 depth; /* of each job */
	u64 jobs;
	u64 ms; /* end after that time, however many have been made; 0: never */
	u64 random; /* anywhere in the span, else one after the other, round and round */
	u64 stride; /* of these blocks each so many-th only */
	u64 refill; /* new data in the whole buffer for each write */
	u64 noise; /* that many bytes of a page are its own, the rest zeroes; 0: rest as it comes */
	u64 like; /* percent of the pages that hold what is said by like_offset and like_seed */
	u64 like_offset; /* what an order would have written here that begins at this byte */
	u64 like_seed; /* with this seed */
	u64 alike; /* so many pages of a request hold what the first of them does */
	u64 anew; /* no request holds what another does, also not of the same place */
	u64 zero; /* writes are of zeroes */
	u64 sync; /* a flush after each write, at depth 1 */
	u64 flush; /* one when all is written; it counts */
	u64 check; /* what is read */
	u64 seed;
};

static const struct {
	const char *name;
	size_t at;
} words[] = {
	{ "offset", offsetof(struct order, offset) }, { "span", offsetof(struct order, span) },
	{ "count", offsetof(struct order, count) },   { "block", offsetof(struct order, block) },
	{ "depth", offsetof(struct order, depth) },   { "jobs", offsetof(struct order, jobs) },
	{ "ms", offsetof(struct order, ms) },	      { "random", offsetof(struct order, random) },
	{ "stride", offsetof(struct order, stride) }, { "refill", offsetof(struct order, refill) },
	{ "zero", offsetof(struct order, zero) },     { "sync", offsetof(struct order, sync) },
	{ "flush", offsetof(struct order, flush) },   { "check", offsetof(struct order, check) },
	{ "seed", offsetof(struct order, seed) },     { "noise", offsetof(struct order, noise) },
	{ "like", offsetof(struct order, like) },     { "alike", offsetof(struct order, alike) },
	{ "like_offset", offsetof(struct order, like_offset) },
	{ "like_seed", offsetof(struct order, like_seed) },
	{ "anew", offsetof(struct order, anew) },
};

struct job;

/* A request and its buffer, used over and over. */
struct slot {
	struct bio bio;
	struct job *job;
	unsigned int number;
	sector_t sector;
	u64 request;
	unsigned int pieces;
	struct bio_vec *data;
};

struct job {
	const struct order *order;
	struct block_device *device;
	enum req_op op;
	sector_t start;
	u64 state; /* of the random numbers */
	struct slot *slots;
	unsigned long *busy; /* a bit for each slot */
	wait_queue_head_t ended;
	atomic_t errors;
	u64 made;
	struct completion over;
};

static DEFINE_MUTEX(lock);
static struct dentry *folder;
static char result[128];

/*
 * The time of all CPUs in this kernel. User Mode Linux is a process, and its host knows; the guest's
 * own processes are other ones. Elsewhere it is the clock.
 */
static u64 cpu_ns(void)
{
#ifdef CONFIG_UML
	const long clock_gettime = 228, process_cpu_clock = 2;
	struct {
		s64 seconds, nanoseconds;
	} now;
	long status;

	asm volatile("syscall"
		     : "=a"(status)
		     : "0"(clock_gettime), "D"(process_cpu_clock), "S"(&now)
		     : "rcx", "r11", "memory");
	return status ? 0 : (u64)now.seconds * NSEC_PER_SEC + now.nanoseconds;
#else
	return ktime_get_ns();
#endif
}

/* Well mixed, and different for each number. */
static u64 mix(u64 number)
{
	number += 0x9e3779b97f4a7c15ULL;
	number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9ULL;
	number = (number ^ (number >> 27)) * 0x94d049bb133111ebULL;
	return number ^ (number >> 31);
}

static u64 mark(const struct slot *slot, unsigned int piece)
{
	const struct order *order = slot->job->order;
	u64 seed = order->seed;
	sector_t sector;

	if (order->alike)
		piece -= piece % order->alike;
	sector = slot->sector + piece * (PAGE_SIZE / SECTOR_SIZE);
	if (order->like && (mix(~sector) & 0xffff) * 100 < order->like << 16) {
		sector += (order->like_offset >> SECTOR_SHIFT) - (order->offset >> SECTOR_SHIFT);
		seed = order->like_seed;
	} else if (order->anew) {
		seed = mix(seed ^ slot->request);
	}
	return mix(seed ^ sector << 8);
}

static u64 *piece(const struct slot *slot, unsigned int number)
{
	return page_address(slot->data[number].bv_page);
}

static void fill(struct slot *slot)
{
	const struct order *order = slot->job->order;
	u64 noise = order->refill ? PAGE_SIZE : order->noise;
	unsigned int i, word;

	if (order->zero)
		return;
	for (i = 0; i < slot->pieces; i++) {
		u64 first = mark(slot, i), value = first;
		u64 *to = piece(slot, i);

		to[0] = first;
		for (word = 1; word < min_t(u64, noise, slot->data[i].bv_len) / sizeof(u64); word++) {
			value ^= value << 13;
			value ^= value >> 7;
			value ^= value << 17;
			to[word] = value;
		}
	}
}

static bool is_right(const struct slot *slot)
{
	unsigned int i;

	for (i = 0; i < slot->pieces; i++)
		if (*piece(slot, i) != mark(slot, i))
			return false;
	return true;
}

static void ended(struct bio *bio)
{
	struct slot *slot = bio->bi_private;
	struct job *job = slot->job;

	if (bio->bi_status || (job->order->check && job->op == REQ_OP_READ && !is_right(slot)))
		atomic_inc(&job->errors);
	/* The job frees itself only after what is in here. */
	rcu_read_lock();
	clear_bit_unlock(slot->number, job->busy);
	smp_mb__after_atomic();
	if (waitqueue_active(&job->ended))
		wake_up(&job->ended);
	rcu_read_unlock();
}

static void submit(struct job *job, struct slot *slot)
{
	const struct order *order = job->order;
	bool writes = job->op == REQ_OP_WRITE;

	bio_init(&slot->bio, job->device, slot->data, slot->pieces,
		 job->op | (writes ? REQ_SYNC | REQ_IDLE : 0));
	slot->bio.bi_vcnt = slot->pieces;
	slot->bio.bi_iter.bi_sector = slot->sector;
	slot->bio.bi_iter.bi_size = order->block;
	slot->bio.bi_private = slot;
	slot->bio.bi_end_io = ended;
	if (writes)
		fill(slot);
	set_bit(slot->number, job->busy);
	submit_bio(&slot->bio);
}

static int run(void *data)
{
	struct job *job = data;
	const struct order *order = job->order;
	u64 blocks = div64_u64(order->span, order->block), block, i;
	u64 end = order->ms ? ktime_get_ns() + order->ms * NSEC_PER_MSEC : U64_MAX;
	unsigned int number = 0;

	for (i = 0; i < order->count && (end == U64_MAX || ktime_get_ns() < end); i++) {
		number = find_next_zero_bit(job->busy, order->depth, number);
		if (number == order->depth) {
			/* Round again, so that every buffer has its turn. */
			wait_event(job->ended, (number = find_first_zero_bit(job->busy, order->depth)) <
						       order->depth);
		}
		if (order->random)
			div64_u64_rem(mix(job->state++), blocks, &block);
		else
			div64_u64_rem(i * order->stride, blocks, &block);
		job->slots[number].sector = job->start + block * (order->block >> SECTOR_SHIFT);
		job->slots[number].request = i;
		/* Pairs with the release of the bit. */
		smp_mb();
		submit(job, &job->slots[number]);
		if (order->sync) {
			wait_event(job->ended, bitmap_empty(job->busy, order->depth));
			if (blkdev_issue_flush(job->device))
				atomic_inc(&job->errors);
		}
		cond_resched();
	}
	wait_event(job->ended, bitmap_empty(job->busy, order->depth));
	job->made = i;
	complete(&job->over);
	return 0;
}

static void free_job(struct job *job)
{
	unsigned int s, i;

	for (s = 0; job->slots && s < job->order->depth; s++) {
		struct slot *slot = &job->slots[s];

		for (i = 0; i < slot->pieces; i++)
			__free_page(slot->data[i].bv_page);
		kfree(slot->data);
	}
	kvfree(job->slots);
	bitmap_free(job->busy);
}

static int make_job(struct job *job, const struct order *order, u64 number)
{
	u64 pieces = job->op == REQ_OP_DISCARD ? 0 : DIV_ROUND_UP_ULL(order->block, PAGE_SIZE);
	unsigned int s;

	job->order = order;
	job->start = (order->offset + number * order->span) >> SECTOR_SHIFT;
	job->state = mix(order->seed + number) >> 8;
	init_waitqueue_head(&job->ended);
	init_completion(&job->over);
	job->slots = kvcalloc(order->depth, sizeof(struct slot), GFP_KERNEL);
	job->busy = bitmap_zalloc(order->depth, GFP_KERNEL);
	if (!job->slots || !job->busy)
		return -ENOMEM;
	for (s = 0; s < order->depth; s++) {
		struct slot *slot = &job->slots[s];

		slot->job = job;
		slot->number = s;
		slot->data = kcalloc(pieces, sizeof(struct bio_vec), GFP_KERNEL);
		if (!slot->data)
			return -ENOMEM;
		while (slot->pieces < pieces) {
			struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

			if (!page)
				return -ENOMEM;
			if (!order->zero && !order->noise)
				get_random_bytes(page_address(page), PAGE_SIZE);
			bvec_set_page(&slot->data[slot->pieces++], page,
				      min_t(u64, order->block, PAGE_SIZE), 0);
		}
	}
	return 0;
}

static int carry_out(const struct order *order, enum req_op op, struct block_device *device)
{
	struct job *jobs = kvcalloc(order->jobs, sizeof(*jobs), GFP_KERNEL);
	u64 j, started = 0, cpu, wall, made = 0, errors = 0;
	int status = 0;

	if (!jobs)
		return -ENOMEM;
	for (j = 0; j < order->jobs && !status; j++) {
		jobs[j].device = device;
		jobs[j].op = op;
		status = make_job(&jobs[j], order, j);
	}
	wall = ktime_get_ns();
	cpu = cpu_ns();
	for (; started < order->jobs && !status; started++)
		status = PTR_ERR_OR_ZERO(kthread_run(run, &jobs[started], "dmox-load/%llu", started));
	if (status && started)
		started--;
	for (j = 0; j < started; j++)
		wait_for_completion(&jobs[j].over);
	if (!status && order->flush)
		status = blkdev_issue_flush(device);
	cpu = cpu_ns() - cpu;
	wall = ktime_get_ns() - wall;
	synchronize_rcu();
	for (j = 0; j < order->jobs; j++) {
		made += jobs[j].made;
		errors += atomic_read(&jobs[j].errors);
		if (jobs[j].order)
			free_job(&jobs[j]);
	}
	kvfree(jobs);
	scnprintf(result, sizeof(result), "requests=%llu cpu=%llu wall=%llu errors=%llu\n", made, cpu,
		  wall, errors);
	return status;
}

static int parse(char *text, struct order *order, enum req_op *op, char **device)
{
	char *word, *value;
	unsigned int i;
	int status;

	while ((word = strsep(&text, " \n"))) {
		value = strchr(word, '=');
		if (!value)
			continue;
		*value++ = '\0';
		if (!strcmp(word, "device")) {
			*device = value;
		} else if (!strcmp(word, "op")) {
			*op = !strcmp(value, "read")	? REQ_OP_READ :
			      !strcmp(value, "write")	? REQ_OP_WRITE :
			      !strcmp(value, "discard") ? REQ_OP_DISCARD :
							  REQ_OP_LAST;
		} else {
			for (i = 0; i < ARRAY_SIZE(words); i++)
				if (!strcmp(word, words[i].name))
					break;
			if (i == ARRAY_SIZE(words))
				return -EINVAL;
			status = kstrtou64(value, 0, (void *)order + words[i].at);
			if (status)
				return status;
		}
	}
	if (*op == REQ_OP_LAST || !*device)
		return -EINVAL;
	if (!order->block || order->block % SECTOR_SIZE || order->span < order->block)
		return -EINVAL;
	/* A request is one bio, of whole pages if it is larger than one. */
	if (*op != REQ_OP_DISCARD && order->block > PAGE_SIZE &&
	    (order->block % PAGE_SIZE || order->block > BIO_MAX_VECS * PAGE_SIZE))
		return -EINVAL;
	if (!order->depth || order->depth > 4096 || !order->jobs || order->jobs > 64)
		return -EINVAL;
	if (order->noise > PAGE_SIZE || order->like > 100)
		return -EINVAL;
	return order->sync && (order->depth != 1 || *op != REQ_OP_WRITE) ? -EINVAL : 0;
}

static ssize_t order_write(struct file *file, const char __user *from, size_t size, loff_t *at)
{
	struct order order = { .block = 4096, .depth = 1, .jobs = 1, .stride = 1, .seed = 1 };
	enum req_op op = REQ_OP_LAST;
	char *device = NULL, *text;
	struct file *opened;
	int status;

	if (size > 1024)
		return -E2BIG;
	text = memdup_user_nul(from, size);
	if (IS_ERR(text))
		return PTR_ERR(text);
	status = parse(text, &order, &op, &device);
	if (!status) {
		opened = bdev_file_open_by_path(device, BLK_OPEN_READ | BLK_OPEN_WRITE, NULL, NULL);
		status = PTR_ERR_OR_ZERO(opened);
	}
	if (!status) {
		mutex_lock(&lock);
		status = carry_out(&order, op, file_bdev(opened));
		mutex_unlock(&lock);
		bdev_fput(opened);
	}
	kfree(text);
	return status ? status : size;
}

static ssize_t order_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	ssize_t done;

	mutex_lock(&lock);
	done = simple_read_from_buffer(to, size, at, result, strlen(result));
	mutex_unlock(&lock);
	return done;
}

static const struct file_operations order_operations = {
	.owner = THIS_MODULE,
	.read = order_read,
	.write = order_write,
};

static ssize_t cpu_read(struct file *file, char __user *to, size_t size, loff_t *at)
{
	char text[24];

	return simple_read_from_buffer(to, size, at, text,
				       scnprintf(text, sizeof(text), "%llu\n", cpu_ns()));
}

static const struct file_operations cpu_operations = {
	.owner = THIS_MODULE,
	.read = cpu_read,
};

static int __init load_init(void)
{
	folder = debugfs_create_dir("dmox-load", NULL);
	debugfs_create_file("order", 0600, folder, NULL, &order_operations);
	debugfs_create_file("cpu", 0400, folder, NULL, &cpu_operations);
	return PTR_ERR_OR_ZERO(folder);
}

static void __exit load_exit(void)
{
	debugfs_remove(folder);
}

module_init(load_init);
module_exit(load_exit);
MODULE_DESCRIPTION("Requests to a block device, for measurements");
MODULE_LICENSE("GPL");
