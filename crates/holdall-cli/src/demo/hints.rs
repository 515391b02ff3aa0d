//! What to try with a running demo: commands that can be pasted into another terminal.

use super::folder::Folder;

/// The text, for a demo in that folder whose server answers at that address.
pub fn hints(folder: &Folder, server: &str) -> String {
    format!(
        r#"
Things to try, in another terminal:

  cd {root} && PATH="$PWD/bin:$PATH"

Push a change, and see it go to production:
  (cd services/api && echo 'message=Hello' >>service.conf && git commit -qam 'Say hello' && git push)
  holdall env list

Push one that breaks production's tests, ask why nothing moves, and roll it back:
  (cd services/admin && echo 'broken_in=production' >>service.conf && git commit -qam 'Break it' && git push)
  holdall why production
  holdall rollback production --suspect admin --reason 'admin answers 500'

Freeze staging, push, ask why, and let it go on:
  holdall freeze staging --reason 'a demonstration for the board'
  (cd services/api && echo 'message=Hello again' >>service.conf && git commit -qam 'Say it again' && git push)
  holdall why staging
  holdall unfreeze staging

Find out where a commit is:
  holdall where $(git -C services/api rev-parse HEAD)

Pack and deploy to the dev environment, which does so only when asked:
  holdall job trigger dev/deploy-notify/pack-bag

The page: {server}   Stop with Ctrl-C; `holdall demo` goes on from there.
"#,
        root = quoted(&folder.root().to_string_lossy()),
    )
}

/// A path as a shell reads it back, with quotes only where they are needed. A demo's path has no quotes in it.
fn quoted(path: &str) -> String {
    let is_plain = path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    if is_plain { path.to_owned() } else { format!("'{path}'") }
}
