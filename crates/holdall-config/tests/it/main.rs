//! The parsers against files that were judged by Concourse's own tools.

mod corpus;
