//! Parts of long lists. A token names the last item of its page, so pages stay right when items come and go.

use vaylix_admin_proto::v1::PageRequest;

use crate::caps::{PAGE_DEFAULT, PAGE_MAX};

/// The items of a page, and where the next one begins; empty behind the last.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_token: String,
}

/// The page that `wanted` asks for, of items in ascending order of their names, which differ.
pub(crate) fn page<T>(items: Vec<T>, name: impl Fn(&T) -> &str, wanted: Option<PageRequest>) -> Page<T> {
    let PageRequest { size, token } = wanted.unwrap_or_default();
    let size = match usize::try_from(size).unwrap_or(PAGE_MAX) {
        0 => PAGE_DEFAULT,
        size => size.min(PAGE_MAX),
    };
    let mut rest = items.into_iter().filter(|item| token.is_empty() || name(item) > token.as_str());
    let items: Vec<T> = rest.by_ref().take(size).collect();
    let next_token = match (rest.next(), items.last()) {
        (Some(_more), Some(last)) => name(last).to_owned(),
        _ => String::new(),
    };
    Page { items, next_token }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(size: u32, token: &str) -> (Vec<&'static str>, String) {
        let wanted = PageRequest { size, token: token.to_owned() };
        let page = page(vec!["a", "b", "c", "d"], |item| item, Some(wanted));
        (page.items, page.next_token)
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        assert_eq!(get(2, ""), (vec!["a", "b"], "b".to_owned()));
        assert_eq!(get(2, "b"), (vec!["c", "d"], String::new()));
        assert_eq!(get(0, ""), (vec!["a", "b", "c", "d"], String::new()));
        assert_eq!(
            get(u32::MAX, "bb"),
            (vec!["c", "d"], String::new()),
            "an item that is gone still has a place"
        );
        assert_eq!(get(1, "z"), (vec![], String::new()));
    }
}
