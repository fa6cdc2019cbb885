// SPDX-License-Identifier: GPL-2.0

//! Short workloads, each made to reach one corner of the volume.

use crate::plan::Growth;
use crate::plan::Plan;
use crate::space::Space;
use crate::toy::Toy;
use crate::toy::BLOCK_SECTORS;
use crate::user::User;
use kernel::prelude::*;
use sim::clock::sleep;
use sim::model::Shape;
use std::ops::Range;
use vdo::format::Lbn;
use vdo::world::Operation;

/// One step of a workload. Ranges are blocks of the model.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes data.
    Write(Range<u64>),
    /// Writes data that is stable when the write completes.
    Fua(Range<u64>),
    /// Writes zeroes.
    Zero(Range<u64>),
    /// Asks for zeroes.
    WriteZeroes(Range<u64>),
    /// Writes blocks, with zeroes in these sectors of them.
    Mixed(Range<u64>, Vec<Range<u64>>),
    /// Writes blocks that are all the same.
    Same(Range<u64>),
    /// Discards logical blocks.
    Discard(Range<Lbn>),
    /// Does something with sectors.
    Sectors(Sectors),
    /// Makes everything durable.
    Flush,
    /// Reads everything.
    Read,
    /// Lets milliseconds go by.
    Sleep(u64),
    /// Suspends and resumes.
    Suspend {
        /// Whether everything is saved.
        flush: bool,
    },
    /// Loads a table with other sizes and switches to it.
    Grow(Growth),
    /// Removes the device and starts it again.
    Restart,
    /// Does all of these at once.
    Together(Vec<Step>),
}

/// What is done with sectors, of the model, or for a discard of the volume.
#[derive(Clone, Debug)]
pub struct Sectors {
    /// The operation.
    pub operation: Operation,
    /// The sectors.
    pub range: Range<u64>,
    /// Whether it is to be stable when it completes.
    pub fua: bool,
}

/// A workload.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name.
    pub name: &'static str,
    /// The machine it runs on.
    pub plan: Plan,
    /// What it does.
    pub steps: Vec<Step>,
    /// Whether a step may fail for want of space.
    pub may_be_full: bool,
}

/// Does one step.
///
/// # Errors
///
/// What a request was answered with.
pub async fn perform(user: &User, step: Step) -> Result {
    let sectors = |blocks: Range<u64>| blocks.start * BLOCK_SECTORS..blocks.end * BLOCK_SECTORS;
    match step {
        Step::Write(blocks) => user.write(sectors(blocks), false).await,
        Step::Fua(blocks) => user.write(sectors(blocks), true).await,
        Step::Zero(blocks) => user.zero(sectors(blocks), Operation::Write, false).await,
        Step::WriteZeroes(blocks) => {
            let operation = Operation::WriteZeroes;
            user.zero(sectors(blocks), operation, false).await
        }
        Step::Mixed(blocks, holes) => {
            let shape = Shape {
                holes,
                copies: None,
            };
            user.write_shaped(sectors(blocks), shape, false).await
        }
        Step::Same(blocks) => {
            let shape = Shape {
                holes: Vec::new(),
                copies: Some((1 << 40, BLOCK_SECTORS)),
            };
            user.write_shaped(sectors(blocks), shape, false).await
        }
        Step::Discard(lbns) => user.discard(sectors(lbns), false).await,
        Step::Sectors(Sectors {
            operation,
            range,
            fua,
        }) => match operation {
            Operation::Write => user.write(range, fua).await,
            Operation::WriteZeroes => user.zero(range, operation, fua).await,
            Operation::Discard => user.discard(range, fua).await,
            Operation::Flush => user.flush().await,
        },
        Step::Flush => user.flush().await,
        Step::Read => user.read_all().await.map(drop),
        Step::Sleep(milliseconds) => {
            sleep(&user.machine.world, milliseconds * 1000).await;
            Ok(())
        }
        Step::Suspend { flush } => user.machine.suspend_and_resume(flush).await,
        Step::Grow(growth) => user.machine.grow(growth).await,
        Step::Restart => {
            user.machine.remove().await;
            user.machine.start().await
        }
        Step::Together(_) => Err(EINVAL),
    }
}

/// Requests that begin and end anywhere, across the borders of blocks and of leaf pages.
fn sectors() -> Vec<Step> {
    let step = |operation, range, fua| {
        Step::Sectors(Sectors {
            operation,
            range,
            fua,
        })
    };
    // Blocks 808 to 816 of the volume are 8 to 16 of the model; a leaf page ends in their middle.
    let volume = |sector: u64| sector + (808 - 8) * BLOCK_SECTORS;
    use Operation::{Discard, Write, WriteZeroes};
    vec![
        step(Write, 3..30, false),
        step(Write, 90..103, true),
        step(Discard, 5..7, true),
        step(Discard, 12..21, false),
        step(WriteZeroes, 22..27, true),
        Step::Flush,
        step(Write, 64..128, false),
        step(Discard, volume(70)..volume(121), true),
        step(WriteZeroes, 66..69, false),
        step(Write, 100..101, false),
        step(Discard, volume(95)..volume(97), false),
        step(WriteZeroes, 81..126, true),
    ]
}

fn repeat(times: usize, steps: &[Step]) -> Vec<Step> {
    std::iter::repeat_n(steps, times)
        .flatten()
        .cloned()
        .collect()
}

/// Returns the whole family.
#[expect(clippy::single_range_in_vec_init, reason = "one hole")]
pub fn family() -> Vec<Script> {
    use Step::{
        Discard, Flush, Fua, Grow, Mixed, Read, Restart, Same, Sleep, Suspend, Together, Write,
        WriteZeroes, Zero,
    };
    let plan = Plan::default();
    let script = |name, steps| Script {
        name,
        plan: plan.clone(),
        steps,
        may_be_full: false,
    };
    let one_leaf = Plan {
        space: Space::new(std::slice::from_ref(&(0..8))),
        ..plan.clone()
    };
    let tall = Plan {
        toy: Toy {
            // Tree 0 has two pages of height 1, the second for its leaf page number 812.
            logical_blocks: 812 * 3 * 812 + 20,
            ..Toy::default()
        },
        space: Space::new(&[0..4, 812..814, 1_978_032..1_978_036]),
        ..plan.clone()
    };
    vec![
        script("first writes", vec![Write(0..8), Flush, Write(8..16)]),
        script(
            "tree growth",
            vec![
                Write(0..2),
                Write(12..14),
                Flush,
                Write(14..18),
                Write(18..22),
            ],
        ),
        Script {
            plan: tall,
            ..script(
                "tall tree",
                vec![Write(6..10), Write(0..2), Flush, Write(4..6)],
            )
        },
        Script {
            plan: one_leaf.clone(),
            ..script(
                "journal wrap",
                repeat(12, &[Write(0..4), Write(4..8), Flush]),
            )
        },
        Script {
            plan: one_leaf.clone(),
            ..script("journal wrap without flush", {
                let mut steps = repeat(16, &[Write(0..8)]);
                steps.push(Sleep(20));
                steps.extend(repeat(8, &[Write(2..7)]));
                steps
            })
        },
        script(
            "eras",
            repeat(
                3,
                &[
                    Write(0..2),
                    Write(12..14),
                    Write(16..18),
                    Write(8..10),
                    Fua(20..21),
                ],
            ),
        ),
        script(
            "zeroes and discards",
            vec![
                Write(0..8),
                Zero(2..4),
                Mixed(4..7, Vec::from([32..40])),
                Flush,
                Discard(0..4),
                WriteZeroes(5..8),
                Write(3..6),
                Discard(0..5000),
                Fua(0..2),
                Discard(1..2),
            ],
        ),
        script(
            "zeroes within",
            vec![
                Mixed(0..4, Vec::from([8..16])),
                Same(4..12),
                Mixed(0..4, vec![0..8, 24..32]),
                Flush,
                Mixed(2..5, vec![16..20, 36..40]),
                Same(2..6),
                Mixed(8..16, vec![64..96, 97..128]),
                Discard(0..5000),
                Mixed(3..6, Vec::from([40..48])),
            ],
        ),
        Script {
            plan: Plan {
                small_sectors: true,
                ..plan.clone()
            },
            ..script("sectors", sectors())
        },
        script(
            "all at once",
            vec![
                Together(vec![
                    Write(0..4),
                    Write(2..6),
                    Fua(3..5),
                    Discard(4..808),
                    Flush,
                    Zero(1..3),
                ]),
                Together(vec![Write(0..8), Write(8..12), Write(12..16), Read, Flush]),
            ],
        ),
        Script {
            plan: Plan {
                toy: Toy {
                    layout: crate::toy::Layout {
                        slabs: 1,
                        ..Toy::default().layout
                    },
                    ..Toy::default()
                },
                space: Space::new(&[0..8, 808..824]),
                ..plan.clone()
            },
            may_be_full: true,
            ..script(
                "out of space",
                vec![
                    Write(0..8),
                    Write(8..16),
                    Write(0..8),
                    Write(16..24),
                    Flush,
                    Discard(0..6),
                    Write(12..20),
                    Write(0..3),
                    Together(vec![
                        Write(0..8),
                        Write(8..16),
                        Discard(808..812),
                        Zero(20..24),
                    ]),
                    Flush,
                ],
            )
        },
        Script {
            plan: one_leaf.clone(),
            ..script("slab journal wrap", {
                let mut steps = repeat(6, &[Write(0..8), Discard(0..8)]);
                steps.extend(repeat(3, &[Flush, Write(1..7)]));
                steps
            })
        },
        script(
            "suspend",
            vec![
                Write(0..6),
                Suspend { flush: true },
                Write(4..10),
                Suspend { flush: false },
                Write(2..5),
                Flush,
                Suspend { flush: true },
                Suspend { flush: false },
                Write(20..22),
            ],
        ),
        script(
            "restart",
            vec![
                Write(0..8),
                Restart,
                Write(4..12),
                Restart,
                Discard(2..6),
                Restart,
            ],
        ),
        script(
            "growth",
            vec![
                Write(0..8),
                Grow(Growth {
                    logical: 812,
                    slabs: 0,
                    flush: true,
                }),
                Write(4..10),
                Grow(Growth {
                    logical: 0,
                    slabs: 3,
                    flush: true,
                }),
                Write(12..20),
                Flush,
                Restart,
                Write(0..4),
            ],
        ),
        script(
            "growth without saving",
            vec![
                Write(0..8),
                Write(2..6),
                Grow(Growth {
                    logical: 812,
                    slabs: 0,
                    flush: false,
                }),
                Write(4..12),
                Write(12..20),
                Write(0..8),
                Grow(Growth {
                    logical: 0,
                    slabs: 3,
                    flush: false,
                }),
                Write(8..16),
                Flush,
                Restart,
                Write(0..4),
            ],
        ),
    ]
}
