//! Text in, typed model and all diagnostics out, with positions: pipelines, tasks, systems, variables.
