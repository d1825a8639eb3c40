//! Tests cursors: they are exact, valid for one user only, and no other text is one.

use domain::cursor::Cursor;
use proptest::prelude::*;
use uuid::Uuid;

const USER: Uuid = Uuid::from_u128(7);
const PLAIN: Cursor = Cursor { generation: 0, epoch: 3, seq: 42, bootstrap_head: None };
const BOOTSTRAP: Cursor = Cursor { generation: 5, epoch: 3, seq: 42, bootstrap_head: Some(42) };

fn any_cursor() -> impl Strategy<Value = Cursor> {
    let generation = prop_oneof![Just(0), any::<i64>()];
    (generation, any::<i64>(), any::<i64>(), any::<Option<i64>>()).prop_map(
        |(generation, epoch, seq, bootstrap_head)| Cursor { generation, epoch, seq, bootstrap_head },
    )
}

#[test]
fn other_text_is_not_a_cursor() {
    let plain = PLAIN.encode(USER);
    let longer = "A".repeat(65);
    let huge = "A".repeat(1 << 20);
    let padded = format!("{plain}=");
    let spaced = format!("{plain} ");
    let cut = &plain[..plain.len() - 1];
    let twice = format!("{plain}{plain}");
    for text in ["", "A", "AAAA", "null", "é", "\0", &longer, &huge, &padded, &spaced, cut, &twice] {
        assert_eq!(Cursor::decode(USER, text), None, "{text:?}");
    }
    assert_eq!(Cursor::decode(USER, &plain), Some(PLAIN));
}

/// Clients may still have cursors from before generations existed.
#[test]
fn a_cursor_of_generation_0_has_its_former_text() {
    assert_eq!(PLAIN.encode(USER), "AQAAAAAAAAADAAAAAAAAACoqGbX9pzKsDg");
}

#[test]
fn a_bootstrap_cursor_differs_from_the_plain_one_of_the_same_position() {
    assert_ne!(PLAIN.encode(USER), BOOTSTRAP.encode(USER));
    assert_eq!(Cursor::decode(USER, &BOOTSTRAP.encode(USER)), Some(BOOTSTRAP));
}

#[test]
fn a_cursor_needs_no_escaping_in_a_url() {
    for cursor in [PLAIN, BOOTSTRAP, Cursor { generation: -1, epoch: -1, seq: -1, bootstrap_head: Some(-1) }]
    {
        let text = cursor.encode(USER);
        assert!(
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'),
            "{text}"
        );
    }
}

#[test]
fn a_cursor_with_a_changed_byte_is_invalid() {
    for cursor in [PLAIN, BOOTSTRAP] {
        let text = cursor.encode(USER);
        for at in 0..text.len() {
            for byte in 0..128_u8 {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] == byte {
                    continue;
                }
                bytes[at] = byte;
                let changed = String::from_utf8(bytes).expect("ASCII");
                assert_eq!(Cursor::decode(USER, &changed), None, "{changed:?} for {text:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn a_cursor_is_decoded_as_it_was_encoded(cursor in any_cursor(), user in any::<u128>()) {
        let user = Uuid::from_u128(user);
        let text = cursor.encode(user);
        prop_assert_eq!(cursor.encode(user), text.clone());
        prop_assert_eq!(Cursor::decode(user, &text), Some(cursor));
    }

    #[test]
    fn equal_texts_are_equal_cursors(one in any_cursor(), other in any_cursor()) {
        prop_assert_eq!(one == other, one.encode(USER) == other.encode(USER));
    }

    #[test]
    fn the_cursor_of_another_user_is_invalid(cursor in any_cursor(), user in any::<u128>(), bit in 0_u32..128) {
        let text = cursor.encode(Uuid::from_u128(user));
        prop_assert_eq!(Cursor::decode(Uuid::from_u128(user ^ (1 << bit)), &text), None);
    }

    #[test]
    fn no_text_makes_the_decoder_panic(text in "[A-Za-z0-9_-]{0,70}|.*") {
        prop_assert_eq!(Cursor::decode(USER, &text), None);
    }
}
