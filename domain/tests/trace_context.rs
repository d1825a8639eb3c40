//! Tests which texts are accepted as a `traceparent`.

use domain::trace_context::TraceContext;
use proptest::prelude::*;

const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_traceparent_is_parsed_and_formatted_without_loss() {
    let read = TraceContext::parse(SENT).expect("it is the example of the standard");
    assert_eq!(read.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!((read.span_id, read.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
    assert_eq!(read.to_string(), SENT);
}

#[test]
fn of_a_later_version_the_known_fields_are_kept() {
    let later = SENT.replacen("00", "cc", 1);
    for sent in [later.clone(), format!("{later}-and more")] {
        let read = TraceContext::parse(&sent).expect("later versions begin as this one");
        assert_eq!(read.to_string(), SENT);
    }
    // Unknown flags are not passed on.
    let flags = format!("{}fe", &SENT[..53]);
    assert_eq!(TraceContext::parse(&flags).map(|read| read.to_string()), Some(format!("{}00", &SENT[..53])));
}

#[test]
fn other_text_is_not_a_traceparent() {
    for sent in [
        "",
        &SENT[..54],
        &SENT.to_uppercase(),
        &SENT.replacen("00", "ff", 1),
        &format!("{SENT}-more"),
        &format!("{SENT}0"),
        &SENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        &SENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
        &SENT.replace('-', "_"),
        &SENT.replacen("4bf9", "4b-9", 1),
        &SENT.replacen("4bf9", "+bf9", 1),
        &SENT.replacen("4bf9", "é99", 1),
    ] {
        assert_eq!(TraceContext::parse(sent), None, "{sent}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_and_a_formatted_context_is_parsed(text in ".{0,70}", trace_id in 1_u128.., span_id in 1_u64.., is_sampled: bool) {
        let _any = TraceContext::parse(&text);
        let context = TraceContext { trace_id, span_id, is_sampled };
        prop_assert_eq!(context.to_string().len(), 55);
        prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
    }
}
