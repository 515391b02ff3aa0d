//! Each rule and each quirk of input resolution, in the fixture language. The headings are those of the reference,
//! part 3.

use crate::fixture::check;

/// Section 3.3: inputs without `passed`.
mod plain {
    use super::check;

    #[test]
    fn the_newest_enabled_version_is_taken() {
        check(
            "resource repo: v1 v2 -v3
             job unit: get repo
             expect unit <- repo=v2 first",
        );
    }

    #[test]
    fn without_a_version_there_is_nothing_to_take() {
        check(
            "resource repo:
             job unit: get repo, get each from repo every
             expect unit <- repo: latest version of resource not found, each: version of resource not found
             why unit
               repo: its resource has no version
               each: its resource has no version",
        );
    }

    #[test]
    fn a_resource_that_was_never_checked_has_no_versions() {
        check(
            "unchecked repo
             job unit: get repo, get pinned from repo pin=v1
             expect unit <- repo: latest version of resource not found, pinned: pinned version v1 not found
             why unit
               repo: its resource has no version
               pinned: its resource has no version v1, to which it is pinned",
        );
    }

    #[test]
    fn versions_that_are_all_disabled_are_as_good_as_none() {
        check(
            "resource repo: -v1 -v2
             job unit: get repo, get each from repo every
             build unit#1 each=v1 succeeded
             expect unit <- repo: latest version of resource not found, each: version of resource not found
             why unit
               repo: every version of its resource is disabled, the newest is v2
               each: every version of its resource is disabled, the newest is v2",
        );
    }

    #[test]
    fn a_pin_wins_even_over_the_version_being_disabled() {
        check(
            "resource repo: -v1 v2
             job unit: get repo pin=v1
             expect unit <- repo=v1 first",
        );
    }

    #[test]
    fn a_pin_may_name_a_subset_of_the_keys() {
        check(
            "resource repo: 1.0 1.1 2.0
             job unit: get repo pin=1, get whole from repo pin=1.0
             expect unit <- repo=1.1 first, whole=1.0 first",
        );
    }

    #[test]
    fn a_pin_on_a_version_that_is_unknown_or_gone_is_not_found() {
        check(
            "resource repo: v1 ~v2
             job unit: get repo pin=v9, get gone from repo pin=v2
             expect unit <- repo: pinned version v9 not found, gone: pinned version v2 not found",
        );
    }

    #[test]
    fn every_takes_the_next_after_the_newest_used_and_says_whether_another_follows() {
        check(
            "resource repo: v1 v2 v3 v4
             job unit: get repo every
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 failed
             expect unit <- repo=v3 first next",
        );
        check(
            "resource repo: v1 v2 v3
             job unit: get repo every
             build unit#1 repo=v2 succeeded
             expect unit <- repo=v3 first",
        );
    }

    #[test]
    fn every_that_was_never_used_starts_with_the_newest() {
        check(
            "resource repo: v1 v2 -v3
             job unit: get repo every
             job other: get repo
             build other#1 repo=v1 succeeded
             expect unit <- repo=v2 first",
        );
    }

    #[test]
    fn every_skips_disabled_versions_and_falls_back_to_older_ones() {
        check(
            "resource repo: v1 -v2 v3
             job unit: get repo every
             build unit#1 repo=v1 succeeded
             expect unit <- repo=v3 first",
        );
        check(
            "resource repo: v1 -v2 -v3
             job unit: get repo every
             build unit#1 repo=v2 succeeded
             expect unit <- repo=v1 first",
        );
    }

    #[test]
    fn every_counts_uses_of_any_status_under_any_name_but_not_of_versions_that_are_gone() {
        check(
            "resource repo: v1 v2 v3 ~v4
             job unit: get repo every, get also from repo
             build unit#1 also=v2 started
             build unit#2 repo=v4 succeeded
             expect unit <- repo=v3 first, also=v3 first",
        );
    }

    #[test]
    fn every_and_a_pin_without_passed_is_the_pin() {
        check(
            "resource repo: v1 v2
             job unit: get repo every pin=v1
             expect unit <- repo=v1 first",
        );
    }
}

/// Section 3.2: which inputs are tied together.
mod groups {
    use super::check;

    #[test]
    fn inputs_without_a_common_job_are_chosen_apart() {
        check(
            "resource x: v1 v2
             job a:
             job b:
             job ship: get xa from x passed=[a], get xb from x passed=[b]
             build a#1 put x=v1 succeeded
             build b#1 put x=v1 succeeded
             build b#2 put x=v2 succeeded
             expect ship <- xa=v1 by a#1 first, xb=v2 by b#2 first",
        );
    }

    #[test]
    fn one_group_that_fails_leaves_the_other_and_the_plain_ones_alone() {
        check(
            "resource x: v1
             resource y: w1
             job a:
             job b:
             job ship: get x passed=[a], get y passed=[b], get plain from y
             build a#1 put x=v1 succeeded
             expect ship <- x=v1 by a#1 first, y: no satisfiable builds from passed jobs found for set of inputs, plain=w1 first",
        );
    }

    #[test]
    fn inputs_of_one_group_fail_together() {
        check(
            "resource x: v1
             resource y: w1
             job a:
             job ship: get x passed=[a], get y passed=[a]
             build a#1 put x=v1 succeeded
             expect ship <- x: no satisfiable builds from passed jobs found for set of inputs, y: no satisfiable builds from passed jobs found for set of inputs
             why ship
               y: build 1 of a has no version for it
               y: the only succeeded build of a was ruled out
               x: the only succeeded build of a was ruled out",
        );
    }

    /// The third input bridges two groups; it joins the last, and the first stays apart. So the first input may
    /// come from another build of `a` than the third.
    #[test]
    fn a_later_input_that_bridges_two_groups_joins_the_last() {
        check(
            "resource x: v1 v2
             resource y: w1
             job a:
             job b:
             job ship: get xa from x passed=[a], get yb from y passed=[b], get both from x passed=[a,b]
             build a#1 put x=v1 succeeded
             build b#1 put x=v1 put y=w1 succeeded
             build a#2 put x=v2 succeeded
             expect ship <- xa=v2 by a#2 first, yb=w1 by b#1 first, both=v1 by b#1+a#1 first",
        );
    }

    #[test]
    fn one_pin_that_is_not_found_fails_its_whole_group_with_its_sentence() {
        check(
            "resource x: v1
             resource y: w1
             job a:
             job ship: get x passed=[a], get y passed=[a] pin=w9
             build a#1 put x=v1 y=w1 succeeded
             expect ship <- x: pinned version w9 not found, y: pinned version w9 not found
             why ship
               y: its resource has no version w9, to which it is pinned",
        );
    }
}

/// Section 3.4: candidates from upstream builds.
mod passed {
    use super::check;

    #[test]
    fn builds_are_tried_newest_first_and_not_versions() {
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit]
             build unit#1 repo=v2 succeeded
             build unit#2 repo=v1 succeeded
             expect ship <- repo=v1 by unit#2 first",
        );
    }

    #[test]
    fn inputs_and_outputs_vouch_and_outputs_come_first() {
        check(
            "resource repo: v1 v2
             job bump: get repo
             job ship: get repo passed=[bump]
             build bump#1 repo=v2 put repo=v1 succeeded
             expect ship <- repo=v1 by bump#1 first",
        );
    }

    #[test]
    fn of_several_versions_in_a_build_the_first_that_may_be_chosen_counts() {
        check(
            "resource repo: v1 -v2 v3
             job bump: get repo
             job ship: get repo passed=[bump], get pinned from repo passed=[bump] pin=v1
             build bump#1 repo=v1 put repo=v2 repo=v3 succeeded
             expect ship <- repo=v3 by bump#1 first, pinned=v1 by bump#1 first",
        );
    }

    #[test]
    fn only_succeeded_builds_vouch() {
        check(
            "resource repo: v1 v2 v3 v4 v5 v6
             job unit: get repo
             job ship: get repo passed=[unit]
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 failed
             build unit#3 repo=v3 errored
             build unit#4 repo=v4 aborted
             build unit#5 repo=v5 started
             build unit#6 repo=v6 pending
             expect ship <- repo=v1 by unit#1 first",
        );
    }

    #[test]
    fn every_passed_job_must_have_the_same_version() {
        check(
            "resource repo: v1 v2 v3
             job unit: get repo
             job lint: get repo
             job ship: get repo passed=[unit,lint]
             build unit#1 repo=v1 succeeded
             build lint#1 repo=v1 succeeded
             build unit#2 repo=v2 succeeded
             build lint#2 repo=v3 succeeded
             expect ship <- repo=v1 by unit#1+lint#1 first",
        );
    }

    #[test]
    fn inputs_that_share_a_job_come_from_one_build() {
        check(
            "resource x: v1 v2
             resource y: w1 w2
             job a:
             job b:
             job ship: get x passed=[a,b], get y passed=[a]
             build a#1 put x=v1 y=w1 succeeded
             build b#1 put x=v1 succeeded
             build a#2 put x=v2 y=w2 succeeded
             expect ship <- x=v1 by a#1+b#1 first, y=w1 by a#1 first",
        );
    }

    /// Without a candidate a build of a shared job is not asked for what is chosen for others, as long as it does
    /// not contradict it: so two builds of one job may stand behind a set.
    #[test]
    fn an_input_that_a_build_lacks_may_come_from_another_build_of_the_same_job() {
        check(
            "resource x: v1
             resource y: w1
             job a:
             job ship: get x passed=[a], get y passed=[a]
             build a#1 put y=w1 succeeded
             build a#2 put x=v1 succeeded
             expect ship <- x=v1 by a#2 first, y=w1 by a#1 first",
        );
    }

    #[test]
    fn a_disabled_version_does_not_count_and_the_next_build_is_tried() {
        check(
            "resource repo: v1 -v2
             job unit: get repo
             job ship: get repo passed=[unit]
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 succeeded
             expect ship <- repo=v1 by unit#1 first",
        );
    }

    #[test]
    fn a_pin_picks_the_builds_that_have_it_unless_it_is_disabled() {
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit] pin=v1
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 succeeded
             expect ship <- repo=v1 by unit#1 first",
        );
        check(
            "resource repo: -v1 v2
             job unit: get repo
             job ship: get repo passed=[unit] pin=v1
             build unit#1 repo=v1 succeeded
             expect ship <- repo: no satisfiable builds from passed jobs found for set of inputs
             why ship
               repo: build 1 of unit has v1, which is disabled
               repo: the only succeeded build of unit was ruled out",
        );
    }

    #[test]
    fn a_version_whose_row_is_gone_does_not_count() {
        check(
            "resource repo: v1 ~v2
             job unit: get repo
             job ship: get repo passed=[unit]
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 succeeded
             expect ship <- repo=v1 by unit#1 first",
        );
    }

    /// A version that is gone ends the look at its build, while one that is disabled is passed over.
    #[test]
    fn after_a_version_that_is_gone_a_build_has_nothing_more_to_say() {
        check(
            "resource x: ~v1 v2
             job a:
             job ship: get x passed=[a]
             build a#1 put x=v1 x=v2 succeeded
             expect ship <- x: no satisfiable builds from passed jobs found for set of inputs",
        );
        check(
            "resource x: -~v1 v2
             job a:
             job ship: get x passed=[a]
             build a#1 put x=v1 x=v2 succeeded
             expect ship <- x=v2 by a#1 first",
        );
    }

    #[test]
    fn a_rerun_stands_directly_after_its_original() {
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit]
             build unit#1 repo=v1 failed
             build unit#2 repo=v2 succeeded
             build unit#1.1 repo=v1 succeeded
             expect ship <- repo=v2 by unit#2 first",
        );
        check(
            "resource repo: v1
             job unit: get repo
             job ship: get repo passed=[unit]
             build unit#1 repo=v1 succeeded
             build unit#1.1 repo=v1 succeeded
             expect ship <- repo=v1 by unit#1.1 first",
        );
    }

    #[test]
    fn a_job_of_no_use_to_the_pipeline_does_no_harm() {
        check(
            "resource repo: v1
             job unit: get repo
             job other: get repo
             job ship: get repo passed=[unit]
             build other#1 repo=v1 succeeded
             expect ship <- repo: no satisfiable builds from passed jobs found for set of inputs
             why ship
               repo: unit has no succeeded build",
        );
    }

    /// With a set that just led nowhere the same versions are not tried again, although build `j3#4` would vouch for
    /// `i1` and leave `i2` to others: the reference gives up here, and so does this.
    #[test]
    fn a_set_of_versions_that_led_nowhere_is_not_tried_again_at_once() {
        check(
            "resource r1: b
             resource r2: a
             job this: get i1 from r1 passed=[j2,j3], get i2 from r2 passed=[j2,j3]
             job j2:
             job j3:
             build j3#1 r1=b succeeded
             build j3#2 put r1=b succeeded
             build j2#1 r2=a succeeded
             build j2#1.1 put r1=b succeeded
             expect this <- i1: no satisfiable builds from passed jobs found for set of inputs, i2: no satisfiable builds from passed jobs found for set of inputs",
        );
    }
}

/// Section 3.4: `version: every` with `passed`.
mod every {
    use super::check;

    #[test]
    fn builds_newer_than_the_last_used_come_first_oldest_first() {
        check(
            "resource repo: v1 v2 v3
             job unit: get repo
             job ship: get repo passed=[unit] every
             build unit#1 repo=v1 succeeded
             build ship#1 repo=v1 succeeded via unit#1
             build unit#2 repo=v2 succeeded
             build unit#3 repo=v3 succeeded
             expect ship <- repo=v2 by unit#2 first next",
        );
    }

    /// The last of the newer builds still says that there may be a next: one more round finds nothing.
    #[test]
    fn the_last_newer_build_over_approximates_that_there_is_a_next() {
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit] every
             build unit#1 repo=v1 succeeded
             build ship#1 repo=v1 succeeded via unit#1
             build unit#2 repo=v2 succeeded
             expect ship <- repo=v2 by unit#2 first next",
        );
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit] every
             build unit#1 repo=v1 succeeded
             build ship#1 repo=v1 succeeded via unit#1
             expect ship <- repo=v1 by unit#1",
        );
    }

    #[test]
    fn without_a_last_use_it_is_as_latest() {
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit] every
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 succeeded
             expect ship <- repo=v2 by unit#2 first",
        );
    }

    #[test]
    fn a_rerun_of_the_last_used_build_is_not_newer() {
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit] every
             build unit#1 repo=v1 succeeded
             build ship#1 repo=v1 succeeded via unit#1
             build unit#1.1 repo=v1 succeeded
             expect ship <- repo=v1 by unit#1",
        );
    }

    #[test]
    fn where_a_rerun_was_last_used_later_reruns_are_newer() {
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit] every
             build unit#1 repo=v1 failed
             build unit#1.1 repo=v1 succeeded
             build ship#1 repo=v1 succeeded via unit#1.1
             build unit#1.2 repo=v1 succeeded
             expect ship <- repo=v1 by unit#1.2 next",
        );
    }

    /// What is last used is the build with the newest version, not the newest build.
    #[test]
    fn the_use_of_the_newest_version_counts() {
        check(
            "resource repo: v1 v2 v3
             job unit: get repo
             job ship: get repo passed=[unit] every
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 succeeded
             build unit#3 repo=v3 succeeded
             build ship#1 repo=v2 succeeded via unit#2
             build ship#2 repo=v1 succeeded via unit#1
             expect ship <- repo=v3 by unit#3 first next",
        );
    }

    /// `lint` was added to `passed` later: it does not choose, it only has to agree.
    #[test]
    fn a_job_without_a_last_use_waits_for_the_others() {
        check(
            "resource repo: v1 v2 v3
             job lint: get repo
             job unit: get repo
             job ship: get repo passed=[lint,unit] every
             build unit#1 repo=v1 succeeded
             build ship#1 repo=v1 succeeded via unit#1
             build unit#2 repo=v2 succeeded
             build unit#3 repo=v3 succeeded
             build lint#1 repo=v2 succeeded
             build lint#2 repo=v3 succeeded
             expect ship <- repo=v2 by unit#2+lint#1 first next",
        );
    }

    #[test]
    fn has_next_is_said_of_every_input_that_a_newer_build_vouches_for() {
        check(
            "resource x: v1 v2
             resource y: w1 w2
             job a:
             job ship: get x passed=[a] every, get y passed=[a]
             build a#1 put x=v1 y=w1 succeeded
             build ship#1 x=v1 y=w1 succeeded via a#1
             build a#2 put x=v2 y=w2 succeeded
             expect ship <- x=v2 by a#2 first, y=w2 by a#2 first next",
        );
    }

    #[test]
    fn every_and_a_pin_takes_the_pin_in_the_order_of_every() {
        check(
            "resource repo: v1 v2
             job unit: get repo
             job ship: get repo passed=[unit] every pin=v1
             build unit#1 repo=v1 succeeded
             build ship#1 repo=v1 succeeded via unit#1
             build unit#2 repo=v1 succeeded
             build unit#3 repo=v1 succeeded
             expect ship <- repo=v1 by unit#2 next",
        );
    }

    /// Where two builds of one job vouched for the last use, the later one is where it goes on.
    #[test]
    fn of_two_last_used_builds_of_a_job_the_later_counts() {
        check(
            "resource repo: v1 v2 v3
             job unit: get repo
             job ship: get repo passed=[unit] every
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 succeeded
             build ship#1 repo=v2 succeeded via unit#1, unit#2
             build unit#3 repo=v3 succeeded
             expect ship <- repo=v3 by unit#3 first next",
        );
    }
}

/// Section 3.5: first occurrence.
mod first_occurrence {
    use super::check;

    #[test]
    fn a_version_is_first_until_any_build_of_the_job_had_it_under_the_same_name() {
        check(
            "resource repo: v1
             job unit: get repo
             job ship: get repo, get again from repo
             build unit#1 repo=v1 succeeded
             build ship#1 repo=v1 aborted
             expect unit <- repo=v1 | ship <- repo=v1, again=v1 first",
        );
    }

    #[test]
    fn an_older_use_counts_as_well() {
        check(
            "resource repo: v1 v2
             job unit: get repo pin=v1
             build unit#1 repo=v1 succeeded
             build unit#2 repo=v2 succeeded
             expect unit <- repo=v1",
        );
    }
}

/// Section 3.7: the causes, each by itself and in its words.
mod causes {
    use super::check;

    #[test]
    fn a_pin_of_another_input_and_a_version_that_is_gone() {
        check(
            "resource x: v1 v2 ~v3
             resource y: w1 w2
             job a:
             job b:
             job ship: get x passed=[a,b], get y passed=[a,b] pin=w1
             build a#1 put x=v2 y=w2 succeeded
             build a#2 put x=v1 y=w1 succeeded
             build a#3 put x=v3 succeeded
             expect ship <- x: no satisfiable builds from passed jobs found for set of inputs, y: no satisfiable builds from passed jobs found for set of inputs
             why ship
               x: build 3 of a has a version with digest 0d0f0b2467da, which is not known any more
               x: b has no succeeded build with x at v1, y at w1
               x: build 1 of a has w2 for y, but y is pinned to w1
               x: b has no succeeded build with x at v2
               x: each of the 3 succeeded builds of a was ruled out",
        );
    }

    #[test]
    fn a_mismatch_names_the_other_input_and_what_is_chosen_for_it() {
        check(
            "resource x: v1 -v2
             resource y: w1
             job a:
             job ship: get x passed=[a], get y passed=[a]
             build a#1 put x=v2 y=w1 succeeded
             build a#2 put x=v1 succeeded
             expect ship <- x: no satisfiable builds from passed jobs found for set of inputs, y: no satisfiable builds from passed jobs found for set of inputs
             why ship
               y: build 2 of a has no version for it
               y: build 1 of a has v2 for x, but v1 is already chosen, from build 2
               y: each of the 2 succeeded builds of a was ruled out
               x: build 1 of a has v2, which is disabled
               x: each of the 2 succeeded builds of a was ruled out",
        );
    }

    #[test]
    fn a_doomed_set_is_named() {
        check(
            "resource x: v1
             job a:
             job b:
             job ship: get x passed=[a,b]
             build a#1 put x=v1 succeeded
             build a#2 put x=v1 succeeded
             expect ship <- x: no satisfiable builds from passed jobs found for set of inputs
             why ship
               x: b has no succeeded build with x at v1
               x: with build 1 of a the versions would be x at v1, which was tried before and led nowhere
               x: each of the 2 succeeded builds of a was ruled out",
        );
    }
}
