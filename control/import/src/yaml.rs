//! Values of the policy file and how they are written: maps and lists in flow style, text quoted where YAML would read it
//! as something else.

use std::fmt;

/// A value of the policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A word, a number, an address, any text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map, in this order.
    Map(Vec<(&'static str, Value)>),
}

impl Value {
    /// Text.
    pub(crate) fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// A map of one key, as most actions are.
    pub(crate) fn of(key: &'static str, value: Value) -> Value {
        Value::Map(vec![(key, value)])
    }

    /// One value as itself, several as a list.
    pub(crate) fn values(mut list: Vec<String>) -> Value {
        match (list.pop(), list.is_empty()) {
            (Some(only), true) => Value::Text(only),
            (last, _) => Value::List(list.into_iter().chain(last).map(Value::Text).collect()),
        }
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Text(number.to_string())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&scalar(text)),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Map(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
        }
    }
}

/// Text as YAML has it inside of a flow: bare if that cannot be misread.
pub(crate) fn scalar(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_' | '+' | ' ');
    let first = text.chars().next();
    let starts_well = first.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_'));
    if starts_well && text.chars().all(bare) && !text.ends_with(' ') {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_where_it_must_be() {
        let cases = [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "\"2001:db8::/32\""),
            ("@mgmt", "\"@mgmt\""),
            ("6881-6889", "6881-6889"),
            ("syn/fin,syn", "\"syn/fin,syn\""),
            ("[UFW BLOCK] ", "\"[UFW BLOCK] \""),
            ("say \"hi\"", "\"say \\\"hi\\\"\""),
            ("two\nlines", "\"two lines\""),
            ("", "\"\""),
        ];
        for (text, expected) in cases {
            assert_eq!(scalar(text), expected);
        }
    }
}
