//! Tests of bags: digests, the files of the artifact, and what is read back.

use super::*;

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is not an object"),
    }
}

fn image(version: &[(&str, &str)]) -> BagService {
    let source = object(json!({"repository": "registry.example/notify/api", "tag": "main"}));
    let version = version.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let metadata = vec![("author".to_owned(), "Ann".to_owned()), ("author".to_owned(), "Bob".to_owned())];
    let repository = Some("https://git.example/notify/api".to_owned());
    BagService::new("registry-image", &source, Version(version), repository, metadata)
}

fn other(resource_type: &str, version: Version) -> BagService {
    BagService::new(resource_type, &Object::new(), version, None, Vec::new())
}

fn bag() -> Bag {
    Bag {
        schema_version: BAG_SCHEMA_VERSION,
        system: "notify".to_owned(),
        number: 42,
        packed_at: Timestamp(1_795_601_702_000_000),
        packed_by: "preview/deploy-notify/pack-bag #12".to_owned(),
        packed_in: "preview".to_owned(),
        services: [
            ("api".to_owned(), image(&[("digest", "sha256:aa"), ("tag", "main")])),
            ("document-download".to_owned(), image(&[("digest", "sha256:bb")])),
            ("infrastructure".to_owned(), other("git", Version::of("ref", "c0ffee"))),
            ("schedule".to_owned(), other("time", Version::of("time", "2026-11-24 at noon"))),
        ]
        .into(),
        pins: [("api".to_owned(), Version::of("digest", "sha256:aa"))].into(),
        unticks: [("api".to_owned(), vec![Version::of("digest", "sha256:a0")])].into(),
        previous: Some(41),
        contents_digest: String::new(),
        digest: String::new(),
    }
    .seal()
}

#[test]
fn bits_are_what_the_type_makes_exact() {
    let bits = |kind: &str, source: Value, version: &[(&str, &str)]| {
        let version = version.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Bits::of(kind, &object(source), &Version(version))
    };
    let commit = |commit: &str| Bits::Commit(commit.to_owned());
    assert_eq!(bits("git", json!({}), &[("ref", "c0ffee")]), commit("c0ffee"));
    // A tag is followed: the commit is what counts.
    assert_eq!(bits("git", json!({}), &[("ref", "v1.0"), ("commit", "c0ffee")]), commit("c0ffee"));
    assert_eq!(bits("git", json!({}), &[("branch", "main")]), Bits::Version);
    assert_eq!(bits("git", json!({}), &[("ref", "")]), Bits::Version);

    let api = || json!({"repository": "registry.example/api"});
    let digest = ("digest", "sha256:aa");
    let expected = |tag: Option<&str>| Bits::Image {
        repository: "registry.example/api".to_owned(),
        digest: "sha256:aa".to_owned(),
        tag: tag.map(str::to_owned),
    };
    assert_eq!(bits("registry-image", api(), &[digest]), expected(None));
    assert_eq!(bits("registry-image", api(), &[digest, ("tag", "1.2")]), expected(Some("1.2")));
    assert_eq!(bits("registry-image", api(), &[("tag", "1.2")]), Bits::Version);
    assert_eq!(bits("registry-image", json!({}), &[digest]), Bits::Version);
    assert_eq!(bits("registry-image", json!({"repository": 1}), &[digest]), Bits::Version);
    assert_eq!(bits("mock", api(), &[digest, ("ref", "c0ffee")]), Bits::Version);

    assert!(other("git", Version::of("ref", "c0ffee")).exact);
    assert!(!other("mock", Version::of("version", "1")).exact);
}

#[test]
fn bits_that_would_break_a_line_are_not_exact() {
    for hostile in ["sha256:aa\nPATH=/evil", "sha256:aa evil", "sha256:\u{e9}", "sha256:aa\0"] {
        let service = image(&[("digest", hostile)]);
        assert_eq!((service.bits, service.exact), (Bits::Version, false), "{hostile:?}");
    }
    assert_eq!(other("git", Version::of("ref", "c0ffee\n")).bits, Bits::Version);
    let mut bag = bag();
    bag.services = [("api".to_owned(), image(&[("digest", "a\nb")]))].into();
    assert_eq!(bag.images_env(), "");
    assert_eq!(bag.digests_txt(), "api {\"digest\":\"a\\nb\"}\n");
}

#[test]
fn bag_json_is_canonical() {
    insta::assert_snapshot!(bag().bag_json());
}

#[test]
fn the_other_files_say_the_same() {
    let files = bag().files();
    assert_eq!(
        files["images.env"],
        "API=registry.example/notify/api@sha256:aa\nDOCUMENT_DOWNLOAD=registry.example/notify/api@sha256:bb\n"
    );
    assert_eq!(
        files["digests.txt"],
        "api registry.example/notify/api@sha256:aa\ndocument-download registry.example/notify/api@sha256:bb\n\
         infrastructure c0ffee\nschedule {\"time\":\"2026-11-24 at noon\"}\n"
    );
    let variables: Value = serde_json::from_str(&files["bag.auto.tfvars.json"]).unwrap();
    let expected = json!({
        "bag": 42,
        "bag_digest": bag().digest,
        "images": {
            "api": "registry.example/notify/api@sha256:aa",
            "document-download": "registry.example/notify/api@sha256:bb",
        },
        "commits": {"infrastructure": "c0ffee"},
        "versions": {
            "api": {"digest": "sha256:aa", "tag": "main"},
            "document-download": {"digest": "sha256:bb"},
            "infrastructure": {"ref": "c0ffee"},
            "schedule": {"time": "2026-11-24 at noon"},
        },
    });
    assert_eq!(variables, expected);
    assert_eq!(files["bag.json"], bag().bag_json());
    assert_eq!(files.len(), 4);
}

#[test]
fn names_of_services_become_names_of_variables() {
    assert_eq!(env_name("document-download"), "DOCUMENT_DOWNLOAD");
    assert_eq!(env_name("2fa.\u{e9}"), "_2FA__");
}

#[test]
fn contents_are_equal_whatever_surrounds_them() {
    let a = bag();
    let mut b = Bag { number: 43, packed_by: "ann".to_owned(), previous: Some(42), ..a.clone() };
    b.services.get_mut("api").unwrap().metadata.clear();
    b.pins.clear();
    let b = b.seal();
    assert_eq!(a.contents_digest, b.contents_digest);
    assert_ne!(a.digest, b.digest);
}

#[test]
fn contents_differ_in_each_thing_that_counts() {
    let a = bag();
    let changes: [fn(&mut Bag); 6] = [
        |bag| bag.services.get_mut("api").unwrap().version = Version::of("digest", "sha256:aa"),
        |bag| bag.services.get_mut("api").unwrap().resource_type = "mock".to_owned(),
        |bag| bag.services.get_mut("api").unwrap().repository = None,
        |bag| bag.services.get_mut("api").unwrap().bits = Bits::Version,
        |bag| drop(bag.services.remove("api")),
        |bag| {
            let service = bag.services.remove("api").unwrap();
            bag.services.insert("api2".to_owned(), service);
        },
    ];
    let mut digests = vec![a.contents_digest.clone()];
    for change in changes {
        let mut changed = a.clone();
        change(&mut changed);
        digests.push(changed.seal().contents_digest);
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), changes.len() + 1);
}

#[test]
fn digests_can_be_computed_by_anyone() {
    // Of the text `{}`, and of the bag's own text without its digest.
    let empty = Bag { services: BTreeMap::new(), ..bag() }.seal();
    let of_empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(empty.contents_digest, of_empty);
    let bag = bag();
    let without = bag.bag_json().replace(&format!(",\"digest\":\"{}\"", bag.digest), "");
    assert_eq!(sha256(&without), bag.digest);
}

#[test]
fn a_bag_is_read_back() {
    let bag = bag();
    assert_eq!(Bag::from_json(&bag.bag_json()).unwrap(), bag);
    let pretty = serde_json::to_string_pretty(&bag).unwrap();
    assert_eq!(Bag::from_json(&pretty).unwrap(), bag);
}

#[test]
fn a_bag_that_was_changed_is_refused() {
    let text = bag().bag_json();
    let read = |text: &str| Bag::from_json(text).unwrap_err().to_string();
    let changed = "the digests of bag 42 are not those of its contents: it was changed";
    assert_eq!(read(&text.replace("c0ffee", "badbad")), changed);
    assert_eq!(read(&text.replace("Ann", "Eve")), changed);
    assert_eq!(read(&text.replace("2026-11-25", "2026-11-26")), changed);
    let newer = text.replace("\"schema_version\":1", "\"schema_version\":2");
    assert_eq!(read(&newer), "bag.json of schema version 2, which this Holdall does not know");
    for text in ["", "{}", "[]", "null", "{\"schema_version\":1}", &text[..100], &"[".repeat(100_000)] {
        assert!(read(text).starts_with("not a bag.json: "), "{text:.20}");
    }
    let no_time = text.replace("2026-11-25T", "yesterday ");
    assert!(read(&no_time).contains("is not a time in UTC"), "{}", read(&no_time));
}

#[test]
fn canonical_json_sorts_as_utf_16_does() {
    let value =
        json!({"\u{1f600}": 1, "\u{fb33}": 2, "b": [true, null, {"z": 1, "a": "\u{7}\n\"\\/é"}], "a": {}, "c": []});
    assert_eq!(
        canonical_json(&value),
        "{\"a\":{},\"b\":[true,null,{\"a\":\"\\u0007\\n\\\"\\\\/é\",\"z\":1}],\"c\":[],\"\u{1f600}\":1,\"\u{fb33}\":2}"
    );
}
