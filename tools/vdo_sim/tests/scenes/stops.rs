// SPDX-License-Identifier: GPL-2.0

//! Suspends and stops, also with a disk that does not answer.

use sim::disk::Survival;
use sim::fault::Fault;
use sim::fault::Kind;
use sim::Rng;
use vdo_sim::device::Kind as Region;
use vdo_sim::scene::plan;
use vdo_sim::scene::sectors;
use vdo_sim::scene::Scene;

/// A suspend without saving leaves nothing on its way, and what was acknowledged is stable.
#[test]
fn a_suspend_waits_for_what_was_acknowledged() {
    let plan = plan();
    for held in [Region::Data, Region::Journal] {
        let (image, model) = Scene::new(&plan).play(move |user| async move {
            user.write(sectors(0..4), true).await.unwrap();
            user.hold(held);
            user.write(sectors(2..6), false).await.unwrap();
            user.discard(sectors(0..1), false).await.unwrap();
            let suspend = user.beside(|user| async move { user.machine.pause(false).await });
            user.waits(&suspend).await;
            user.release(held);
            suspend.await;
            // As good as flushed.
            let flush = user.model.borrow_mut().begin_flush();
            user.model.borrow_mut().end_flush(flush);
            let mut rng = Rng::new(1);
            let mut images = user.machine.world.survivors(&[Survival::Lost], &mut rng);
            let mut model = user.model.borrow().clone();
            model.crash();
            (images.swap_remove(0), model)
        });
        let mut scene = Scene::off(&plan, image);
        *scene.user.model.borrow_mut() = model;
        scene.play(|user| async move {
            user.machine.start().await.unwrap();
            user.read_all().await.unwrap();
            user.machine.remove().await;
        });
    }
}

#[test]
fn a_stop_waits_for_a_disk_that_is_stuck() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..4), true).await.unwrap();
        user.machine.disk.hold(&[Kind::Write, Kind::Flush]);
        user.write(sectors(2..6), false).await.unwrap();
        let stop = user.beside(|user| async move { user.machine.remove().await });
        user.waits(&stop).await;
        user.machine.disk.release();
        stop.await;
        user.machine.start().await.unwrap();
        user.read_all().await.unwrap();
    });
}

/// A disk that is gone makes the volume read-only; the stop ends all the same, and flushes have
/// failed since.
#[test]
fn a_stop_ends_on_a_disk_that_is_gone() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..4), true).await.unwrap();
        user.write(sectors(2..6), false).await.unwrap();
        user.machine
            .world
            .add_fault(Fault::new(0, &[Kind::Read, Kind::Write, Kind::Flush]));
        assert!(user.flush().await.is_err());
        assert!(user.flush().await.is_err());
        assert!(user.machine.is_read_only());
        user.machine.remove().await;
        user.machine.world.clear_faults();
        user.machine.start().await.unwrap();
        user.read_all().await.unwrap();
    });
}

/// A write that was acknowledged and then could not be stored anywhere: no flush succeeds any more.
#[test]
fn no_flush_succeeds_after_a_loss() {
    Scene::new(&plan()).play(|user| async move {
        user.write(sectors(0..4), true).await.unwrap();
        user.hold(Region::Data);
        user.write(sectors(2..4), false).await.unwrap();
        user.rest().await;
        user.machine.disk.release();
        user.rest().await;
        let slabs = user.machine.toy().layout.slab_sectors();
        user.machine
            .world
            .add_fault(Fault::new(0, &[Kind::Write]).sectors(slabs));
        let _ = user.write(sectors(1..3), false).await;
        assert!(user.flush().await.is_err());
        user.machine.world.clear_faults();
        assert!(user.flush().await.is_err());
    });
}
