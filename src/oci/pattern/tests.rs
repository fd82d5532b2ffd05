//! Matches, refusals and costs of patterns.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> RepositoryPattern {
    text.parse().unwrap_or_else(|why| panic!("{text:?} {why}"))
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

#[test]
fn patterns_match_as_in_doublestar() {
    for (text, matching, other) in [
        ("a", &["a"][..], &["b", "aa", "a/b", "b/a"][..]),
        ("a/*", &["a/b", "a/b-c"], &["a", "a/b/c", "b/a"]),
        ("a/**", &["a", "a/b", "a/b/c"], &["ab", "b/a", "b"]),
        ("**", &["a", "a/b", "a/b/c"], &[]),
        ("**/**", &["a", "a/b", "a/b/c"], &[]),
        ("**/c", &["c", "a/c", "a/b/c"], &["ac", "a/bc", "c/a"]),
        ("a/**/c", &["a/c", "a/b/c", "a/b/b/c"], &["a/bc", "ac", "a", "a/c/d"]),
        ("**/b/**", &["b", "a/b", "b/c", "a/b/c"], &["a/bb/c", "ab"]),
        ("**/*c", &["c", "bc", "a/bc", "a/b/c"], &["c/a", "bcb"]),
        ("**/*/c", &["a/c", "a/b/c"], &["c"]),
        ("*/b", &["a/b"], &["b", "a/a/b"]),
        ("a*", &["a", "ab", "a-b"], &["a/b", "b"]),
        ("a*b*c", &["abc", "axbxc", "abbcc"], &["ab", "ac", "acb"]),
        ("*a*a*", &["aa", "xaxax"], &["a", "xax"]),
        ("?b", &["ab"], &["b", "aab"]),
        ("[a-c]x", &["ax", "bx", "cx"], &["dx", "x"]),
        ("[!a]x", &["bx", "0x"], &["ax"]),
        ("[^a]x", &["bx"], &["ax"]),
        ("a[-_.]b", &["a-b", "a_b", "a.b"], &["aab"]),
        ("a[x-]b", &["a-b", "axb"], &["ayb"]),
        ("{a,b/c}/d", &["a/d", "b/c/d"], &["b/d", "c/d"]),
        ("a{,b}/c", &["a/c", "ab/c"], &["abb/c"]),
        ("a{b}{}", &["ab"], &["a"]),
        ("{a,b{c,d}}", &["a", "bc", "bd"], &["b", "c"]),
        ("{**,x}/y", &["y", "x/y", "a/b/y"], &["x"]),
        ("app-{dev,test}", &["app-dev", "app-test"], &["app-prod"]),
    ] {
        for matched in matching {
            assert!(pattern(text).matches(&name(matched)), "{text} does not match {matched}");
        }
        for unmatched in other {
            assert!(!pattern(text).matches(&name(unmatched)), "{text} matches {unmatched}");
        }
    }
}

#[test]
fn an_invalid_pattern_is_refused_with_the_reason() {
    use InvalidPattern as Why;
    let long = "a".repeat(PATTERN_LENGTH_MAX + 1);
    let deep = "{".repeat(DEPTH_MAX + 1);
    for (text, why) in [
        ("", Why::Empty),
        (&*long, Why::TooLong),
        ("!a", Why::Negated),
        ("a/{b", Why::UnclosedBrace),
        ("a/{b,{c}", Why::UnclosedBrace),
        ("a/[b", Why::UnclosedBracket),
        ("a/[", Why::UnclosedBracket),
        ("a}", Why::Unopened('}')),
        ("a]}", Why::Unopened(']')),
        ("[]", Why::EmptyClass),
        ("[!]", Why::EmptyClass),
        ("[z-a]", Why::EmptyClass),
        ("[/]", Why::EmptyClass),
        ("[A-Z]", Why::Character('A')),
        ("[{]", Why::Character('{')),
        ("a,b", Why::Character(',')),
        ("a/!b", Why::Character('!')),
        ("Team/**", Why::Character('T')),
        ("a b", Why::Character(' ')),
        ("a\\*", Why::Character('\\')),
        ("ä", Why::Character('ä')),
        ("/a", Why::EmptyPart),
        ("a/", Why::EmptyPart),
        ("a//b", Why::EmptyPart),
        ("/", Why::EmptyPart),
        ("{a,}", Why::EmptyPart),
        ("{a,b/}", Why::EmptyPart),
        ("a/team**", Why::DoubleStar),
        ("a/**b", Why::DoubleStar),
        ("a/***", Why::DoubleStar),
        ("**a/b", Why::DoubleStar),
        (".a", Why::NoName),
        ("a-", Why::NoName),
        ("a/_", Why::NoName),
        ("a..b", Why::NoName),
        ("a/[._-]", Why::NoName),
        ("a.*-/b", Why::NoName),
        (&"a".repeat(256), Why::NoName),
        (&deep, Why::TooManyAlternatives),
        ("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", Why::TooManyAlternatives),
    ] {
        assert_eq!(text.parse::<RepositoryPattern>(), Err(why), "{text}");
    }
}

/// One of them has 290 bytes and stands for 28^10 alternatives.
#[test]
fn no_pattern_is_expanded_beyond_the_limits() {
    let group = format!("{{{}}}", ",".repeat(27));
    for text in [
        group.repeat(10),
        format!("a{}", group.repeat(10)),
        format!("{}a", "{,".repeat(16)),
        format!("{}{}", "{a,".repeat(300), "}".repeat(300)),
        "{a,b,c,d}".repeat(100),
        format!("{{{}}}", ["a"; 65].join(",")),
        format!("{{{}}}/{}", ["a"; 64].join(","), "b".repeat(200)),
    ] {
        assert!(text.parse::<RepositoryPattern>().is_err(), "{text}");
    }
    let largest = format!("{{{}}}/{}", ["a"; 64].join(","), "b".repeat(13));
    assert_eq!(pattern(&largest).words.len(), WORDS_MAX);
}

/// Counts steps instead of seconds.
#[test]
fn a_comparison_takes_as_many_steps_as_the_name_has_characters_for_each_word() {
    let long = "a".repeat(NAME_LENGTH_MAX);
    let texts = [
        "*a".repeat(120) + "b",
        "**/*a*".to_owned() + &"a*".repeat(100) + "b",
        format!("{{{}}}", ["*a*a*a*a*a*b"; 64].join(",")),
        "?".repeat(255),
        "[a-z]".repeat(150),
        "**/".repeat(100) + "b",
        format!("{{{}}}/*", ["*"; 64].join(",")),
    ];
    for text in texts {
        let pattern = pattern(&text);
        for name in [&long, &"a/".repeat(127), &"b".repeat(255)] {
            let (_, steps) = pattern.matches_in_steps(name);
            assert!(steps <= pattern.words.len() * NAME_LENGTH_MAX, "{text} takes {steps} steps");
            assert!(steps <= 4080, "{text} takes {steps} steps");
        }
    }
    // A name that begins differently is refused at its first character.
    assert_eq!(pattern("team/*/x").matches_in_steps("alice/app").1, 1);
}

/// A simple implementation: expands alternatives, and tries all lengths for stars.
mod plain {
    pub(super) fn matches(pattern: &str, name: &str) -> bool {
        alternatives(pattern).iter().any(|alternative| {
            let (parts, names) = (alternative.split('/').collect::<Vec<_>>(), name.split('/').collect::<Vec<_>>());
            in_parts(&parts, &names)
        })
    }

    fn alternatives(pattern: &str) -> Vec<String> {
        let Some(close) = pattern.find('}') else { return vec![pattern.to_owned()] };
        let open = pattern[..close].rfind('{').unwrap();
        let choices = pattern[open + 1..close].split(',');
        choices
            .flat_map(|choice| alternatives(&format!("{}{choice}{}", &pattern[..open], &pattern[close + 1..])))
            .collect()
    }

    fn in_parts(pattern: &[&str], names: &[&str]) -> bool {
        match pattern {
            [] => names.is_empty(),
            ["**", rest @ ..] => (0..=names.len()).any(|skipped| in_parts(rest, &names[skipped..])),
            [part, rest @ ..] => {
                let Some((name, names)) = names.split_first() else { return false };
                in_part(part.as_bytes(), name.as_bytes()) && in_parts(rest, names)
            }
        }
    }

    fn in_part(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], _) => name.is_empty(),
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|skipped| in_part(rest, &name[skipped..])),
            ([b'[', rest @ ..], [first, names @ ..]) => {
                let end = rest.iter().position(|byte| *byte == b']').unwrap();
                rest[..end].contains(first) && in_part(&rest[end + 1..], names)
            }
            ([b'?', rest @ ..], [_, names @ ..]) => in_part(rest, names),
            ([one, rest @ ..], [first, names @ ..]) => one == first && in_part(rest, names),
            (_, []) => false,
        }
    }
}

/// Patterns of a few elements, most of which can match a name of a few letters.
fn patterns() -> impl Strategy<Value = String> {
    let letters = prop::sample::select(vec!["a", "b", "ab", "*", "?", "[ab]", "a*", "*b", "-", ""]);
    let leaf = prop::sample::select(vec!["a", "b", "*", "**", "?", "[ab]", "a*", "b?"]).prop_map(str::to_owned);
    let choice = (leaf.clone(), letters.clone(), letters)
        .prop_map(|(one, two, three)| if one == "**" { one } else { format!("{one}{{{two},{three}}}") });
    let part = prop_oneof![3 => leaf.clone(), 1 => choice, 1 => (leaf.clone(), leaf).prop_map(|(a, b)| format!("{{{a},{b}/a}}"))];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn names() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "ab", "ba", "aab", "a-b", "abb"]);
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_pattern_matches_as_the_simple_implementation_does(text in patterns(), of in names()) {
        if let Ok(pattern) = text.parse::<RepositoryPattern>() {
            prop_assert_eq!(pattern.matches(&name(&of)), plain::matches(&text, &of), "{} on {}", text, of);
            for (beginning, ending) in pattern.literal_ends() {
                if pattern.alternatives.len() == 1 && pattern.matches(&name(&of)) {
                    prop_assert!(of.starts_with(&beginning) && of.ends_with(&ending), "{} on {}", text, of);
                }
            }
            for sample in pattern.samples() {
                prop_assert!(plain::matches(&text, sample.as_str()));
            }
        }
    }

    #[test]
    fn a_common_name_is_found_where_there_is_one(one in patterns(), two in patterns(), of in names()) {
        if let (Ok(one), Ok(two)) = (one.parse::<RepositoryPattern>(), two.parse::<RepositoryPattern>()) {
            let of = name(&of);
            match one.common_name(&two, &mut 2000) {
                CommonName::Name(name) => prop_assert!(one.matches(&name) && two.matches(&name)),
                CommonName::Nothing => prop_assert!(!(one.matches(&of) && two.matches(&of))),
                CommonName::Unknown => {}
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ab/*?{},!^\\[\\]-]{0,40}", of in names()) {
        if let Ok(pattern) = text.parse::<RepositoryPattern>() {
            let (matches, steps) = pattern.matches_in_steps(&of);
            prop_assert!(steps <= pattern.words.len() * of.len());
            prop_assert_eq!(matches, pattern.matches(&name(&of)));
        }
    }
}

#[test]
fn the_shortest_common_name_is_found() {
    for (one, two, expected) in [
        ("**", "alice/*/**", Some("alice/a")),
        ("repo1", "alice/*/**", None),
        ("alice/app", "alice/*/**", Some("alice/app")),
        ("a*", "*b", Some("ab")),
        ("a/*", "**/b", Some("a/b")),
        ("[a-c]/x", "[d-f]/x", None),
        ("a-?*", "a--b", Some("a--b")),
        ("*a*a*a*a*a*a*b", "*b*b*b*b*b*a", None),
    ] {
        let found = pattern(one).common_name(&pattern(two), &mut 2000);
        let expected = expected.map_or(CommonName::Nothing, |text| CommonName::Name(name(text)));
        assert_eq!(found, expected, "{one} and {two}");
    }
    assert_eq!(pattern("a{,b}/c").literals(), Some(vec![name("a/c"), name("ab/c")]));
    assert_eq!(pattern("a/**").literals(), None);
}
