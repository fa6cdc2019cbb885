// SPDX-License-Identifier: GPL-2.0

//! What the volume index of a full index of 0.25 GiB costs.
//!
//!     cargo run --release --manifest-path tools/Cargo.toml -p uds --example volume_index [FILE]
//!
//! The full index is kept in FILE, a save, and taken from there if it exists. Times are of this
//! thread's CPU. For instructions: run under `valgrind --tool=callgrind`, with a FILE that exists
//! and `ROUNDS=1`.

use std::time::Duration;
use uds::format::Geometry;
use uds::format::Memory;
use uds::format::Name;
use uds::volume_index::Answer;
use uds::volume_index::Known;
use uds::volume_index::Loader;
use uds::volume_index::Outcome;
use uds::volume_index::Request;
use uds::volume_index::Saver;
use uds::volume_index::Sweep;
use uds::volume_index::VolumeIndex;

const BATCH: usize = 256;

/// The CPU time of this thread since some moment.
struct Instant(Duration);

impl Instant {
    fn now() -> Self {
        let line = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a scheduler");
        let nanoseconds = line.split(' ').next().and_then(|word| word.parse().ok());
        Self(Duration::from_nanos(nanoseconds.expect("a number")))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// The name with a number: numbers run through all names, chapter after chapter.
fn name(number: u64) -> Name {
    let mix = |mut word: u64| {
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    let first = mix(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
    let mut name = [0; 16];
    name[..8].copy_from_slice(&first.to_be_bytes());
    name[8..].copy_from_slice(&mix(first).to_be_bytes());
    Name(name)
}

fn batch(index: &VolumeIndex, numbers: impl Iterator<Item = u64>) -> Vec<Request> {
    let mut requests: Vec<_> = numbers.map(|number| index.request(name(number))).collect();
    requests.sort_unstable_by_key(Request::order);
    requests
}

fn show(what: &str, time: Duration, count: u64) {
    let each = time.as_nanos() as f64 / count as f64;
    println!("{what:<44} {each:>9.1} ns each, {count} of them");
}

fn memory(what: &str, index: &VolumeIndex) {
    let mib = index.memory() as f64 / f64::from(1 << 20);
    println!("{what:<44} {mib:>9.1} MiB");
}

/// Fills an index as a rebuild does it, some chapters at a time.
fn fill(index: &VolumeIndex, chapters: u64, per_chapter: u64) {
    let step = 16;
    let mut time = Duration::ZERO;
    let mut conflicts = 0;
    for first in (0..chapters).step_by(step) {
        let numbers = first * per_chapter..(first + step as u64) * per_chapter;
        let mut names: Vec<_> = numbers
            .map(|number| index.known(name(number), number / per_chapter))
            .collect();
        names.sort_unstable_by_key(Known::order);
        let begun = Instant::now();
        index.open_chapter(first + step as u64 - 1);
        let mut open = Vec::new();
        index.merge(&names, |request, chapter| open.push((request, chapter)));
        for (mut request, chapter) in open {
            conflicts += 1;
            index.look_up(core::slice::from_mut(&mut request));
            let _ = index.insert(&mut request, chapter);
        }
        time += begun.elapsed();
    }
    show(
        "merged, 16 chapters at a time",
        time,
        chapters * per_chapter,
    );
    println!("{conflicts} names met an entry that was there");
}

fn load(index: &VolumeIndex, save: &[u8]) {
    let begun = Instant::now();
    let mut loader = Loader::new(index, 1, 1);
    for piece in save.chunks(1 << 20) {
        loader.feed(piece).expect("a good save");
    }
    loader.finish().expect("a good save");
    println!("load: {:?}", begun.elapsed());
}

fn save(index: &VolumeIndex) -> Vec<u8> {
    let begun = Instant::now();
    let mut saver = Saver::new(index, 1);
    let planned = begun.elapsed();
    let mut save = vec![0; saver.bytes() as usize];
    let begun = Instant::now();
    for piece in save.chunks_mut(1 << 20) {
        saver.fill(index, piece).expect("no change");
    }
    println!("save: {:?}, after a plan of {planned:?}", begun.elapsed());
    save
}

/// Looks all of `numbers` up, a batch at a time; returns them, and the time it took for each.
fn look_up(what: &str, index: &VolumeIndex, numbers: &[u64]) -> Vec<Request> {
    let mut batches: Vec<_> = numbers
        .chunks(BATCH)
        .map(|numbers| batch(index, numbers.iter().copied()))
        .collect();
    let begun = Instant::now();
    for requests in &mut batches {
        index.look_up(requests);
    }
    show(what, begun.elapsed(), numbers.len() as u64);
    batches.concat()
}

/// Looks all of `numbers` up and adds them, a batch at a time.
fn add(what: &str, index: &VolumeIndex, numbers: &[u64], chapter: u64) {
    let mut batches: Vec<_> = numbers
        .chunks(BATCH)
        .map(|numbers| batch(index, numbers.iter().copied()))
        .collect();
    let begun = Instant::now();
    for requests in &mut batches {
        index.look_up(requests);
        for request in requests {
            if index.insert(request, chapter) == Outcome::Changed {
                let _ = index.insert(request, chapter);
            }
        }
    }
    show(what, begun.elapsed(), numbers.len() as u64);
}

fn sweep(what: &str, index: &VolumeIndex, names: u64) {
    let begun = Instant::now();
    let mut sweep = Sweep::default();
    while !index.sweep(&mut sweep, 1 << 12) {}
    show(what, begun.elapsed(), names);
}

fn main() {
    let geometry = Geometry::new(Memory(-256), false).expect("a size that there is");
    let per_chapter = u64::from(geometry.records);
    let chapters = u64::from(geometry.shape.chapters);
    let rounds = std::env::var("ROUNDS").map_or(8, |rounds| rounds.parse().expect("a number"));
    let file = std::env::args().nth(1);
    let index = VolumeIndex::new(&geometry).expect("memory");
    memory("empty", &index);
    let saved = file.as_ref().and_then(|file| std::fs::read(file).ok());
    if let Some(saved) = saved {
        load(&index, &saved);
    } else {
        fill(&index, chapters, per_chapter);
        let saved = save(&index);
        if let Some(file) = file {
            std::fs::write(file, saved).expect("room for a save");
        }
    }
    memory("full", &index);

    let new = |chapter: u64| -> Vec<u64> {
        (chapter * per_chapter..(chapter + 1) * per_chapter).collect()
    };
    let mut newest = chapters;
    for _ in 0..rounds {
        index.open_chapter(newest);
        add("look-up and insertion", &index, &new(newest), newest);
        newest += 1;
    }
    memory("full, lists not swept", &index);
    sweep("sweep after that, by list", &index, 1 << 18);
    for _ in 0..rounds {
        index.open_chapter(newest);
        sweep("sweep, by name", &index, per_chapter);
        add(
            "look-up and insertion after it",
            &index,
            &new(newest),
            newest,
        );
        newest += 1;
    }
    let never = new(newest + (1 << 40));
    look_up("look-up of a name that is not known", &index, &never);
    sweep("sweep of lists without old entries", &index, 1 << 18);
    let known: Vec<_> = (0..per_chapter * rounds)
        .map(|at| newest * per_chapter - 1 - at * 104_729 % ((chapters - 20) * per_chapter))
        .collect();
    let requests = look_up("look-up of a known name", &index, &known);
    let lost = requests
        .iter()
        .filter(|request| request.answer == Answer::Absent);
    println!("{} lost", lost.count());
    let saved = save(&index);
    let copy = VolumeIndex::new(&geometry).expect("memory");
    load(&copy, &saved);
    memory("loaded", &copy);
    println!("{:?}", index.counts());
}
