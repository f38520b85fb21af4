// What a threshold does to one tag, from its ROC curve: the curve's points are (false, true positive rate) at falling
// thresholds, so counts at any threshold follow from the last point that is not below it.

/** Counts and rates of a tag at a threshold; null where nothing is answered "yes" to, or nothing is there. */
export function atThreshold({ roc, positives, clips }, threshold) {
  let at = -1;
  roc.thresholds.forEach((value, i) => {
    if (value === null || value >= threshold) at = i;
  });
  const rate = (rates) => (at < 0 ? 0 : rates[at]);
  const found = Math.round(rate(roc.true_positive_rate) * positives);
  const wrongly = Math.round(rate(roc.false_positive_rate) * (clips - positives));
  const precision = found + wrongly ? found / (found + wrongly) : null;
  const recall = positives ? found / positives : null;
  const f1 = precision === null || !(precision + recall) ? 0 : (2 * precision * recall) / (precision + recall);
  return { found, wrongly, missed: positives - found, chosen: found + wrongly, precision, recall, f1, fpr: rate(roc.false_positive_rate) };
}

/** Rows sorted by a value; those without one come last whatever the direction. */
export function sorted(rows, value, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const missing = (one) => one === null || one === undefined;
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}
