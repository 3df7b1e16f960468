// The grammar of filters, the same as the desk's own parser (src/desk/query/filter.rs); the tests of both
// read filter_vectors.json. The filter's text is the only state: the form parses it and writes it back.

/**
 * @typedef {{field: string, operator: string, value: string, quoted: boolean}} Comparison
 * @typedef {{has: "feedback" | "ground truth" | "field", field?: string, negated: boolean}} Presence
 * @typedef {Comparison | Presence} Condition
 */

export const OPERATORS = ["is", "is not", "contains", "<", "<=", ">", ">="];

const SYMBOLS = ["<=", ">=", "!=", "<", ">", "="];
const MEANS = { "=": "is", "!=": "is not" };
/** Unicode white space, as Rust defines it: with U+0085, without U+FEFF. */
const SPACE = "\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SPACES = new RegExp(`^[${SPACE}]+`, "u");
const END_OF_WORD = new RegExp(`[${SPACE}"<>=!]`, "u");
const LONGEST = 8 * 1024; // bytes
const MOST_CONDITIONS = 32;
const KEYWORDS = new Set(["has", "no", "feedback", "ground"]);

export class FilterError extends Error {}

const trimStart = (text) => text.replace(SPACES, "");
const lowerAscii = (text) => text.replace(/[A-Z]/gu, (letter) => letter.toLowerCase());

/** The text between quotes, which is JSON without lone surrogates. */
function unquoted(quoted) {
  const text = JSON.parse(quoted);
  if (/\p{Surrogate}/u.test(text)) throw new SyntaxError("lone surrogate");
  return text;
}

function tokens(text) {
  const found = [];
  let rest = trimStart(text);
  while (rest) {
    let length;
    if (rest[0] === '"') {
      length = /^"(?:[^"\\]|\\.)*"/su.exec(rest)?.[0].length;
      try {
        found.push({ quoted: true, text: unquoted(rest.slice(0, length)) });
      } catch {
        throw new FilterError(`not a complete quoted text: ${rest}`);
      }
    } else {
      const symbol = SYMBOLS.find((each) => rest.startsWith(each));
      const end = rest.search(END_OF_WORD);
      length = symbol ? symbol.length : end < 0 ? rest.length : end;
      if (!length) throw new FilterError('expected "=" after "!"');
      found.push({ symbol: Boolean(symbol), text: rest.slice(0, length) });
    }
    rest = trimStart(rest.slice(length));
  }
  return found;
}

const is = (token, word) =>
  Boolean(token) && !token.quoted && !token.symbol && lowerAscii(token.text) === word;

/**
 * The conditions of a text, all of which must hold.
 *
 * @param {string} text
 * @returns {Condition[]}
 * @throws {FilterError}
 */
export function parse(text) {
  if (new TextEncoder().encode(text).length > LONGEST) throw new FilterError(`longer than ${LONGEST} bytes`);
  const rest = tokens(text);
  const conditions = [];
  const next = (what, after) => {
    if (!rest.length) throw new FilterError(`incomplete: add ${what} after "${after}"`);
    return rest.shift();
  };
  const name = (token) => {
    if (token.symbol) throw new FilterError(`expected a field, found "${token.text}"`);
    return token.text;
  };
  const isOperator = (token) =>
    Boolean(token) && (token.symbol || is(token, "is") || is(token, "contains"));

  while (rest.length) {
    const first = rest.shift();
    if (is(first, "has") && !isOperator(rest[0])) {
      const negated = is(rest[0], "no") && Boolean(rest.shift());
      const subject = next("feedback, ground truth or a field", negated ? "has no" : "has");
      if (is(subject, "feedback")) conditions.push({ has: "feedback", negated });
      else if (is(subject, "ground_truth")) conditions.push({ has: "ground truth", negated });
      else if (is(subject, "ground")) {
        if (!is(rest.shift(), "truth")) throw new FilterError('expected "truth" after "ground"');
        conditions.push({ has: "ground truth", negated });
      } else conditions.push({ has: "field", field: name(subject), negated });
    } else {
      const field = name(first);
      const token = rest.shift();
      const expected = `expected is, is not, contains, <, <=, > or >= after "${field}"`;
      if (!token) throw new FilterError(expected);
      let operator;
      if (is(token, "is")) operator = is(rest[0], "not") ? (rest.shift(), "is not") : "is";
      else if (is(token, "contains")) operator = "contains";
      else if (token.symbol) operator = MEANS[token.text] ?? token.text;
      else throw new FilterError(`${expected}, found "${token.text}"`);
      const value = next("a value", operator);
      if (value.symbol) throw new FilterError(`expected a value, found "${value.text}"`);
      conditions.push({ field, operator, value: value.text, quoted: Boolean(value.quoted) });
    }
    if (conditions.length > MOST_CONDITIONS) throw new FilterError(`more than ${MOST_CONDITIONS} conditions`);
    if (rest.length) {
      const and = rest.shift();
      if (!is(and, "and")) throw new FilterError(`expected "and" before "${and.text}"`);
      if (!rest.length) throw new FilterError('incomplete: add a condition after "and"');
    }
  }
  return conditions;
}

const isWord = (text) => text !== "" && !END_OF_WORD.test(text);
const quote = (text) => JSON.stringify(text);

/** Whether a value has another type than text when it is not quoted: a boolean or a number. */
export const isTyped = (text) =>
  /^(?:true|false)$/u.test(text) || /^[+-]?(?:inf|infinity|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/iu.test(text);

function fieldText(field) {
  return isWord(field) && !KEYWORDS.has(lowerAscii(field)) ? field : quote(field);
}

/** The text of a condition. */
export function conditionText(condition) {
  if ("has" in condition) {
    const subject = condition.has === "field" ? fieldText(condition.field) : condition.has;
    return `has ${condition.negated ? "no " : ""}${subject}`;
  }
  const { field, operator, value, quoted } = condition;
  const isBare = isWord(value) && !(quoted && isTyped(value)) && lowerAscii(value) !== "not"; // bare, it would become `is not`
  return `${fieldText(field)} ${operator} ${isBare ? value : quote(value)}`;
}

/** The text of conditions. */
export const format = (conditions) => conditions.map(conditionText).join(" and ");

/** Two texts as one, each condition once. An invalid text is kept as it is. */
export function both(one, other) {
  if (!one || !other || one === other) return one || other || "";
  try {
    return parse(other).reduce(and, one);
  } catch {
    return `${one} and ${other}`;
  }
}

/** Adds a condition to a text, unless it is there. */
export function and(text, condition) {
  const conditions = parse(text);
  const added = conditionText(condition);
  if (conditions.some((each) => conditionText(each) === added)) return format(conditions);
  return format([...conditions, condition]);
}
