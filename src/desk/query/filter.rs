//! The grammar of filters.
//!
//! ```text
//! filter    = [ condition { "and" condition } ]
//! condition = field operator value
//!           | "has" [ "no" ] ( "feedback" | "ground" "truth" | field )
//! operator  = "is" | "is" "not" | "contains" | "=" | "!=" | "<" | "<=" | ">" | ">="
//! field     = word | quoted
//! value     = word | quoted
//! quoted    = a JSON string
//! word      = anything without white space, quotes and < > = !
//! ```
//!
//! A bare value fits every type it can be read as: `5` is the number and the text. A quoted one is
//! text. `contains` takes no notice of case.

use std::fmt;
use std::iter::Peekable;
use std::str::FromStr;

use super::datum::Datum;

/// The longest text that is read, in bytes.
const LONGEST: usize = 8 << 10;
/// How many conditions there may be.
const MOST_CONDITIONS: usize = 32;

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    pub(crate) conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// What a field holds.
    Compare { field: String, operator: Operator, value: Operand },
    /// Whether there is something at all.
    Has { subject: Subject, negated: bool },
}

/// What there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Feedback,
    GroundTruth,
    Field(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Is,
    IsNot,
    Contains,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a field is compared with, read in every way it can be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operand {
    text: String,
    lower: String,
    boolean: Option<bool>,
    int: Option<i64>,
    number: Option<f64>,
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter: {0}")]
pub(crate) struct FilterError(String);

impl Operand {
    pub(crate) fn new(text: &str, is_quoted: bool) -> Self {
        let bare = (!is_quoted).then_some(text);
        Self {
            text: text.to_owned(),
            lower: text.to_lowercase(),
            boolean: bare.and_then(|text| text.parse().ok()),
            int: bare.and_then(|text| text.parse().ok()),
            number: bare.and_then(|text| text.parse().ok()).filter(|number: &f64| !number.is_nan()),
        }
    }
}

impl Operand {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text in lower case.
    pub(crate) fn lower(&self) -> &str {
        &self.lower
    }

    /// As a bool, if it can be one.
    pub(crate) fn boolean(&self) -> Option<bool> {
        self.boolean
    }

    /// As a number, if it can be one.
    pub(crate) fn number(&self) -> Option<f64> {
        self.number
    }
}

impl Operator {
    /// Whether a value fits. `IsNot` is told by its caller: it holds where `Is` holds nowhere.
    pub(crate) fn fits(self, value: Datum<'_>, operand: &Operand) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match value {
            Datum::Bool(value) if matches!(self, Self::Is | Self::IsNot) => {
                operand.boolean.map(|boolean| value.cmp(&boolean))
            }
            Datum::Bool(_) => None,
            Datum::Int(value) => match (operand.int, operand.number) {
                (Some(int), _) => Some(value.cmp(&int)),
                (None, number) => number.and_then(|number| (value as f64).partial_cmp(&number)),
            },
            Datum::Double(value) => operand.number.and_then(|number| value.partial_cmp(&number)),
            Datum::Text(text) | Datum::Other(text) => Some(text.cmp(operand.text.as_str())),
        };
        match self {
            Self::Is | Self::IsNot => order == Some(Equal),
            Self::Less => order == Some(Less),
            Self::LessOrEqual => matches!(order, Some(Less | Equal)),
            Self::Greater => order == Some(Greater),
            Self::GreaterOrEqual => matches!(order, Some(Greater | Equal)),
            Self::Contains => match value {
                Datum::Text(text) | Datum::Other(text) => contains(text, &operand.lower),
                other => contains(&other.text(), &operand.lower),
            },
        }
    }
}

/// Whether a text contains another that is in lower case, whatever its own case.
pub(crate) fn contains(text: &str, lower: &str) -> bool {
    if lower.is_empty() {
        return true;
    }
    if text.is_ascii() {
        // Nothing is copied: there may be a million texts.
        let (text, lower) = (text.as_bytes(), lower.as_bytes());
        return text.windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower));
    }
    text.to_lowercase().contains(lower)
}

impl Filter {
    /// Both must hold.
    pub(crate) fn and(mut self, other: Self) -> Result<Self, FilterError> {
        self.conditions.extend(other.conditions);
        if self.conditions.len() > MOST_CONDITIONS {
            return Err(FilterError(format!("more than {MOST_CONDITIONS} conditions")));
        }
        Ok(self)
    }

    /// That a field is exactly this text.
    pub(crate) fn is(field: &str, text: &str) -> Self {
        let (field, value) = (field.to_owned(), Operand::new(text, true));
        Self { conditions: vec![Condition::Compare { field, operator: Operator::Is, value }] }
    }

    /// Without the conditions on one field.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.conditions.retain(|condition| match condition {
            Condition::Compare { field, .. } => field != name,
            Condition::Has { .. } => true,
        });
        self
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > LONGEST {
            return Err(FilterError(format!("longer than {LONGEST} bytes")));
        }
        let tokens = tokens(text)?;
        let mut tokens = tokens.iter().peekable();
        let mut filter = Self::default();
        if tokens.peek().is_none() {
            return Ok(filter);
        }
        loop {
            let one = Self { conditions: vec![condition(&mut tokens)?] };
            filter = filter.and(one)?;
            match tokens.next() {
                None => return Ok(filter),
                Some(token) if token.is("and") => {}
                Some(token) => return Err(FilterError(format!("expected `and` before {token}"))),
            }
        }
    }
}

/// As it is read again.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, condition) in self.conditions.iter().enumerate() {
            write!(f, "{}{condition}", if at == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compare { field, operator, value } => {
                let operator = match operator {
                    Operator::Is => "is",
                    Operator::IsNot => "is not",
                    Operator::Contains => "contains",
                    Operator::Less => "<",
                    Operator::LessOrEqual => "<=",
                    Operator::Greater => ">",
                    Operator::GreaterOrEqual => ">=",
                };
                write!(f, "{} {operator} ", Name(field))?;
                let is_not = value.text.eq_ignore_ascii_case("not"); // which `is` would take for its own
                if is_word(&value.text) && !is_not && Operand::new(&value.text, false) == *value {
                    f.write_str(&value.text)
                } else {
                    quote(f, &value.text)
                }
            }
            Self::Has { subject, negated } => {
                f.write_str(if *negated { "has no " } else { "has " })?;
                match subject {
                    Subject::Feedback => f.write_str("feedback"),
                    Subject::GroundTruth => f.write_str("ground truth"),
                    Subject::Field(field) => write!(f, "{}", Name(field)),
                }
            }
        }
    }
}

/// A field, quoted where it would be read as something else.
struct Name<'n>(&'n str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_keyword = ["has", "no", "feedback", "ground"]
            .iter()
            .any(|word| self.0.eq_ignore_ascii_case(word));
        if is_word(self.0) && !is_keyword { f.write_str(self.0) } else { quote(f, self.0) }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "{}", serde_json::Value::from(text))
}

#[derive(Debug)]
enum Token {
    Word(String),
    Quoted(String),
    Symbol(&'static str),
}

impl Token {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Quoted(text) => write!(f, "`{text}`"),
            Self::Symbol(symbol) => write!(f, "`{symbol}`"),
        }
    }
}

fn is_end_of_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '<' | '>' | '=' | '!')
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(is_end_of_word)
}

fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' {
            let length = quoted_length(rest);
            let quoted = serde_json::from_str(&rest[..length])
                .map_err(|_| FilterError(format!("a quoted text is not one: {rest}")))?;
            tokens.push(Token::Quoted(quoted));
            length
        } else if let Some(symbol) =
            ["<=", ">=", "!=", "<", ">", "="].into_iter().find(|symbol| rest.starts_with(symbol))
        {
            tokens.push(Token::Symbol(symbol));
            symbol.len()
        } else {
            let length = rest.find(is_end_of_word).unwrap_or(rest.len());
            if length == 0 {
                return Err(FilterError("a lone `!`".to_owned()));
            }
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// How many bytes the quoted text at the beginning takes, its quotes included.
fn quoted_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn condition<'t>(
    tokens: &mut Peekable<impl Iterator<Item = &'t Token> + Clone>,
) -> Result<Condition, FilterError> {
    let missing = |what: &str| FilterError(format!("it ends where {what} should be"));
    let first = tokens.next().ok_or_else(|| missing("a condition"))?;
    let is_operator = |token: Option<&&Token>| {
        token.is_some_and(|token| {
            matches!(token, Token::Symbol(_)) || token.is("is") || token.is("contains")
        })
    };
    // A field may be called `has`: then an operator follows.
    if first.is("has") && !is_operator(tokens.peek()) {
        let negated = tokens.next_if(|token| token.is("no")).is_some();
        let subject = match tokens.next().ok_or_else(|| missing("what it has"))? {
            token if token.is("feedback") => Subject::Feedback,
            token if token.is("ground_truth") => Subject::GroundTruth,
            token if token.is("ground") => match tokens.next() {
                Some(token) if token.is("truth") => Subject::GroundTruth,
                _ => return Err(FilterError("expected `truth` after `ground`".to_owned())),
            },
            Token::Word(field) | Token::Quoted(field) => Subject::Field(field.clone()),
            token => return Err(FilterError(format!("expected a field, found {token}"))),
        };
        return Ok(Condition::Has { subject, negated });
    }
    let field = match first {
        Token::Word(field) | Token::Quoted(field) => field.clone(),
        token => return Err(FilterError(format!("expected a field, found {token}"))),
    };
    let operator = match tokens.next().ok_or_else(|| missing("an operator"))? {
        token if token.is("is") => {
            let is_not = tokens.next_if(|token| token.is("not")).is_some();
            if is_not { Operator::IsNot } else { Operator::Is }
        }
        token if token.is("contains") => Operator::Contains,
        Token::Symbol(symbol) => match *symbol {
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            "!=" => Operator::IsNot,
            _ => Operator::Is,
        },
        token => {
            return Err(FilterError(format!(
                "expected `is`, `is not`, `contains`, `<`, `<=`, `>` or `>=` after `{field}`, \
                 found {token}"
            )));
        }
    };
    let value = match tokens.next().ok_or_else(|| missing("a value"))? {
        Token::Word(text) => Operand::new(text, false),
        Token::Quoted(text) => Operand::new(text, true),
        token => return Err(FilterError(format!("expected a value, found {token}"))),
    };
    Ok(Condition::Compare { field, operator, value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        match text.parse::<Filter>() {
            Ok(filter) => filter.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn conditions_are_read_as_they_are_written() {
        for text in [
            "feedback.rating is false",
            "feedback.rating is not 5 and service.name is chat",
            r#"feedback.comment contains "New York""#,
            "feedback.stars >= 4 and feedback.stars < 4.5",
            "has no feedback",
            "has ground truth and has no feedback.edits.0.value",
            r#""feedback" is x"#,
            r#"name is "not""#,
            r#"name is "NOT" and name is "5""#,
            "",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("a.b=1 AND a.c!=\"2\""), "a.b is 1 and a.c is not \"2\"");
        assert_eq!(shown(r#"a is "5""#), r#"a is "5""#);
        assert_eq!(shown("has is 1"), r#""has" is 1"#);
    }

    #[test]
    fn what_is_none_says_what_is_wrong() {
        assert_eq!(shown("a"), "the filter: it ends where an operator should be");
        assert_eq!(shown("a is 1 b is 2"), "the filter: expected `and` before `b`");
        assert_eq!(shown("< 1"), "the filter: expected a field, found `<`");
        assert_eq!(shown("a is \"x"), "the filter: a quoted text is not one: \"x");
        assert!(shown("a like b").starts_with("the filter: expected `is`"));
        assert!(shown(&"a is 1 and ".repeat(40)).contains("more than 32"));
    }

    #[test]
    fn a_bare_value_fits_each_type_it_can_be_read_as_and_a_quoted_one_text() {
        let fits = |operator: Operator, value: Datum<'_>, text: &str, is_quoted| {
            operator.fits(value, &Operand::new(text, is_quoted))
        };
        use Operator::{Contains, Greater, Is, Less};
        assert!(fits(Is, Datum::Int(5), "5", false));
        assert!(fits(Is, Datum::Double(5.0), "5", false));
        assert!(fits(Is, Datum::Text("5"), "5", false));
        assert!(!fits(Is, Datum::Int(5), "5", true));
        assert!(fits(Is, Datum::Bool(true), "true", false));
        assert!(!fits(Is, Datum::Int(1), "true", false));
        assert!(!fits(Is, Datum::Int(i64::MAX), "9223372036854775806", false));
        assert!(fits(Less, Datum::Int(4), "4.5", false));
        assert!(!fits(Greater, Datum::Bool(true), "false", false));
        assert!(!fits(Greater, Datum::Int(5), "x", false));
        assert!(fits(Contains, Datum::Text("In NEW York"), "new y", true));
        assert!(fits(Contains, Datum::Text("Grüße aus KÖLN"), "köln", true));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text_is_a_filter_or_an_error_and_a_filter_reads_itself_again(
            text in r#"([a-z.]{0,6}|"[^"]{0,4}"|[<>=!]{0,2}|is|is not|and|has|no|feedback| ){0,12}"#,
        ) {
            if let Ok(filter) = text.parse::<Filter>() {
                prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
            }
        }
    }
}
