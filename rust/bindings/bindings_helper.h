/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads: the headers that the kernel crate's bindings lack, and constants that it
 * cannot evaluate (macros with a cast), as DMOX_CONST_<NAME>.
 */

/* First, as in the kernel: bindgen stumbles over enums that were declared before. */
#include <linux/hrtimer_types.h>

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/crc32.h>
#include <linux/device-mapper.h>
#include <linux/lz4.h>

#include "helpers.h"

const blk_mode_t DMOX_CONST_BLK_OPEN_READ = BLK_OPEN_READ;
const blk_mode_t DMOX_CONST_BLK_OPEN_WRITE = BLK_OPEN_WRITE;
const gfp_t DMOX_CONST_GFP_NOIO = GFP_NOIO;
const gfp_t DMOX_CONST_GFP_NOWAIT = GFP_NOWAIT | __GFP_NOWARN;
