//! Which bag may start in an environment (release model, sections 6 and 7).

use crate::report::{Code, Hold};
use crate::time::Timestamp;

/// How bags that wait give way to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Superseding {
    /// The newest starts.
    #[default]
    Latest,
    /// Every one in order.
    Queue,
}

/// Who did something to a bag or an environment, when and why.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mark {
    /// Who.
    pub by: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
    /// Until when, if it ends by itself.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

impl Mark {
    fn because(&self) -> String {
        self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
    }
}

/// A service version in a bag that a roll back threw out of this environment or one before it.
#[derive(Debug, Clone, PartialEq)]
pub struct SuspectHit {
    /// The service.
    pub service: String,
    /// Its version, for people.
    pub version: String,
    /// The bag that brought it.
    pub brought_by: i64,
    /// Where it was thrown out.
    pub environment: String,
    /// By whom, when, why.
    pub mark: Mark,
}

/// A bag as the decision sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BagView {
    /// Its number.
    pub number: i64,
    /// The environments before this one that it has not passed; empty where it was packed.
    pub not_passed: Vec<String>,
    /// Whether it can come here at all: packed in the environment that this one goes back to.
    pub belongs: bool,
    /// Unticked here.
    pub disabled: Option<Mark>,
    /// Thrown out by a roll back in an environment before this one: where.
    pub withdrawn: Option<(String, Mark)>,
    /// What it holds that was thrown out.
    pub suspects: Vec<SuspectHit>,
    /// Services that the plan needs and it lacks.
    pub missing: Vec<String>,
}

/// An environment as the choice of its next bag sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BagsView {
    /// The system, for commands.
    pub system: String,
    /// The environment.
    pub environment: String,
    /// The highest number that has started here; 0: none.
    pub highest_started: i64,
    /// The bag that is frozen here.
    pub pin: Option<(i64, Mark)>,
    /// How waiting bags give way.
    pub superseding: Superseding,
    /// Whether bags start by themselves here.
    pub manual_promotion: bool,
    /// Why a person must start the next one.
    pub held: Option<(Code, Mark)>,
}

/// What keeps a bag from starting here even if a person starts it: all of it.
///
/// A pin beats an untick (section 7), and a person who names a bag goes past superseding, so neither is here.
pub fn barred(view: &BagsView, bag: &BagView) -> Vec<Hold> {
    let environment = &view.environment;
    let number = bag.number;
    let mut holds = Vec::new();
    if !bag.belongs {
        holds.push(Hold::new(
            Code::NotPassedUpstream,
            format!("bag {number} was packed for another line of environments and never comes to {environment}"),
        ));
    }
    for missing in &bag.not_passed {
        holds.push(
            Hold::new(Code::NotPassedUpstream, format!("bag {number} has not passed {missing}"))
                .command(format!("holdall why {missing} --bag {number}")),
        );
    }
    let pinned = view.pin.as_ref().is_some_and(|(pin, _)| *pin == number);
    if let Some((pin, mark)) = &view.pin
        && *pin != number
    {
        holds.push(frozen(view, *pin, mark));
        holds.push(
            Hold::new(Code::BagPinnedElsewhere, format!("bag {pin} is pinned in {environment}, not bag {number}"))
                .since(mark.at)
                .by(mark.by.clone())
                .until(mark.until)
                .command(format!("holdall unfreeze {environment}")),
        );
    }
    if let Some(mark) = bag.disabled.as_ref().filter(|_| !pinned) {
        holds.push(
            Hold::new(Code::BagDisabled, format!("bag {number} is unticked in {environment}{}", mark.because()))
                .since(mark.at)
                .by(mark.by.clone())
                .until(mark.until)
                .command(format!("holdall enable --bag {number} --environment {environment}")),
        );
    }
    if let Some((place, mark)) = bag.withdrawn.as_ref().filter(|_| !pinned) {
        holds.push(
            Hold::new(
                Code::WithdrawnUpstream,
                format!("bag {number} was thrown out of {place} by a roll back{}", mark.because()),
            )
            .since(mark.at)
            .by(mark.by.clone())
            .command(format!("holdall enable --bag {number} --environment {place}")),
        );
    }
    for hit in bag.suspects.iter().filter(|_| !pinned) {
        holds.push(
            Hold::new(
                Code::RolledBackContent,
                format!(
                    "bag {number} holds {} at {}, which bag {} brought and a roll back threw out of {}{}",
                    hit.service,
                    hit.version,
                    hit.brought_by,
                    hit.environment,
                    hit.mark.because()
                ),
            )
            .since(hit.mark.at)
            .by(hit.mark.by.clone())
            .command(format!("holdall suspect clear {} {} --reason \"...\"", hit.environment, hit.service)),
        );
    }
    if !bag.missing.is_empty() {
        let with = bag.missing.join("=VERSION --with ");
        holds.push(
            Hold::new(
                Code::BagIncomplete,
                format!("bag {number} lacks {}, which the plan of {environment} needs", bag.missing.join(", ")),
            )
            .command(format!("holdall bag assemble --like {number} --with {with}=VERSION --reason \"...\"")),
        );
    }
    holds
}

/// What keeps a bag from starting here *by itself*: all that [`barred`] says, and what only a person goes past.
/// Superseding by a bag that waits beside it is not in here: see [`choose`].
pub fn held_back(view: &BagsView, bag: &BagView) -> Vec<Hold> {
    let mut holds = barred(view, bag);
    if bag.number <= view.highest_started {
        let hold = if bag.number == view.highest_started {
            Hold::new(Code::Superseded, format!("bag {} has started in {} already", bag.number, view.environment))
        } else {
            Hold::new(
                Code::Superseded,
                format!("bag {} is superseded in {} by bag {}", bag.number, view.environment, view.highest_started),
            )
        };
        holds.push(hold.command(format!("holdall deploy {} --bag {} --reason \"...\"", view.environment, bag.number)));
    }
    if let Some((pin, mark)) = view.pin.as_ref().filter(|(pin, _)| *pin == bag.number) {
        holds.push(frozen(view, *pin, mark));
    }
    if let Some((code, mark)) = &view.held {
        holds.push(held(view, *code, mark));
    }
    if view.manual_promotion {
        holds.push(
            Hold::new(Code::PromotionManual, format!("{} starts only what a person starts", view.environment))
                .command(format!("holdall deploy {} --bag {}", view.environment, bag.number)),
        );
    }
    holds
}

/// The bag that starts by itself next, among candidates with numbers above the highest that has started, in
/// ascending order: the newest (`latest`) or the oldest (`queue`) that nothing holds back (section 6).
pub fn choose(view: &BagsView, candidates: &[BagView]) -> Option<i64> {
    first(view, candidates, |bag| held_back(view, bag).is_empty())
}

/// The bag among the same candidates that a person's trigger starts next, in the same order (section 6, rule 4): what
/// holds back only what starts by itself does not count.
pub fn choose_for_person(view: &BagsView, candidates: &[BagView]) -> Option<i64> {
    first(view, candidates, |bag| barred(view, bag).is_empty())
}

/// Whether any bag starts by itself: where it is `false`, [`held_back`] has something to say of every one.
pub fn starts_by_itself(view: &BagsView) -> bool {
    view.pin.is_none() && view.held.is_none() && !view.manual_promotion
}

fn first(view: &BagsView, candidates: &[BagView], is_free: impl Fn(&BagView) -> bool) -> Option<i64> {
    let mut free = candidates.iter().filter(|bag| is_free(bag)).map(|bag| bag.number);
    match view.superseding {
        Superseding::Latest => free.next_back(),
        Superseding::Queue => free.next(),
    }
}

/// The hold of an environment that waits for a person.
pub fn held(view: &BagsView, code: Code, mark: &Mark) -> Hold {
    let environment = &view.environment;
    let (sentence, command) = match code {
        Code::Restored => (
            format!("history was lost{}; a person must confirm what is live in {environment}", mark.because()),
            format!("holdall env confirm {environment} --reason \"...\""),
        ),
        _ => (
            format!("{environment} was unlocked by force and waits for a person to start it{}", mark.because()),
            format!("holdall job trigger {environment}/start-deploy"),
        ),
    };
    Hold::new(code, sentence).since(mark.at).by(mark.by.clone()).command(command)
}

/// The hold of a frozen environment.
pub fn frozen(view: &BagsView, pin: i64, mark: &Mark) -> Hold {
    Hold::new(Code::Frozen, format!("{} is frozen at bag {pin}{}", view.environment, mark.because()))
        .since(mark.at)
        .by(mark.by.clone())
        .until(mark.until)
        .command(format!("holdall unfreeze {}", view.environment))
}

#[cfg(test)]
mod tests;
