//! Task files, right and wrong.

use super::*;

fn refused(text: &str) -> Vec<String> {
    let found = parse(text);
    assert!(found.value.is_none(), "accepted: {text}");
    found.errors().map(|error| error.message.clone()).collect()
}

#[test]
fn a_whole_task_file_is_read() {
    let text = "
platform: linux
image_resource: {type: registry-image, source: {repository: alpine}}
params: {A: 0755, B: ~, C: [1, \"<\"], D: 1e21, E: 12345678901234567890}
inputs: [{name: repo}, {name: x, path: z, optional: true}]
outputs: [{name: out}]
caches: [{path: .cache, ttl: 1h}]
run: {path: sh, args: [-c, ~], dir: repo, user: nobody}
container_limits: {cpu: 1.5, memory: 1kib}
";
    let task = parse(text).into_result().unwrap();
    assert_eq!(task.platform, "linux");
    assert_eq!(task.params["A"], "493");
    assert_eq!(task.params["B"], "");
    assert_eq!(task.params["C"], "[1,\"\\u003c\"]");
    assert_eq!(task.params["D"], "1e+21");
    assert_eq!(task.params["E"], "12345678901234567890");
    assert_eq!(task.inputs[1], TaskInput { name: "x".into(), path: Some("z".into()), optional: true });
    assert_eq!(task.run.args, ["-c", ""]);
    assert_eq!(task.container_limits.unwrap()["cpu"], 1);
    assert_eq!(task.image_resource.unwrap()["source"]["repository"], "alpine");
}

#[test]
fn all_mistakes_come_at_once_with_the_references_words() {
    assert_eq!(
        refused("inputs: [{}]\noutputs: [~]\nimage: x\ncaches: [{path: a, ttl: 5ms}]\nrun: {args: [1]}\n"),
        [
            "run.args[0] must be a string, not a number".replace("run.", ""),
            "input in position 0 is missing a name".into(),
            "output in position 0 is missing a name".into(),
            "cache ttl must be at least 1s, got '5ms'".into(),
            "missing 'platform'".into(),
            "unknown key 'image'".into(),
        ]
    );
    assert_eq!(refused(""), ["missing 'platform'"]);
    assert_eq!(refused("x"), ["the file must be a map, not a string"]);
    assert_eq!(refused("platform: linux\nparams: ((p))\n"), ["params must be a map, not a string"]);
}

#[test]
fn in_a_task_file_the_last_of_two_keys_counts() {
    assert_eq!(parse("platform: linux\nplatform: darwin\n").value.unwrap().platform, "darwin");
}

#[test]
fn broken_vars_are_refused_and_right_ones_stay() {
    assert_eq!(refused("platform: linux\nrun: {path: ((a..b))}\n"), ["invalid var 'a..b': empty field"]);
    assert_eq!(parse("platform: ((p))\n").value.unwrap().platform, "((p))");
}
