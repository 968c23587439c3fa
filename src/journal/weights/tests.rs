//! Torn, flipped, full and overtaken: what the weights file means afterwards.

use cutover_model::{Color, Weight};
use proptest::prelude::*;

use super::*;

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn entry(number: u64, weight: u16) -> Entry {
    Entry {
        split: Split { stable: Color::Blue, weight: Weight::from_basis_points(weight).unwrap() },
        salt: Salt(9),
        number,
        at: Millis(1_700_000_000_000),
        operation: Some(OperationId(number)),
        reason: "shift".to_owned(),
    }
}

fn image(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join(FILE)).unwrap()
}

/// The weight that a file image means for `shop`, in basis points.
fn meaning(bytes: &[u8]) -> Result<Option<u16>, JournalError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), bytes).unwrap();
    let file = WeightsFile::open(folder.path())?;
    Ok(file.entries().get(&app("shop")).map(|entry| entry.split.weight.basis_points()))
}

/// Every image that a kill within the write from `old` to `new` can leave: a prefix of the new bytes
/// (of the slot that changed), and the same at the level of 512-byte blocks in any order.
fn torn_images<'a>(old: &'a [u8], new: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let first = old.iter().zip(new).position(|(a, b)| a != b).unwrap();
    let last = old.iter().zip(new).rposition(|(a, b)| a != b).unwrap();
    let prefixes = (first..=last + 1).map(move |cut| [&new[..cut], &old[cut..]].concat());
    let suffixes = (first..=last + 1).map(move |cut| [&old[..cut], &new[cut..]].concat());
    prefixes.chain(suffixes)
}

#[test]
fn a_write_torn_at_any_byte_means_the_old_or_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = WeightsFile::open(folder.path()).unwrap();
    let mut images = vec![(None, image(folder.path()))];
    for number in 1..=4 {
        let weight = u16::try_from(number * 100).unwrap();
        file.set(&app("shop"), entry(number, weight)).unwrap();
        images.push((Some(weight), image(folder.path())));
    }
    for pair in images.windows(2) {
        let [(before, old), (after, new)] = pair else { unreachable!() };
        for torn in torn_images(old, new) {
            let found = meaning(&torn).unwrap();
            assert!(found == *before || found == *after, "{found:?} of {before:?}, {after:?}");
        }
    }
}

#[test]
fn a_flipped_bit_means_the_old_or_the_new_or_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = WeightsFile::open(folder.path()).unwrap();
    file.set(&app("shop"), entry(1, 100)).unwrap();
    file.set(&app("shop"), entry(2, 200)).unwrap();
    let good = image(folder.path());
    let used = (0..HEAD + 300).chain(SLOT..SLOT + HEAD + 300);
    for at in used {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        match meaning(&flipped) {
            Ok(found) => assert!(matches!(found, Some(100 | 200)), "byte {at}: {found:?}"),
            Err(JournalError::Newer { .. }) => assert!(matches!(at % SLOT, 8..12), "byte {at}"),
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn a_file_with_two_broken_slots_or_a_wrong_size_is_reported_and_not_reset() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = WeightsFile::open(folder.path()).unwrap();
    file.set(&app("shop"), entry(1, 100)).unwrap();
    file.set(&app("shop"), entry(2, 200)).unwrap();
    let good = image(folder.path());
    let mut both = good.clone();
    both[HEAD] ^= 1;
    both[SLOT + HEAD] ^= 1;
    for bad in [both, good[..SLOT].to_vec(), Vec::new()] {
        assert!(matches!(meaning(&bad), Err(JournalError::Corrupt { .. })));
    }
}

#[test]
fn of_two_moves_the_later_one_counts_whichever_is_written_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = WeightsFile::open(folder.path()).unwrap();
    file.set(&app("shop"), entry(5, 0)).unwrap();
    file.set(&app("shop"), entry(4, 5_000)).unwrap();
    let entries = WeightsFile::read(folder.path()).unwrap().unwrap();
    assert_eq!(entries.get(&app("shop")), Some(&entry(5, 0)));
    assert_eq!(entry(5, 0).against(4), Newer::File);
    assert_eq!(entry(5, 0).against(5), Newer::Journal);
}

#[test]
fn more_apps_than_fit_are_refused_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = WeightsFile::open(folder.path()).unwrap();
    let mut kept = 0;
    let refused = (0..2_000).find_map(|n| {
        let result = file.set(&app(&format!("app-{n}")), entry(1, 1));
        kept += usize::from(result.is_ok());
        result.err()
    });
    assert!(matches!(refused, Some(JournalError::Refused(_))), "{refused:?}");
    assert!(kept > 250, "{kept}");
    assert_eq!(WeightsFile::read(folder.path()).unwrap().unwrap().len(), kept);
    assert_eq!(image(folder.path()).len(), 2 * SLOT);
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    assert_eq!(cut(&"ä".repeat(100)).len(), REASON);
    assert_eq!(cut("short"), "short");
}

#[tokio::test]
async fn the_file_on_its_thread_survives_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let file = WeightsFile::open(folder.path()).unwrap();
    let weights = Weights::start(file, Duration::from_secs(30)).unwrap();
    weights.set(&app("shop"), entry(1, 100)).await.unwrap();
    weights.set(&app("blog"), entry(1, 200)).await.unwrap();
    weights.remove(&app("shop")).await.unwrap();
    drop(weights);
    let entries = WeightsFile::read(folder.path()).unwrap().unwrap();
    assert_eq!(entries, Entries::from([(app("blog"), entry(1, 200))]));
}

proptest! {
    #[test]
    fn the_last_set_of_each_app_comes_back(
        moves in prop::collection::vec((0..4_usize, 0..=10_000_u16), 1..24)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut file = WeightsFile::open(folder.path()).unwrap();
        let mut wanted = Entries::new();
        for (number, (which, weight)) in (1..).zip(moves) {
            let name = app(["shop", "blog", "wiki", "mail"][which]);
            file.set(&name, entry(number, weight)).unwrap();
            wanted.insert(name, entry(number, weight));
            let seen = WeightsFile::read(folder.path()).unwrap().unwrap();
            prop_assert_eq!(&seen, &wanted);
        }
    }
}
