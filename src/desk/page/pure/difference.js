// The difference between two texts, word by word.

/** Above this number of cells the texts count as rewritten between their common ends. */
const MOST_CELLS = 4_000_000;

/** Words, spaces and punctuation. The segmenter also finds words in scripts without spaces. */
export function words(text) {
  if (typeof Intl.Segmenter === "function") {
    return Array.from(new Intl.Segmenter(undefined, { granularity: "word" }).segment(text), (each) => each.segment);
  }
  return text.match(/\s+|[\p{L}\p{N}\p{M}_]+|[^\s\p{L}\p{N}\p{M}_]/gu) ?? [];
}

/**
 * Runs of text that are in both, only in `before`, or only in `after`.
 *
 * @param {string} before
 * @param {string} after
 * @returns {{kind: "same" | "removed" | "added", text: string}[]}
 */
export function difference(before, after) {
  const a = words(before);
  const b = words(after);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;

  const runs = [];
  const add = (kind, text) => {
    const last = runs[runs.length - 1];
    if (!text) return;
    if (last?.kind === kind) last.text += text;
    else runs.push({ kind, text });
  };
  add("same", a.slice(0, start).join(""));
  middle(a.slice(start, a.length - end), b.slice(start, b.length - end), add);
  add("same", a.slice(a.length - end).join(""));
  return joined(runs);
}

/** By the longest common subsequence. */
function middle(a, b, add) {
  if ((a.length + 1) * (b.length + 1) > MOST_CELLS) {
    add("removed", a.join(""));
    add("added", b.join(""));
    return;
  }
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] =
        a[i] === b[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      add("same", a[i]);
      i += 1;
      j += 1;
    } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) {
      add("removed", a[i]);
      i += 1;
    } else {
      add("added", b[j]);
      j += 1;
    }
  }
  add("removed", a.slice(i).join(""));
  add("added", b.slice(j).join(""));
}

/**
 * Merges changes that only a space separates, because they read better so, and puts the removed text of two
 * adjacent changes first.
 */
function joined(runs) {
  const result = [];
  let removed = "";
  let added = "";
  const flush = () => {
    if (removed) result.push({ kind: "removed", text: removed });
    if (added) result.push({ kind: "added", text: added });
    removed = added = "";
  };
  runs.forEach((run, at) => {
    const isBetween = at > 0 && at < runs.length - 1;
    if (run.kind === "removed") removed += run.text;
    else if (run.kind === "added") added += run.text;
    else if (isBetween && /^\s+$/u.test(run.text) && removed && added && runs[at + 1].kind !== "same") {
      removed += run.text;
      added += run.text;
    } else {
      flush();
      result.push(run);
    }
  });
  flush();
  return result;
}
