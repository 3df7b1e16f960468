// The buckets that get a label on the axis.

/** The step between labels, so that labels of this width fit. */
export function step(buckets, width, label = 72) {
  const room = Math.max(1, Math.floor(width / label));
  const least = Math.ceil(buckets / room);
  return [1, 2, 3, 4, 6, 7, 12, 14, 24, 28, 48, 60, 96, 120, 240].find((each) => each >= least) ?? least;
}

export function ticks(buckets, width) {
  const every = step(buckets, width);
  const found = [];
  for (let at = 0; at < buckets; at += every) found.push(at);
  return found;
}
