//! Tables with the vectors of apimachinery's own tests, and the round trips.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn texts_become_canonical() {
    for (text, canonical) in [
        ("", ""),
        (" \t", ""),
        ("x=a,y=b,z=c", "x=a,y=b,z=c"),
        ("x!=a,y==b", "x!=a,y=b"),
        ("y = b , x", "x,y=b"),
        ("x=", "x="),
        ("x= ", "x="),
        ("x=,z= ", "x=,z="),
        ("x= ,z= ", "x=,z="),
        ("!x", "!x"),
        ("! x", "!x"),
        ("x in (b,a)", "x in (a,b)"),
        ("x in ()", "x in ()"),
        ("x in (,a)", "x in (,a)"),
        ("x notin (abc,def,,)", "x notin (,abc,def)"),
        ("x in (in,notin)", "x in (in,notin)"),
        ("in in (in)", "in in (in)"),
        ("x notin(a)", "x notin (a)"),
        ("notin", "notin"),
        ("a.b/c=d", "a.b/c=d"),
        ("z,x,x", "x,z"),
    ] {
        let parsed = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(parsed.to_string(), canonical, "{text}");
    }
}

#[test]
fn bad_texts_are_refused() {
    for text in [
        "x,,y",
        "x=a,",
        ",x",
        "==",
        "=",
        "a b",
        "x in a",
        "x in (a",
        "x in a)",
        "x in (a b)",
        "x=(a)",
        "x==a==b",
        "!x=a",
        "x!!=a",
        "!",
        "!!x",
        "x>1",
        "x<1",
        "x<=1",
        "x in (a),",
        "-x=a",
        "x=-a",
        "a/b/c=d",
        "/x=a",
        "A.b/x=a",
        "x=a/b",
        "x=\u{e4}",
        "(x)",
        "x=a or y=b",
    ] {
        assert!(Selector::parse(text).is_err(), "{text} was accepted");
    }
    let long = "a".repeat(64);
    assert!(Selector::parse(&long).is_err() && Selector::parse(&format!("a={long}")).is_err());
    let error = Selector::parse("x>1").unwrap_err().to_string();
    assert!(error.contains("not supported"), "{error}");
}

#[test]
fn matching_follows_kubernetes() {
    let object = labels(&[("app", "shop"), ("tier", "web"), ("empty", "")]);
    for (text, expected) in [
        ("", true),
        ("app=shop", true),
        ("app=other", false),
        ("app!=other", true),
        ("missing!=x", true),
        ("app in (a,shop)", true),
        ("missing in (a)", false),
        ("app notin (a,shop)", false),
        ("missing notin (a)", true),
        ("empty=", true),
        ("empty", true),
        ("missing=", false),
        ("!app", false),
        ("!missing", true),
        ("app=shop,tier=db", false),
    ] {
        assert_eq!(
            Selector::parse(text).unwrap().matches_labels(&object),
            expected,
            "{text}"
        );
    }
}

#[test]
fn or_splits_only_at_the_word() {
    for (text, parts) in [
        ("a=b or c=d", vec!["a=b", "c=d"]),
        ("a in (x or, y) or c", vec![]),
        ("a in (x, or) or c", vec!["a in (or,x)", "c"]),
        (
            "a=b,c=d or e notin (f) or !g",
            vec!["a=b,c=d", "e notin (f)", "!g"],
        ),
        ("floor=or", vec!["floor=or"]),
        ("a  or\tb", vec!["a", "b"]),
        ("or or or", vec!["or", "or"]),
        ("", vec![]),
    ] {
        let parsed =
            OrSelector::parse(text).map(|or| or.alternatives().iter().map(Selector::to_string).collect());
        assert_eq!(parsed.unwrap_or_else(|_| Vec::<String>::new()), parts, "{text}");
    }
    assert!(matches!(
        OrSelector::parse("a or  or b"),
        Err(SelectorError::EmptyAlternative { .. })
    ));
    let or = OrSelector::parse("app=x or tier=web").unwrap();
    assert!(or.matches(&|key| (key == "tier").then_some("web")));
    assert!(!or.matches(&|key| (key == "tier").then_some("db")));
    assert!(OrSelector::default().matches(&|_| None));
}

#[test]
fn json_form_is_the_api_s() {
    let selector = Selector::parse("a=b,c!=d,e in (x,y),!g,h").unwrap();
    let json = serde_json::to_value(LabelSelector::from(&selector)).unwrap();
    assert_eq!(
        json,
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "NotIn", "values": ["d"]},
            {"key": "e", "operator": "In", "values": ["x", "y"]},
            {"key": "g", "operator": "DoesNotExist"},
            {"key": "h", "operator": "Exists"},
        ]})
    );
    for bad in [
        json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}),
        json!({"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}),
        json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
        json!({"matchLabels": {"-a": "b"}}),
    ] {
        let json: LabelSelector = serde_json::from_value(bad.clone()).unwrap();
        assert!(Selector::try_from(&json).is_err(), "{bad}");
    }
    let null: LabelSelector =
        serde_json::from_value(json!({"matchLabels": null, "matchExpressions": null})).unwrap();
    assert!(Selector::try_from(&null).unwrap().is_empty());
}

fn any_requirement() -> impl Strategy<Value = Requirement> {
    let key = prop_oneof![
        "[a-z]{1,8}",
        "[a-z]{1,4}\\.[a-z]{2}/[A-Za-z0-9]{1,8}",
        Just("in".to_owned()),
        Just("notin".to_owned())
    ];
    let value = || {
        prop_oneof![
            "[A-Za-z0-9]([-A-Za-z0-9_.]{0,6}[A-Za-z0-9])?",
            Just(String::new()),
            Just("notin".to_owned())
        ]
    };
    let set = || proptest::collection::btree_set(value(), 1..4);
    let condition = prop_oneof![
        value().prop_map(Condition::Equals),
        value().prop_map(Condition::NotEquals),
        set().prop_map(Condition::In),
        set().prop_map(Condition::NotIn),
        Just(Condition::Exists),
        Just(Condition::DoesNotExist),
    ];
    (key, condition).prop_map(|(key, condition)| Requirement::new(&key, condition).unwrap())
}

proptest! {
    #[test]
    fn display_and_parse_are_inverse(requirements in proptest::collection::vec(any_requirement(), 0..5)) {
        let selector = Selector::new(requirements);
        prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn json_and_text_select_the_same(
        requirements in proptest::collection::vec(any_requirement(), 0..4),
        object in proptest::collection::btree_map("[a-z]{1,2}", "[a-z]{0,2}", 0..4),
    ) {
        let selector = Selector::new(requirements);
        let back = Selector::try_from(&LabelSelector::from(&selector)).unwrap();
        prop_assert_eq!(back.matches_labels(&object), selector.matches_labels(&object));
    }

    #[test]
    fn parsing_never_panics(text in "[a-z=!(), <>/\\-\u{e4}]{0,24}") {
        if let Ok(selector) = Selector::parse(&text) {
            prop_assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector);
        }
        let _ = OrSelector::parse(&text);
    }
}
