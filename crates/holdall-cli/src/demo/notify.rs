//! `holdall demo-notify`: what the `post-receive` hook of the demo's repositories calls, so that a push is seen at once.
//!
//! It never makes a push fail: a server that does not run looks for itself when it starts.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::world::{agent, request};

/// Arguments of `demo-notify`.
#[derive(Debug, clap::Args)]
pub struct NotifyArgs {
    /// The demo's folder.
    #[arg(long)]
    dir: PathBuf,
    /// The service that was pushed.
    service: String,
}

/// What the demo leaves in its folder for the hook: whom to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Whom {
    /// The server's address.
    pub server: String,
    /// Webhooks to call, `{service}` for the service that was pushed.
    pub webhooks: Vec<String>,
}

/// Calls the webhooks, and tells who pushed (git shows it as `remote:`) what to expect.
pub fn run(args: &NotifyArgs) {
    let whom = fs::read_to_string(Folder::at(&args.dir).server_address()).ok();
    let Some(whom) = whom.and_then(|text| serde_json::from_str::<Whom>(&text).ok()) else {
        println!("The demo does not run; it finds this push when it starts.");
        return;
    };
    let agent = agent(Duration::from_secs(3));
    for webhook in &whom.webhooks {
        let url = format!("{}{}", whom.server, webhook.replace("{service}", &args.service));
        match request(&agent, "POST", &url, "") {
            Ok((200..=299, _)) => {}
            Ok((404, _)) => println!("Holdall knows no service {} yet.", args.service),
            Ok((status, body)) => println!("Holdall was told and answered {status}: {:.200}", body.trim()),
            Err(_) => {
                println!("The demo does not answer; it finds this push when it starts.");
                return;
            }
        }
    }
    println!("Holdall knows of this push: {}", whom.server);
}
