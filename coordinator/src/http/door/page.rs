//! How many of a list one answer has.

use lull_shared::bound::Bound;

use crate::{
    http::door::error::{Answer, Refused},
    submit,
};

/// As many as were asked for. More than one answer has is refused, and not cut down in silence: whoever takes a part for the
/// whole never asks for the rest.
pub fn page(asked: Option<u32>, default: u32, bound: Bound) -> Answer<u32> {
    match asked {
        None => Ok(default),
        Some(limit) if bound.check(limit.into()).is_ok() => Ok(limit),
        Some(limit) => Err(Refused::field("limit", &submit::outside(limit.into(), bound, "limit"))),
    }
}

#[cfg(test)]
mod tests {
    use lull_shared::bound;

    use super::*;

    #[test]
    fn a_page_is_as_large_as_was_asked_for_or_refused_with_its_bound() {
        let size = |asked| page(asked, 100, bound::JOBS_SHOWN).map_err(|refused| refused.into_parts());
        assert_eq!((size(None), size(Some(1)), size(Some(1_000))), (Ok(100), Ok(1), Ok(1_000)));
        let (status, detail) = size(Some(0)).expect_err("nothing is no page");
        assert_eq!((status, detail.message.as_str()), (400, "`limit`: `0` is less than 1"));
        let (status, detail) = size(Some(1_001)).expect_err("too many");
        assert_eq!((status, detail.message.as_str()), (400, "`limit`: `1,001` is more than 1,000"));
        assert_eq!(detail.hint.as_deref(), Some("give `limit` from 1 to 1000"));
    }
}
