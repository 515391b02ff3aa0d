//! The shape of a plan as a list of nodes, parents before their children: what the walk needs of it.

use crate::plan::{Plan, PlanId, PlanKind, VersionSource};
use crate::status::Outcome;
use crate::time::Span;

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub id: PlanId,
    /// The parent, and which of its children this is.
    pub parent: Option<(usize, usize)>,
    pub children: Vec<usize>,
    pub kind: Kind,
    /// What the nearest hook around it is run for.
    pub in_hook: Option<Outcome>,
}

/// What a node does with its children.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Has none: something is run.
    Step {
        /// What a get fetches.
        version: Option<VersionSource>,
    },
    Do,
    InParallel {
        /// 0: no limit.
        limit: usize,
        fail_fast: bool,
    },
    Try,
    Retry,
    Timeout {
        span: Span,
    },
    /// Its children are the step and the hook.
    Hook(Hook),
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Success,
    Failure,
    Error,
    Abort,
    Ensure,
}

impl Hook {
    /// The `BUILD_STATUS` of its steps (reference, section 2.3).
    fn build_status(self) -> Option<Outcome> {
        match self {
            Hook::Success => Some(Outcome::Succeeded),
            Hook::Failure => Some(Outcome::Failed),
            Hook::Error => Some(Outcome::Errored),
            Hook::Abort => Some(Outcome::Aborted),
            Hook::Ensure => None,
        }
    }
}

/// The nodes of a plan; the root is the first.
pub(super) fn flatten(plan: &Plan) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut open = vec![(plan, None::<(usize, usize)>, None)];
    while let Some((plan, parent, in_hook)) = open.pop() {
        let here = nodes.len();
        if let Some((parent, _)) = parent {
            nodes[parent].children.push(here);
        }
        let kind = kind(plan);
        for (slot, child) in plan.children().into_iter().enumerate().rev() {
            let in_hook = match kind {
                Kind::Hook(hook) if slot == 1 => hook.build_status(),
                _ => in_hook,
            };
            open.push((child, Some((here, slot)), in_hook));
        }
        nodes.push(Node { id: plan.id.clone(), parent, children: Vec::new(), kind, in_hook });
    }
    nodes
}

fn kind(plan: &Plan) -> Kind {
    match &plan.kind {
        PlanKind::Get(get) => Kind::Step { version: Some(get.version.clone()) },
        PlanKind::Put(_) | PlanKind::Task(_) | PlanKind::Release(_) | PlanKind::Files(_) => {
            Kind::Step { version: None }
        }
        PlanKind::Do(_) => Kind::Do,
        PlanKind::InParallel { limit, fail_fast, .. } => {
            Kind::InParallel { limit: *limit as usize, fail_fast: *fail_fast }
        }
        PlanKind::Try(_) => Kind::Try,
        PlanKind::Retry(_) => Kind::Retry,
        PlanKind::Timeout { span, .. } => Kind::Timeout { span: *span },
        PlanKind::OnSuccess { .. } => Kind::Hook(Hook::Success),
        PlanKind::OnFailure { .. } => Kind::Hook(Hook::Failure),
        PlanKind::OnError { .. } => Kind::Hook(Hook::Error),
        PlanKind::OnAbort { .. } => Kind::Hook(Hook::Abort),
        PlanKind::Ensure { .. } => Kind::Hook(Hook::Ensure),
    }
}
