// SPDX-License-Identifier: GPL-2.0

//! Slabs: which physical blocks are in use, and how often.
