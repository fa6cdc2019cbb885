// SPDX-License-Identifier: GPL-2.0

//! Device-mapper abstractions: targets, devices, arguments, status.

