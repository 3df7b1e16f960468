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
//! A bare value fits every type that it can be parsed as: `5` is the number and the text. A quoted
//! value is text only. `contains` ignores case.
//!
//! The page parses the same grammar (`page/pure/filter.js`). `filter_vectors.json` holds texts with
//! their conditions or their error; the tests of both parsers read it.

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
    /// Compares the value of a field.
    Compare { field: String, operator: Operator, value: Operand },
    /// Whether there is any value.
    Has { subject: Subject, negated: bool },
}

impl Condition {
    /// Whether it is about a value of feedback or metrics: what a row of the data set shows of its own target.
    pub(crate) fn is_of_row(&self) -> bool {
        match self {
            Self::Has { subject: Subject::Feedback | Subject::GroundTruth, .. } => true,
            Self::Has { subject: Subject::Field(field), .. } | Self::Compare { field, .. } => {
                let field = field.strip_prefix("honeyhive_").unwrap_or(field);
                matches!(field.split_once('.'), Some(("feedback" | "metrics", _)))
            }
        }
    }
}

/// The subject of `has`.
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

/// The value that a field is compared with, parsed as each type that it can be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operand {
    text: String,
    lower: String,
    boolean: Option<bool>,
    int: Option<i64>,
    number: Option<f64>,
}

/// Why a text is not a valid filter. The page shows the same texts (`pure/filter.js`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter: {0}")]
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
    fn text(self) -> &'static str {
        match self {
            Self::Is => "is",
            Self::IsNot => "is not",
            Self::Contains => "contains",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether a value fits. For `IsNot` this is the same as for `Is`, and the caller negates it: `IsNot`
    /// holds where no value fits.
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

/// Whether a text contains another that is in lower case, whatever its own case. Of JSON in a text, what its
/// escapes stand for counts as well as the escapes.
pub(crate) fn contains(text: &str, lower: &str) -> bool {
    contains_as_is(text, lower) || (text.contains('\\') && contains_as_is(&unescaped(text), lower))
}

/// A text with the escapes of JSON replaced by what they stand for; others stay.
fn unescaped(text: &str) -> String {
    let mut unescaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        unescaped.push_str(&rest[..at]);
        rest = &rest[at..];
        let (found, length) = match rest.as_bytes().get(1) {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'"') => ('"', 2),
            Some(b'/') => ('/', 2),
            Some(b'u') => unicode_escape(rest).unwrap_or(('\\', 1)),
            Some(b'\\') => ('\\', 2),
            _ => ('\\', 1),
        };
        unescaped.push(found);
        rest = &rest[length..];
    }
    unescaped + rest
}

/// The character of an escape with which a text begins, a pair of surrogates if it is one, and the
/// length of the escape.
fn unicode_escape(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let first = unit(0)?;
    if let (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) = (first, unit(6)) {
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return Some((char::from_u32(code)?, 12));
    }
    Some((char::from_u32(first)?, 6))
}

fn contains_as_is(text: &str, lower: &str) -> bool {
    if lower.is_empty() {
        return true;
    }
    if text.is_ascii() {
        // Without a copy: there may be a million texts.
        let (text, lower) = (text.as_bytes(), lower.as_bytes());
        return text.windows(lower.len()).any(|window| window.eq_ignore_ascii_case(lower));
    }
    text.to_lowercase().contains(lower)
}

impl Filter {
    /// The conditions of both filters.
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

    /// That a field has a value.
    pub(crate) fn has(field: &str) -> Self {
        let subject = Subject::Field(field.to_owned());
        Self { conditions: vec![Condition::Has { subject, negated: false }] }
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
                Some(token) => return Err(FilterError(format!("expected \"and\" before {token}"))),
            }
        }
    }
}

/// The text that parses to the same filter.
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
                write!(f, "{} {} ", FieldName(field), operator.text())?;
                let is_not = value.text.eq_ignore_ascii_case("not"); // bare, it would become `is not`
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
                    Subject::Field(field) => write!(f, "{}", FieldName(field)),
                }
            }
        }
    }
}

/// A field, quoted where the bare text would be parsed as something else.
struct FieldName<'n>(&'n str);

impl fmt::Display for FieldName<'_> {
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
            Self::Word(text) | Self::Quoted(text) => write!(f, "\"{text}\""),
            Self::Symbol(symbol) => write!(f, "\"{symbol}\""),
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
                .map_err(|_| FilterError(format!("not a complete quoted text: {rest}")))?;
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
                return Err(FilterError("expected \"=\" after \"!\"".to_owned()));
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

fn incomplete(what: &str, after: &str) -> FilterError {
    FilterError(format!("incomplete: add {what} after \"{after}\""))
}

fn condition<'t>(
    tokens: &mut Peekable<impl Iterator<Item = &'t Token> + Clone>,
) -> Result<Condition, FilterError> {
    let first = tokens.next().ok_or_else(|| incomplete("a condition", "and"))?;
    let is_operator = |token: Option<&&Token>| {
        token.is_some_and(|token| {
            matches!(token, Token::Symbol(_)) || token.is("is") || token.is("contains")
        })
    };
    // A field may be called `has`: then an operator follows.
    if first.is("has") && !is_operator(tokens.peek()) {
        let negated = tokens.next_if(|token| token.is("no")).is_some();
        let subject = match tokens.next().ok_or_else(|| {
            incomplete("feedback, ground truth or a field", if negated { "has no" } else { "has" })
        })? {
            token if token.is("feedback") => Subject::Feedback,
            token if token.is("ground_truth") => Subject::GroundTruth,
            token if token.is("ground") => match tokens.next() {
                Some(token) if token.is("truth") => Subject::GroundTruth,
                _ => return Err(FilterError("expected \"truth\" after \"ground\"".to_owned())),
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
    let expected = || format!("expected is, is not, contains, <, <=, > or >= after \"{field}\"");
    let operator = match tokens.next().ok_or_else(|| FilterError(expected()))? {
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
            return Err(FilterError(format!("{}, found {token}", expected())));
        }
    };
    let value = match tokens.next().ok_or_else(|| incomplete("a value", operator.text()))? {
        Token::Word(text) => Operand::new(text, false),
        Token::Quoted(text) => Operand::new(text, true),
        token => return Err(FilterError(format!("expected a value, found {token}"))),
    };
    Ok(Condition::Compare { field, operator, value })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_text_is_found_as_it_stands_and_by_what_its_escapes_mean() {
        let json = r#"{"a": "Gr\u00fc\u00DFe \ud83d\ude00", "b": "say \"hi\"\n", "c": "C:\\new"}"#;
        for search in ["grüße", "\u{1f600}", "say \"hi\"\n", r"c:\new", r"gr\u00fc", "\"c\""] {
            assert!(super::contains(json, search), "{search}");
        }
        for text in [r"\", r"\u", r"\u12", r"\ud83d", r"\ud83d\u0041", r"\ü", "\\u+0af"] {
            assert!(super::contains(text, text), "{text}");
            assert!(!super::contains(text, "no"), "{text}");
        }
    }

    use proptest::prelude::*;

    use super::*;

    /// A case of `filter_vectors.json`: a valid text with its conditions and their canonical text, or an
    /// invalid one with its error.
    #[derive(serde::Deserialize)]
    struct Vector {
        text: String,
        conditions: Option<Vec<serde_json::Value>>,
        canonical: Option<String>,
        error: Option<String>,
    }

    fn as_json(condition: &Condition) -> serde_json::Value {
        match condition {
            Condition::Compare { field, operator, value } => serde_json::json!({
                "field": field,
                "operator": operator.text(),
                "value": value.text,
                "text_only": value.boolean.is_none() && value.number.is_none(),
            }),
            Condition::Has { subject: Subject::Field(field), negated } => {
                serde_json::json!({ "has": "field", "field": field, "negated": negated })
            }
            Condition::Has { subject: Subject::Feedback, negated } => {
                serde_json::json!({ "has": "feedback", "negated": negated })
            }
            Condition::Has { subject: Subject::GroundTruth, negated } => {
                serde_json::json!({ "has": "ground truth", "negated": negated })
            }
        }
    }

    #[test]
    fn each_vector_has_its_conditions_or_its_error() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("filter_vectors.json")).unwrap();
        assert!(vectors.len() >= 40);
        for Vector { text, conditions, canonical, error } in vectors {
            match text.parse::<Filter>() {
                Ok(filter) => {
                    let found: Vec<_> = filter.conditions.iter().map(as_json).collect();
                    assert_eq!(Some(found), conditions, "{text}");
                    assert_eq!(filter.to_string(), canonical.unwrap_or(text.clone()), "{text}");
                    assert_eq!(filter.to_string().parse(), Ok(filter), "{text}");
                }
                Err(FilterError(found)) => assert_eq!(Some(found), error, "{text}"),
            }
        }
    }

    #[test]
    fn an_error_names_the_filter_as_its_place() {
        let error = "a".parse::<Filter>().unwrap_err().to_string();
        assert!(error.starts_with("filter: expected is"), "{error}");
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
