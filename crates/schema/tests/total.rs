//! Any bytes give an edit or a typed rejection, never a panic.

use proptest::prelude::*;
use schema::Mapping;

fn edits() -> Mapping {
    Mapping::new(&["edit".to_owned()])
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = edits().enrich(&bytes);
        let _ = schema::event::read(&bytes);
        let _ = schema::Edit::from_json(&bytes);
    }

    #[test]
    fn any_text_in_the_fields_survives_the_round_trip(title in ".*", user in ".*", comment in ".*", id in any::<i64>()) {
        let value = serde_json::json!({
            "meta": {"id": "e", "domain": "d", "dt": "t"}, "namespace": 1, "wiki": "w", "type": "edit",
            "title": title, "user": user, "comment": comment, "id": id,
        });
        let value = value.to_string();
        let mapped = edits().enrich(value.as_bytes()).unwrap();
        let edit = mapped.expect("an edit");
        prop_assert_eq!(&edit.title, &title);
        prop_assert_eq!(edit.id, Some(id));
        let has_nul = [&title, &user, &comment].iter().any(|text| text.contains('\0'));
        let json = edit.to_json();
        match schema::Edit::from_json(&json) {
            Ok(again) => prop_assert_eq!(again, edit),
            Err(rejection) => prop_assert!(has_nul, "{}", rejection),
        }
    }

    #[test]
    fn a_cut_event_is_rejected_not_misread(cut in 1_usize..200) {
        let whole = r#"{"meta":{"id":"e1","domain":"d","dt":"t"},"id":5,"type":"edit","namespace":0,"title":"Ж","wiki":"w","bot":true,"length":{"old":1,"new":2},"user":"u","comment":"c"}"#;
        let cut = cut.min(whole.len() - 1);
        prop_assert!(edits().enrich(&whole.as_bytes()[..cut]).is_err());
    }
}
