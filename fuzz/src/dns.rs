//! Texts of lists of nodes in DNS.

use tercet_discovery::dns::{EntryHash, MAX_TEXT, TreeEntry, TreeRoot, TreeUrl};

/// A text from a TXT record: a root or an entry. What is accepted is written again as the same text, but for the unused
/// bits of a key and the case of a domain.
pub fn dns_entry(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    if let Ok(root) = text.parse::<TreeRoot>() {
        assert_eq!(root.to_string(), text);
        return true;
    }
    let Ok(entry) = text.parse::<TreeEntry>() else {
        return false;
    };
    assert!(text.len() <= MAX_TEXT);
    let written = entry.to_string();
    match &entry {
        TreeEntry::Link(url) => assert_eq!(written.parse::<TreeUrl>().as_ref(), Ok(url)),
        _ => assert_eq!(written, text),
    }
    assert!(EntryHash::of(text).matches(text));
    true
}
