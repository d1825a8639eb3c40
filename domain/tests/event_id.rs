//! Tests ids: which texts are ids, which ids a create accepts, and when to retry.

use domain::event_id::{
    check_new_id, compose_uuid_v7, derive_id, is_v7, make_future_id_problem_retryable, parse, retry_after_ms,
    time_ms,
};
use domain::problem::{Code, Problem};
use proptest::prelude::*;
use uuid::Uuid;

const NOW_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;
const USER: Uuid = Uuid::from_u128(1);

fn code(id: Uuid, is_time_checked: bool) -> Option<Code> {
    check_new_id(id, NOW_MS, is_time_checked).err().map(|problem| problem.code)
}

fn id_ahead(ms: i64) -> Uuid {
    compose_uuid_v7(NOW_MS + ms, [0xab; 10])
}

fn uuid(text: &str) -> Uuid {
    parse(text).expect("the table holds ids")
}

#[test]
fn only_the_hyphenated_form_is_an_id_in_either_case() {
    let table = [
        ("01900000-0000-7000-8000-0000000000ab", true),
        ("01900000-0000-7000-8000-0000000000AB", true),
        ("01900000-0000-7000-8000-0000000000aB", true),
        ("00000000-0000-0000-0000-000000000000", true),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", true),
        ("", false),
        ("0190000000007000800000000000000ab", false),
        ("019000000000700080000000000000ab", false),
        ("{01900000-0000-7000-8000-0000000000ab}", false),
        ("urn:uuid:01900000-0000-7000-8000-0000000000ab", false),
        (" 01900000-0000-7000-8000-0000000000ab", false),
        ("01900000-0000-7000-8000-0000000000ab ", false),
        ("01900000-0000-7000-8000-0000000000a ", false),
        ("01900000-0000-7000-8000-0000000000ab\n", false),
        ("01900000-0000-7000-8000-0000000000a", false),
        ("01900000-0000-7000-8000-0000000000abc", false),
        ("01900000-0000-7000-8000-0000000000ag", false),
        ("019000000-000-7000-8000-0000000000ab", false),
        ("01900000_0000_7000_8000_0000000000ab", false),
        ("01900000-0000-7000-8000+0000000000ab", false),
        ("01900000-0000-7000-80000-000000000ab", false),
        ("01900000-0000-7000-8000-0000000000é", false),
        ("０1900000-0000-7000-8000-0000000000", false),
    ];
    for (text, is_id) in table {
        assert_eq!(parse(text).is_some(), is_id, "{text:?}");
    }
}

#[test]
fn an_upper_case_id_is_the_same_and_is_formatted_in_lower_case() {
    let id = uuid("01900000-0000-7ABC-8DEF-0000000000AB");
    assert_eq!(id, uuid("01900000-0000-7abc-8def-0000000000ab"));
    assert_eq!(id.to_string(), "01900000-0000-7abc-8def-0000000000ab");
}

#[test]
fn version_and_variant_are_both_checked() {
    for version in 0..16_u128 {
        for variant in 0..16_u128 {
            let id = Uuid::from_u128((0x0190_0000_0000 << 80) | (version << 76) | (variant << 60) | 5);
            let is_valid = version == 7 && variant >> 2 == 0b10;
            assert_eq!(is_v7(id), is_valid, "{id}");
            assert_eq!(code(id, true), (!is_valid).then_some(Code::NotUuidV7), "{id}");
            assert_eq!(code(id, false), (!is_valid).then_some(Code::NotUuidV7), "{id}");
        }
    }
}

#[test]
fn an_id_may_be_a_minute_ahead_and_not_a_millisecond_more() {
    let table = [
        (-NOW_MS, None),
        (-1, None),
        (0, None),
        (59_999, None),
        (60_000, None),
        (60_001, Some(Code::IdInFuture)),
        (DAY_MS, Some(Code::IdInFuture)),
        ((1 << 48) - 1 - NOW_MS, Some(Code::IdInFuture)),
    ];
    for (ms, expected) in table {
        assert_eq!(code(id_ahead(ms), true), expected, "{ms} ms ahead");
        assert_eq!(code(id_ahead(ms), false), None, "{ms} ms ahead, in an import");
    }
}

#[test]
fn the_problem_of_an_id_points_at_its_field() {
    for id in [id_ahead(60_001), Uuid::from_u128(0)] {
        assert_eq!(check_new_id(id, NOW_MS, true).map_err(|problem| problem.pointer), Err("/id".to_owned()));
    }
}

#[test]
fn an_id_in_the_future_is_retryable_up_to_a_day() {
    let table = [
        (60_001, Some(1)),
        (120_000, Some(60_000)),
        (DAY_MS - 1, Some(DAY_MS - 60_001)),
        (DAY_MS, Some(DAY_MS - 60_000)),
        (DAY_MS + 1, None),
        (1000 * DAY_MS, None),
    ];
    for (ms, expected) in table {
        assert_eq!(retry_after_ms(id_ahead(ms), NOW_MS), expected, "{ms} ms ahead");
        let mut problem = Problem::from_field_problems(vec![
            check_new_id(id_ahead(ms), NOW_MS, true).expect_err("an id ahead"),
        ]);
        make_future_id_problem_retryable(&mut problem, id_ahead(ms), NOW_MS);
        assert_eq!((problem.retryable, problem.retry_after_ms), (expected.is_some(), expected));
    }
}

#[test]
fn after_the_retry_time_the_id_is_accepted() {
    let id = id_ahead(DAY_MS);
    let wait_ms = retry_after_ms(id, NOW_MS).expect("within a day");
    assert!(check_new_id(id, NOW_MS + wait_ms - 1, true).is_err());
    assert_eq!(check_new_id(id, NOW_MS + wait_ms, true), Ok(()));
}

#[test]
fn other_problems_are_not_made_retryable() {
    let mut problem =
        Problem::from_field_problems(vec![check_new_id(Uuid::nil(), NOW_MS, true).expect_err("not v7")]);
    make_future_id_problem_retryable(&mut problem, id_ahead(70_000), NOW_MS);
    assert_eq!((problem.retryable, problem.retry_after_ms), (false, None));
}

#[test]
fn a_composed_id_equals_the_example_of_the_rfc() {
    // RFC 9562, appendix A.6.
    let tail = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
    let id = compose_uuid_v7(0x017f_22e2_79b0, tail);
    assert_eq!(id.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
}

#[test]
fn a_time_outside_48_bits_is_clamped() {
    for (ms, expected) in
        [(i64::MIN, 0), (-1, 0), (0, 0), (1 << 48, (1 << 48) - 1), (i64::MAX, (1 << 48) - 1)]
    {
        assert_eq!(time_ms(compose_uuid_v7(ms, [0xff; 10])), expected, "{ms}");
    }
}

proptest! {
    #[test]
    fn a_formatted_id_is_parsed_as_the_same(bits in any::<u128>()) {
        let id = Uuid::from_u128(bits);
        prop_assert_eq!(parse(&id.to_string()), Some(id));
        prop_assert_eq!(parse(&id.to_string().to_uppercase()), Some(id));
        for other in [id.simple().to_string(), id.braced().to_string(), id.urn().to_string()] {
            prop_assert_eq!(parse(&other), None);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_only_36_bytes_are_an_id(text in ".*") {
        if parse(&text).is_some() {
            prop_assert_eq!(text.len(), 36);
        }
    }

    #[test]
    fn a_composed_id_is_a_v7_of_its_time(ms in 0_i64..1 << 48, tail in any::<[u8; 10]>()) {
        let id = compose_uuid_v7(ms, tail);
        prop_assert!(is_v7(id));
        prop_assert_eq!(time_ms(id), ms);
        prop_assert_eq!(compose_uuid_v7(ms, tail), id);
        prop_assert_eq!(parse(&id.to_string()), Some(id));
    }

    #[test]
    fn a_derived_id_depends_only_on_user_time_and_content(
        ms in any::<i64>(), content in any::<[u8; 32]>(), at in 0_usize..32,
    ) {
        let id = derive_id(USER, ms, &content);
        prop_assert!(is_v7(id));
        prop_assert_eq!(time_ms(id), ms.clamp(0, (1 << 48) - 1));
        prop_assert_eq!(derive_id(USER, ms, &content), id);
        prop_assert_ne!(derive_id(Uuid::from_u128(2), ms, &content), id);
        let mut other = content;
        other[at] ^= 1;
        prop_assert_ne!(derive_id(USER, ms, &other), id);
    }
}
