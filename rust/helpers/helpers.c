// SPDX-License-Identifier: GPL-2.0

#include "helpers.h"

void dmox_bio_set_dev(struct bio *bio, struct block_device *bdev)
{
	bio_set_dev(bio, bdev);
}
