//! Tables of bags and what becomes of them.

use super::*;

fn view() -> BagsView {
    BagsView { system: "notify".into(), environment: "staging".into(), highest_started: 40, ..BagsView::default() }
}

fn bag(number: i64) -> BagView {
    BagView { number, belongs: true, ..BagView::default() }
}

fn hit() -> SuspectHit {
    SuspectHit {
        service: "api".into(),
        version: "ref:abc".into(),
        brought_by: 42,
        environment: "staging".into(),
        mark: Mark::default(),
    }
}

fn codes(holds: &[Hold]) -> Vec<&'static str> {
    holds.iter().map(|hold| hold.code.as_str()).collect()
}

#[test]
fn latest_takes_the_newest_and_queue_the_oldest_that_may() {
    let candidates = [bag(41), bag(42), BagView { disabled: Some(Mark::default()), ..bag(43) }];
    assert_eq!(choose(&view(), &candidates), Some(42));
    let queue = BagsView { superseding: Superseding::Queue, ..view() };
    assert_eq!(choose(&queue, &candidates), Some(41));
}

#[test]
fn a_person_lets_go_what_would_go_by_itself() {
    let candidates = [bag(41), bag(42), BagView { suspects: vec![hit()], ..bag(43) }];
    let held = BagsView { held: Some((Code::HeldAfterUnlock, Mark::default())), ..view() };
    let manual = BagsView { manual_promotion: true, ..view() };
    for view in [held, manual] {
        assert!(!starts_by_itself(&view));
        assert_eq!(choose(&view, &candidates), None);
        assert_eq!(choose_for_person(&view, &candidates), Some(42));
        let queue = BagsView { superseding: Superseding::Queue, ..view };
        assert_eq!(choose_for_person(&queue, &candidates), Some(41));
    }
    let frozen = BagsView { pin: Some((43, Mark::default())), ..view() };
    assert!(!starts_by_itself(&frozen));
    assert_eq!(choose_for_person(&frozen, &candidates), Some(43));
}

#[test]
fn nothing_goes_backwards_by_itself() {
    assert_eq!(choose(&view(), &[bag(39), bag(40)]), None);
    assert_eq!(codes(&held_back(&view(), &bag(39))), ["superseded"]);
    assert_eq!(codes(&barred(&view(), &bag(39))), Vec::<&str>::new());
}

#[test]
fn a_freeze_lets_nothing_start_by_itself_and_a_person_only_its_own_bag() {
    let frozen = BagsView { pin: Some((41, Mark::default())), ..view() };
    assert_eq!(choose(&frozen, &[bag(41), bag(42)]), None);
    assert_eq!(codes(&barred(&frozen, &bag(42))), ["frozen", "bag-pinned-elsewhere"]);
    assert!(barred(&frozen, &bag(41)).is_empty());
    assert_eq!(codes(&held_back(&frozen, &bag(41))), ["frozen"]);
}

#[test]
fn a_pin_beats_an_untick() {
    let frozen = BagsView { pin: Some((41, Mark::default())), ..view() };
    let unticked = BagView { disabled: Some(Mark::default()), suspects: vec![hit()], ..bag(41) };
    assert!(barred(&frozen, &unticked).is_empty());
    assert_eq!(codes(&barred(&view(), &unticked)), ["bag-disabled", "rolled-back-content"]);
}

#[test]
fn a_bag_with_a_suspect_is_held_and_the_first_without_one_starts() {
    let suspect = BagView { suspects: vec![hit()], ..bag(43) };
    assert_eq!(choose(&view(), &[suspect.clone(), bag(44)]), Some(44));
    let again = BagView { number: 45, ..suspect };
    assert_eq!(choose(&view(), &[bag(44), again]), Some(44));
}

#[test]
fn everything_that_holds_a_bag_is_named_at_once() {
    let everything = BagView {
        number: 39,
        not_passed: vec!["preview".into()],
        belongs: true,
        disabled: Some(Mark::default()),
        withdrawn: Some(("preview".into(), Mark::default())),
        suspects: vec![hit()],
        missing: vec!["api".into()],
    };
    let held = BagsView { held: Some((Code::HeldAfterUnlock, Mark::default())), manual_promotion: true, ..view() };
    assert_eq!(
        codes(&held_back(&held, &everything)),
        [
            "not-passed-upstream",
            "bag-disabled",
            "withdrawn-upstream",
            "rolled-back-content",
            "bag-incomplete",
            "superseded",
            "held-after-unlock",
            "promotion-manual"
        ]
    );
}
