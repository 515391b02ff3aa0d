//! The parsers against files that were judged by Concourse's own tools, and against those files broken.

mod corpus;
mod mutations;
