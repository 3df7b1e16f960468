// The grammar of filters, as the API's documentation tells it: what the builder shows is read from
// the text, and written back to it. The text is the only state there is.

/**
 * @typedef {{field: string, operator: string, value: string, quoted: boolean}} Comparison
 * @typedef {{has: "feedback" | "ground truth" | "field", field?: string, negated: boolean}} Presence
 * @typedef {Comparison | Presence} Condition
 */

export const OPERATORS = ["is", "is not", "contains", "<", "<=", ">", ">="];

const SYMBOLS = ["<=", ">=", "!=", "<", ">", "="];
const MEANS = { "=": "is", "!=": "is not" };
const END_OF_WORD = /[\s"<>=!]/u;
const KEYWORDS = new Set(["has", "no", "feedback", "ground"]);

export class FilterError extends Error {}

function tokens(text) {
  const found = [];
  let rest = text.trimStart();
  while (rest) {
    let length;
    if (rest[0] === '"') {
      length = /^"(?:[^"\\]|\\.)*"/su.exec(rest)?.[0].length;
      try {
        found.push({ quoted: true, text: JSON.parse(rest.slice(0, length)) });
      } catch {
        throw new FilterError(`a quoted text is not one: ${rest}`);
      }
    } else {
      const symbol = SYMBOLS.find((each) => rest.startsWith(each));
      const end = rest.search(END_OF_WORD);
      length = symbol ? symbol.length : end < 0 ? rest.length : end;
      if (!length) throw new FilterError("a lone `!`");
      found.push({ symbol: Boolean(symbol), text: rest.slice(0, length) });
    }
    rest = rest.slice(length).trimStart();
  }
  return found;
}

const is = (token, word) =>
  Boolean(token) && !token.quoted && !token.symbol && token.text.toLowerCase() === word;

/**
 * The conditions of a text, all of which must hold.
 *
 * @param {string} text
 * @returns {Condition[]}
 * @throws {FilterError}
 */
export function parse(text) {
  const rest = tokens(text);
  const conditions = [];
  const next = (what) => {
    if (!rest.length) throw new FilterError(`it ends where ${what} should be`);
    return rest.shift();
  };
  const name = (token) => {
    if (token.symbol) throw new FilterError(`expected a field, found \`${token.text}\``);
    return token.text;
  };
  const isOperator = (token) =>
    Boolean(token) && (token.symbol || is(token, "is") || is(token, "contains"));

  while (rest.length) {
    const first = next("a condition");
    if (is(first, "has") && !isOperator(rest[0])) {
      const negated = is(rest[0], "no") && Boolean(rest.shift());
      const subject = next("what it has");
      if (is(subject, "feedback")) conditions.push({ has: "feedback", negated });
      else if (is(subject, "ground_truth")) conditions.push({ has: "ground truth", negated });
      else if (is(subject, "ground")) {
        if (!is(rest.shift(), "truth")) throw new FilterError("expected `truth` after `ground`");
        conditions.push({ has: "ground truth", negated });
      } else conditions.push({ has: "field", field: name(subject), negated });
    } else {
      const field = name(first);
      const token = next("an operator");
      let operator;
      if (is(token, "is")) operator = is(rest[0], "not") ? (rest.shift(), "is not") : "is";
      else if (is(token, "contains")) operator = "contains";
      else if (token.symbol) operator = MEANS[token.text] ?? token.text;
      else throw new FilterError(`expected ${OPERATORS.join(", ")} after \`${field}\`, found \`${token.text}\``);
      const value = next("a value");
      if (value.symbol) throw new FilterError(`expected a value, found \`${value.text}\``);
      conditions.push({ field, operator, value: value.text, quoted: Boolean(value.quoted) });
    }
    if (rest.length) {
      const and = rest.shift();
      if (!is(and, "and")) throw new FilterError(`expected \`and\` before \`${and.text}\``);
      if (!rest.length) throw new FilterError("it ends where a condition should be");
    }
  }
  return conditions;
}

const isWord = (text) => text !== "" && !END_OF_WORD.test(text);
const quote = (text) => JSON.stringify(text);

function fieldText(field) {
  return isWord(field) && !KEYWORDS.has(field.toLowerCase()) ? field : quote(field);
}

/** One condition as it is read again. */
export function conditionText(condition) {
  if ("has" in condition) {
    const subject = condition.has === "field" ? fieldText(condition.field) : condition.has;
    return `has ${condition.negated ? "no " : ""}${subject}`;
  }
  const { field, operator, value, quoted } = condition;
  const bare = !quoted && isWord(value) && value.toLowerCase() !== "not"; // which `is` would take for its own
  return `${fieldText(field)} ${operator} ${bare ? value : quote(value)}`;
}

/** Conditions as they are read again. */
export const format = (conditions) => conditions.map(conditionText).join(" and ");

/** A text with one condition more, once. */
export function and(text, condition) {
  const conditions = parse(text);
  const added = conditionText(condition);
  if (conditions.some((each) => conditionText(each) === added)) return format(conditions);
  return format([...conditions, condition]);
}
