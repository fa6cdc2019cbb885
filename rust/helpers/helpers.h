/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C functions that Rust cannot call because they are inline or macros. One line each in helpers.c;
 * anything longer belongs elsewhere.
 */
#ifndef DMOX_HELPERS_H
#define DMOX_HELPERS_H

#include <linux/bio.h>

void dmox_bio_set_dev(struct bio *bio, struct block_device *bdev);

#endif
