// SPDX-License-Identifier: GPL-2.0

use super::Error;
use super::Status;
use kernel::prelude::*;
use std::string::ToString;

#[test]
fn texts_are_those_of_log_lines() {
    assert_eq!(
        Error::from(Status::NoSpace).to_string(),
        "VDO Status: Out of space (1467)"
    );
    assert_eq!(Error::from(EINVAL).to_string(), "Invalid argument (-22)");
    assert_eq!(Status::InvalidAdminState as i32, 1490);
    assert_eq!(Status::BadNonce.name(), "VDO_BAD_NONCE");
}

#[test]
fn users_see_an_errno() {
    assert_eq!(Error::from(Status::NoSpace).errno(), ENOSPC);
    assert_eq!(Error::from(Status::BadConfiguration).errno(), EINVAL);
    assert_eq!(Error::READ_ONLY.errno(), EIO);
    assert_eq!(Error::from(ENOMEM).errno(), ENOMEM);
    assert!(!Error::READ_ONLY.is_mapping_logged());
    assert!(Error::from(Status::BadMapping).is_mapping_logged());
}
