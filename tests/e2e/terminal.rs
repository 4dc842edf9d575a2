//! Questions that a person answers: terms page by page, one disc after the other.

use std::fs;
use std::path::{Path, PathBuf};

use bundle_format::fake::{Fake, placed_file};
use e2e::{Site, Terminal};

fn start(site: &Site, words: &[String]) -> Terminal {
    let mut command = site.command();
    command.args(words).arg("--prefix").arg(site.prefix());
    Terminal::start(&mut command)
}

#[test]
fn terms_are_shown_to_their_last_line_and_accepted_by_their_name() {
    let mut site = Site::new();
    let lines: Vec<String> = (1..=100)
        .map(|number| format!("Clause {number}."))
        .collect();
    let text = (lines.join("\n") + "\n").into_bytes();
    let eula = manifest_schema::Eula {
        name: "demo-data".parse().unwrap(),
        text: placed_file("LICENSE.txt", &text),
    };
    site.fake().profiles.components[0].eulas.push(eula);
    site.fake().blobs.push(text);
    site.carry("terms");
    // `--yes` answers every question but this one.
    let words = site.words_to_install("terms");

    let mut terminal = start(&site, &words);
    terminal.expect("Clause 1.");
    for page in 1..5 {
        terminal.expect(&format!("page {page} of 5"));
        terminal.send("\n");
    }
    terminal.expect("Clause 100.");
    terminal.expect("type their name");
    terminal.send("yes\r");
    let (status, shown) = terminal.end();
    assert_eq!(status, 1, "{shown}");
    assert!(shown.contains("installer.terms-not-accepted"), "{shown}");
    assert_eq!(site.current(), None);

    let mut terminal = start(&site, &words);
    for page in 1..5 {
        terminal.expect(&format!("page {page} of 5"));
        terminal.send("\n");
    }
    terminal.expect("type their name");
    terminal.send("demo-data\r");
    let (status, shown) = terminal.end();
    assert_eq!(status, 0, "{shown}");
    let log = site.installer(&["log", "--json"]).data;
    assert!(log.contains("\"by\":\"person\""), "{log}");
    // Accepted once is accepted: without a terminal it goes on.
    let _ = site.install("terms").ended_with(0);
}

fn noise(size: usize, mut state: u64) -> Vec<u8> {
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A site with a bundle in volumes, a drive that holds one at a time, and the shelf that they lie on.
struct Shelf {
    site: Site,
    drive: PathBuf,
    discs: Vec<PathBuf>,
}

impl Shelf {
    fn new() -> Self {
        let files = [
            ("a.bin", noise(150_000, 1)),
            ("b.bin", noise(90_000, 2)),
            ("c.bin", noise(5000, 3)),
        ];
        let mut site = Site::of(Fake::with_dataset("demo", 1, &files));
        site.fake().options.volume_size = Some(96 * 1024);
        site.carry("set");
        let discs = (1..1000)
            .map(|number| site.folder().join(format!("set.vol{number:03}.ferry")))
            .take_while(|path| path.exists())
            .collect();
        let drive = site.folder().join("drive");
        fs::create_dir(&drive).unwrap();
        Self { site, drive, discs }
    }

    fn words(&self) -> Vec<String> {
        let mut words = self.site.words_to_install("1");
        words[1] = self.drive.display().to_string();
        words
    }

    /// Takes out what is in the drive and puts in `disc`.
    fn put(&self, disc: &Path) {
        for there in fs::read_dir(&self.drive).unwrap() {
            fs::remove_file(there.unwrap().path()).unwrap();
        }
        fs::copy(disc, self.drive.join(disc.file_name().unwrap())).unwrap();
    }

    /// Whether a program has a file of the drive open: then its disc could not be taken out.
    fn is_held_by(&self, id: u32) -> bool {
        let open = fs::read_dir(format!("/proc/{id}/fd")).unwrap();
        let mut open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        open.any(|path| path.starts_with(&self.drive))
    }
}

#[test]
fn discs_come_in_any_order_and_the_wrong_one_is_told() {
    let shelf = Shelf::new();
    let count = shelf.discs.len();
    assert!(count >= 3, "{count}");
    // The last first; in its place one of another bundle, and once the same again.
    shelf.put(shelf.discs.last().unwrap());
    let mut terminal = start(&shelf.site, &shelf.words());
    terminal.expect(&format!("of {count}, in any order"));
    assert!(!shelf.is_held_by(terminal.id()));
    terminal.send("\r");
    terminal.expect("nothing of it is needed any more");
    terminal.expect("in any order");
    let mut other = Shelf::new();
    other.site.fake().profiles.release = 2;
    other.site.carry("other");
    shelf.put(&other.site.folder().join("other.vol001.ferry"));
    terminal.send("\r");
    terminal.expect("that is not it");
    terminal.expect("in any order");
    for number in (0..count - 1).rev() {
        shelf.put(&shelf.discs[number]);
        terminal.send("\r");
        if number > 0 {
            // The question before is still on the screen: only the new one has this list.
            let left: Vec<String> = (1..=number).map(|left| left.to_string()).collect();
            terminal.expect(&format!("volume {} of", left.join(", ")));
            assert!(!shelf.is_held_by(terminal.id()));
        }
    }
    let (status, shown) = terminal.end();
    assert_eq!(status, 0, "{shown}");
    let _ = shelf.site.installer(&["audit", "--deep"]).ended_with(0);
    // All of it is in the store now: any one disc is enough, and nobody is asked.
    shelf.put(&shelf.discs[1]);
    let _ = shelf.site.installer(&shelf.words()).ended_with(0);
}

#[test]
fn an_install_that_stops_between_discs_goes_on_later() {
    let shelf = Shelf::new();
    shelf.put(&shelf.discs[0]);
    let mut terminal = start(&shelf.site, &shelf.words());
    terminal.expect("in any order");
    terminal.interrupt();
    let (status, _) = terminal.end();
    assert_ne!(status, 0);
    assert_eq!(shelf.site.current(), None);
    // Nobody to ask: what is missing is named, and so is the way out.
    let said = shelf.site.installer(&shelf.words()).ended_with(2);
    assert!(said.words.contains("bundle.volumes-missing"), "{said:?}");
    assert!(said.words.contains("install DIR1 DIR2"), "{said:?}");
    // Several places at once need nobody.
    let mut words = shelf.words();
    let (first, rest) = shelf.discs.split_first().unwrap();
    let elsewhere = shelf.site.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for disc in rest {
        fs::copy(disc, elsewhere.join(disc.file_name().unwrap())).unwrap();
    }
    shelf.put(first);
    words.insert(2, elsewhere.display().to_string());
    let _ = shelf.site.installer(&words).ended_with(0);
    let _ = shelf.site.installer(&["audit", "--deep"]).ended_with(0);
}
