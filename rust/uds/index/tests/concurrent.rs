// SPDX-License-Identifier: GPL-2.0

//! Several tasks at once, which are interrupted anywhere.

use super::*;
use sim::harness;
use sim::Preemption;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// All that was ever said of each name.
type History = Rc<RefCell<HashMap<Name, Vec<Metadata>>>>;

async fn work(index: Arc<Index<TestWorld>>, history: History, mut rng: Rng) {
    let mut batch = Batch::new(8).unwrap();
    for _ in 0..40 {
        let mut records: Vec<Record> = Vec::new();
        for _ in 0..8 {
            // Others may have the same ones.
            let name = match rng.chance(1, 3) {
                true => random_name(&mut Rng::new(rng.below(40))),
                false => random_name(&mut rng),
            };
            if records.iter().all(|record| record.name != name) {
                let metadata = value(rng.next_u64());
                records.push(Record { name, metadata });
            }
        }
        let names: Vec<_> = records.iter().map(|record| record.name).collect();
        let found = look_up(&index, &mut batch, &names).await;
        {
            let mut history = history.borrow_mut();
            for (record, found) in records.iter().zip(found) {
                let all = history.entry(record.name).or_default();
                assert!(found.is_none_or(|found| all.contains(&found)));
                all.push(record.metadata);
            }
        }
        if rng.chance(9, 10) {
            index.remember(&mut batch, |item| Some(records[item.tag as usize].metadata));
        }
    }
}

/// Returns how many names are known.
async fn known(index: &Index<TestWorld>, history: &History) -> usize {
    let mut batch = Batch::new(1).unwrap();
    let mut count = 0;
    let mut names: Vec<_> = history.borrow().keys().copied().collect();
    names.sort();
    for name in names {
        let found = look_up(index, &mut batch, &[name]).await[0];
        let is_true = |found| history.borrow()[&name].contains(&found);
        assert!(found.is_none_or(is_true), "{name:?} {found:?}");
        count += usize::from(found.is_some());
    }
    count
}

fn together(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let geometry = Geometry::of_shape(shape()).unwrap();
    let world = sim::World::new(seed);
    let disk = world.add_disk("disk", blank(&geometry));
    disk.set_latency(0..rng.below(300) + 1);
    let mut executor = Executor::new(&world);
    executor.set_limits(u64::MAX, u64::MAX);
    executor.preempt(Preemption::random(&mut rng));
    let machine = Machine {
        spawner: Rc::new(executor.spawner()),
        world: test_world(),
        disk: Arc::new(disk, GFP_KERNEL).unwrap(),
        config: config(geometry),
    };
    let task = executor.spawn("test", async move {
        let opened = machine.open(true).await.unwrap();
        let history = History::default();
        let mut tasks = Vec::new();
        for number in 0..3 {
            let work = work(opened.index.clone(), history.clone(), rng.fork());
            let name = std::format!("worker {number}");
            tasks.push(machine.spawner.spawn(&name, work));
        }
        for _ in 0..3 {
            sim::clock::sleep(machine.disk.world(), rng.below(20_000)).await;
            opened.index.save().await.unwrap();
        }
        for task in tasks {
            task.await;
        }
        opened.index.settle().await.unwrap();
        let before = known(&opened.index, &history).await;
        let dropped = opened.index.dropped();
        let newest = opened.index.newest();
        assert!(newest > 1 || dropped > 400, "{newest} {dropped}");
        let live = (newest - opened.index.oldest()) as usize * 32;
        // Names that came more than once are in more than one chapter.
        assert!(before >= live / 2, "{before} of {live}");
        opened.index.save().await.unwrap();
        opened.close().await;
        let opened = machine.open(false).await.unwrap();
        assert_eq!(known(&opened.index, &history).await, before);
        opened.close().await;
    });
    match executor.run_task(&task) {
        Ok(()) => Ok(()),
        Err(outcome) => Err(std::format!("{outcome:?}")),
    }
}

#[test]
fn workers_and_saves() {
    let command = "cargo test -p uds workers_and_saves";
    harness::run_seeds(harness::seeds(300), command, together);
}
