// SPDX-License-Identifier: GPL-2.0

//! The map against a model.
