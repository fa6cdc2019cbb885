// SPDX-License-Identifier: GPL-2.0

//! Tables: what loading may do, and what a reload keeps.

use clone::geometry::Geometry;
use clone::message::Message;
use clone::volume::Mode;
use clone_sim::machine::Line;
use clone_sim::machine::Plan;
use clone_sim::scene::plan;
use clone_sim::scene::Scene;
use clone_sim::scene::DESTINATION;
use clone_sim::scene::METADATA;
use clone_sim::user::User;
use kernel::alloc;
use kernel::error::code::EINVAL;
use kernel::error::code::EIO;
use kernel::error::code::ENOSPC;
use kernel::error::code::EROFS;
use sim::fault::Fault;
use sim::fault::Kind;

#[test]
fn loading_writes_nothing() {
    Scene::off(&plan(), plan().blank()).play(|user| async move {
        let table = user.machine.load().await.unwrap();
        user.machine.destroy(&table).await;
        assert_eq!(user.machine.world.changes(), 0);
        // Formatted at the first resume.
        user.machine.start().await.unwrap();
        assert!(
            clone_sim::inspect::metadata(&user.machine.world.images()[METADATA])
                .unwrap()
                .is_some()
        );
        let changes = user.machine.world.changes();
        let table = user.machine.load().await.unwrap();
        user.machine.destroy(&table).await;
        user.machine.remove().await;
        user.machine.start().await.unwrap();
        user.machine.remove().await;
        assert_eq!(user.machine.world.changes(), changes);
    });
}

#[test]
fn what_is_written_after_a_load_is_there_after_the_resume() {
    Scene::new(&plan()).play(|user| async move {
        let table = user.machine.load().await.unwrap();
        user.write(16..24, false).await.unwrap();
        user.flush().await.unwrap();
        user.write(24..32, false).await.unwrap();
        user.machine.switch(table).await.unwrap();
        user.read(0..512).await.unwrap();
        user.machine.remove().await;
        user.machine.start().await.unwrap();
        user.read(0..512).await.unwrap();
        assert_eq!(user.engine().volume().map().hydrated(), 2);
    });
}

#[test]
fn a_load_that_is_cleared_changes_nothing() {
    Scene::new(&plan()).play(|user| async move {
        user.write(16..24, false).await.unwrap();
        let table = user.machine.load().await.unwrap();
        user.machine.destroy(&table).await;
        user.write(1..2, false).await.unwrap();
        user.flush().await.unwrap();
        let table = user.machine.active().unwrap();
        user.machine.switch(table).await.unwrap();
        user.read(0..512).await.unwrap();
    });
}

#[test]
fn another_geometry_is_refused() {
    let mut scene = Scene::new(&plan());
    scene.play(|user| async move { user.machine.remove().await });
    let images = scene.user.machine.world.images();
    for (length, shift) in [(64 * 8, 4), (64 * 8 - 8, 3), (64 * 8 - 1, 3)] {
        let other = Plan {
            geometry: Geometry::new(length, shift).unwrap(),
            ..plan()
        };
        Scene::off(&other, images.clone()).play(|user| async move {
            assert_eq!(user.machine.load().await.err(), Some(EINVAL));
            assert_eq!(user.machine.world.changes(), 0);
        });
    }
}

#[test]
fn metadata_that_could_not_be_committed_to_is_refused() {
    for blocks in 3..10 {
        let plan = Plan {
            metadata_blocks: blocks,
            ..plan()
        };
        Scene::off(&plan, plan.blank()).play(|user| async move {
            assert_eq!(user.machine.load().await.err(), Some(ENOSPC));
            assert_eq!(user.machine.world.changes(), 0);
        });
    }
    Scene::new(&Plan {
        metadata_blocks: 10,
        ..plan()
    })
    .play(|user| async move {
        for region in 0..64 {
            user.write(region * 8..region * 8 + 8, true).await.unwrap();
        }
    });
}

#[test]
fn a_read_only_table_writes_nothing() {
    let mut read_only = plan();
    read_only.settings.read_only = true;
    read_only.settings.hydration = true;
    Scene::off(&read_only, read_only.blank()).play(|user| async move {
        assert_eq!(user.machine.load().await.err(), Some(EROFS));
    });
    let mut scene = Scene::new(&plan());
    scene.play(|user| async move {
        user.write(0..8, false).await.unwrap();
        user.machine.remove().await;
    });
    let images = scene.user.machine.world.images();
    let model = scene.user.model.borrow().clone();
    let mut scene = Scene::off(&read_only, images);
    *scene.user.model.borrow_mut() = model;
    scene.play(|user| async move {
        user.machine.start().await.unwrap();
        user.read(0..512).await.unwrap();
        user.seconds(5).await;
        user.machine.remove().await;
        assert_eq!(user.machine.world.changes(), 0);
    });
}

const READ_ONLY: Line = Line {
    read_only: true,
    moves: false,
};

/// Returns how many writes and discards were issued since `since`.
fn changes(user: &User, since: usize) -> usize {
    let log = user.machine.world.log().into_iter().skip(since);
    log.filter(|record| matches!(record.kind, Kind::Write | Kind::Discard))
        .count()
}

/// Does all that could write to a device that was made read-only, and nothing may.
async fn use_read_only(user: &User, flushed: Result<(), kernel::error::Error>) {
    let since = user.log_len();
    // Hydrated and not, whole and in part, stable and not.
    for sectors in [0..8, 1..2, 64..72, 65..66] {
        for fua in [false, true] {
            assert_eq!(user.write(sectors.clone(), fua).await, Err(EIO));
        }
        user.discard(sectors).await.unwrap();
    }
    assert_eq!(user.flush().await, flushed);
    user.engine().message(Message::EnableHydration);
    let table = user.machine.active().unwrap();
    user.machine.status(&table, false).await;
    user.seconds(3).await;
    user.read(0..512).await.unwrap();
    user.machine.switch(table).await.unwrap();
    assert_eq!(user.flush().await, flushed);
    user.machine.pause().await;
    assert_eq!(changes(user, since), 0);
}

#[test]
fn a_device_that_is_made_read_only_writes_nothing() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        let table = user.machine.load_line(READ_ONLY).await.unwrap();
        user.write(8..16, false).await.unwrap();
        user.machine.switch(table).await.unwrap();
        use_read_only(&user, Ok(())).await;
        let table = user.machine.load().await.unwrap();
        user.machine.switch(table).await.unwrap();
        user.write(65..66, true).await.unwrap();
        user.read(0..512).await.unwrap();
    });
}

#[test]
fn a_device_that_is_complete_and_made_read_only_writes_nothing() {
    Scene::new(&plan()).play(|user| async move {
        user.discard(0..512).await.unwrap();
        user.write(0..512, false).await.unwrap();
        user.seconds(2).await;
        assert!(user.engine().is_finished());
        let table = user.machine.load_line(READ_ONLY).await.unwrap();
        user.machine.switch(table).await.unwrap();
        use_read_only(&user, Ok(())).await;
    });
}

#[test]
fn a_volume_that_had_fallen_and_is_made_read_only_keeps_what_memory_knows() {
    Scene::new(&plan()).play(|user| async move {
        user.write(0..8, false).await.unwrap();
        user.machine
            .world
            .add_fault(Fault::new(METADATA, &[Kind::Write]));
        user.flush().await.unwrap_err();
        user.machine.world.clear_faults();
        assert_eq!(user.engine().volume().mode(), Mode::ReadOnly);
        let table = user.machine.load_line(READ_ONLY).await.unwrap();
        user.machine.switch(table).await.unwrap();
        // What it knows cannot be committed, so it is not said to be.
        use_read_only(&user, Err(EIO)).await;
        assert_eq!(user.engine().volume().mode(), Mode::ReadOnly);
        let table = user.machine.load().await.unwrap();
        user.machine.switch(table).await.unwrap();
        assert_eq!(user.engine().volume().mode(), Mode::ReadWrite);
        user.read(0..512).await.unwrap();
        user.flush().await.unwrap();
        let bits = clone_sim::inspect::metadata(&user.machine.world.images()[METADATA]);
        assert!(bits.unwrap().unwrap()[0]);
    });
}

#[test]
fn a_table_with_another_destination_takes_over_what_was_moved_there() {
    Scene::new(&plan()).play(|user| async move {
        let line = Line {
            moves: true,
            ..Line::default()
        };
        let table = user.machine.load_line(line).await.unwrap();
        user.write(0..20, false).await.unwrap();
        user.machine.switch(table).await.unwrap();
        user.write(1..2, false).await.unwrap();
        user.write(64..72, true).await.unwrap();
        user.read(0..512).await.unwrap();
        let since = user.log_len();
        user.write(0..4, false).await.unwrap();
        user.flush().await.unwrap();
        assert!(user.operations(since, DESTINATION, Kind::Flush).is_empty());
    });
}

#[test]
fn a_format_that_fails_leaves_a_blank_device_and_can_be_repeated() {
    Scene::off(&plan(), plan().blank()).play(|user| async move {
        user.machine
            .world
            .add_fault(Fault::new(METADATA, &[Kind::Write]).numbers(0..1));
        assert!(user.machine.start().await.is_err());
        let image = &user.machine.world.images()[METADATA];
        assert_eq!(clone_sim::inspect::metadata(image), Ok(None));
        // The same table again, as `dmsetup resume` would.
        let table = user.machine.active().unwrap();
        user.machine.switch(table).await.unwrap();
        user.write(0..8, true).await.unwrap();
    });
}

#[test]
fn nothing_is_allocated_while_the_device_works() {
    Scene::new(&plan()).play(|user| async move {
        alloc::fail_after(Some(0));
        user.write(0..20, false).await.unwrap();
        user.write(100..101, true).await.unwrap();
        user.discard(200..300).await.unwrap();
        user.flush().await.unwrap();
        user.engine().message(Message::EnableHydration);
        let volume = user.engine().volume().clone();
        user.until(10, || volume.map().is_complete()).await;
        user.seconds(3).await;
        user.read(0..512).await.unwrap();
        alloc::fail_after(None);
        user.machine.remove().await;
    });
}
