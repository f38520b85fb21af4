// Leaderboard: the last comparison and the runs, score against cost, and a tag's threshold as a handle.

import { get } from "../api.js";
import { axis, chart, labelPlaces, path } from "../charts.js";
import { atThreshold, sorted } from "../curves.js";
import { amount, count, figure } from "../words.js";
import { html, render, svg } from "../vendor/lit-html/lit-html.js";

export const title = "Leaderboard";

const MEASURES = {
  roc_auc: "ROC-AUC", pr_auc: "PR-AUC", roc_auc_micro: "ROC-AUC, micro", roc_auc_weighted: "ROC-AUC, weighted",
  mcc_best: "MCC, best threshold", mcc_half: "MCC at 0.5", accuracy: "Accuracy", recall: "Recall",
  exact_match: "Exact match", hamming: "Hamming loss", f1: "F1", precision: "Precision",
};
const COSTS = { parameters: "Parameters", megabytes: "Megabytes", seconds_per_1000: "Seconds for 1,000 clips", training_minutes: "Minutes of training" };
const HALF = 0.5; // for a tag of which exactly one of its head is chosen, which has no threshold
const spelt = (name) => MEASURES[name] ?? name.replaceAll("_", " ");

export function mount(root) {
  const leaving = new AbortController();
  const at = {
    answer: null, error: "", board: 0, data: 0, sort: ["roc_auc", "descending"], runSort: ["started", "descending"],
    measure: "roc_auc", cost: "parameters", row: null, tag: null, curve: null, curveError: "", threshold: null,
  };
  const draw = () => leaving.signal.aborted || render(page(at, act), root);

  async function askCurve() {
    const { board, data } = chosenData(at);
    const asked = { board: board.name, data: data.name, row: at.row, tag: at.tag };
    try {
      const curve = await get("/api/leaderboard/curve", asked, leaving.signal);
      if (asked.row === at.row && asked.tag === at.tag) Object.assign(at, { curve: { ...curve, row: asked.row, tag: asked.tag, threshold: curve.threshold ?? HALF }, curveError: "", threshold: curve.threshold ?? HALF });
    } catch (error) {
      if (error.name === "AbortError") return;
      Object.assign(at, { curve: null, curveError: error.message });
    }
    draw();
  }

  function chooseData(board, index) {
    Object.assign(at, { board, data: index, curve: null, curveError: "" });
    const { data } = chosenData(at);
    const measures = measuresOf(data);
    if (!measures.includes(at.measure)) at.measure = measures[0] ?? "roc_auc";
    at.sort = [at.measure, "descending"];
    at.row = sorted(data?.rows ?? [], valueOf(at.measure), "descending")[0]?.name ?? null;
    at.tag = data?.tags.includes(at.tag) ? at.tag : (data?.tags[0] ?? null);
    draw();
    if (at.row && at.tag) askCurve();
  }

  const act = {
    draw,
    chooseData,
    sort(key, name) {
      const [now, direction] = at[key];
      at[key] = [name, now === name && direction === "descending" ? "ascending" : "descending"];
      draw();
    },
    set(change) {
      Object.assign(at, change);
      draw();
    },
    curve(change) {
      Object.assign(at, change);
      draw();
      askCurve();
    },
  };

  draw();
  get("/api/leaderboard", {}, leaving.signal)
    .then((answer) => {
      at.answer = answer;
      const first = answer.boards.findIndex((board) => board.data.length);
      if (first < 0) draw();
      else chooseData(first, 0);
    })
    .catch((error) => {
      if (error.name === "AbortError") return;
      at.error = error.message;
      draw();
    });
  return { update() {}, leave: () => leaving.abort() };
}

function chosenData(at) {
  const board = at.answer?.boards[at.board];
  return { board, data: board?.data[at.data] };
}

const measuresOf = (data) => Object.keys(data?.rows[0]?.figures ?? {});

const valueOf = (name) => (row) => {
  if (name in (row.figures ?? {})) return row.figures[name].value;
  if (name in (row.costs ?? {})) return row.costs[name];
  return row[name];
};

/** What a row is called where its recipe does not stand beside it. */
function called(row, data) {
  const recipes = new Set(data.rows.map((one) => one.recipe));
  return recipes.size > 1 ? `${row.network}, ${row.recipe}` : row.network;
}

function page(at, act) {
  const { board, data } = chosenData(at);
  return html`
    <h1 tabindex="-1">Leaderboard</h1>
    <p>The last comparison and the runs: what the networks reach, what they cost, and what a threshold does.</p>
    <div class="stack">
      ${at.error ? html`<p class="notice error" role="alert">${at.error}</p>` : ""}
      ${!at.answer && !at.error ? html`<p class="faint">Reading the results, which takes up to a minute the first time …</p>` : ""}
      ${at.answer && !data && !at.answer.runs.length ? html`<div class="card"><h2>Nothing to show yet</h2><p>Start the page with <code>--config FILE</code>, a configuration of <code>autotag compare</code> or <code>autotag run</code>; its results stand here.</p></div>` : ""}
      ${data ? html`${table(at, board, data, act)}${scatter(at, data, act)}${curves(at, data, act)}` : ""}
      ${at.answer?.runs.length ? runs(at, act) : ""}
    </div>`;
}

function heading(label, name, sort, onSort, number = true) {
  const direction = sort[0] === name ? sort[1] : "none";
  const arrow = { none: "", ascending: "\u00a0↑", descending: "\u00a0↓" }[direction];
  return html`<th scope="col" class=${number ? "number" : ""} aria-sort=${direction}><button type="button" class="sort" @click=${() => onSort(name)}>${label}<span aria-hidden="true">${arrow}</span></button></th>`;
}

const chooser = (label, value, options, onChange) => html`<label class="field"><span>${label}</span>
  <select @change=${(event) => onChange(event.target.value)}>${options.map(([key, text]) => html`<option value=${key} .selected=${key === String(value)}>${text}</option>`)}</select></label>`;

function table(at, board, data, act) {
  const measures = measuresOf(data);
  const costs = Object.keys(COSTS).filter((cost) => data.rows.some((row) => row.costs?.[cost] !== null && row.costs?.[cost] !== undefined));
  const deformed = [...new Set(data.rows.flatMap((row) => Object.keys(row.deformed ?? {})))];
  const rows = sorted(data.rows, valueOf(at.sort[0]), at.sort[1]);
  const head = (label, name, number) => heading(label, name, at.sort, (key) => act.sort("sort", key), number);
  const places = at.answer.boards.flatMap((one, b) => one.data.map((set, d) => [`${b}/${d}`, `${one.name}: ${set.name}`]));
  const figures = (one) => (one ? html`${figure(one.value)}${one.low === null || one.low === undefined ? "" : html`<span class="interval">${figure(one.low)} to ${figure(one.high)}</span>`}` : "–");
  const published = data.rows.some((row) => row.published?.length);
  return html`<section class="card" aria-labelledby="board-title">
    <div class="head-row"><h2 id="board-title">${board.name}: ${data.name}</h2>
      ${places.length > 1 ? chooser("Results", `${at.board}/${at.data}`, places, (value) => act.chooseData(...value.split("/").map(Number))) : ""}</div>
    <p class="faint" id="board-about">${count(data.clips)} test clips, ${count(data.tags.length)} tags. Under a figure stands its 95 % interval.</p>
    <div class="scroll" tabindex="0" role="region" aria-label="Comparison"><table id="board" aria-labelledby="board-title" aria-describedby="board-about">
      <thead><tr>${head("Network", "network", false)}${head("Recipe", "recipe", false)}${measures.map((name) => head(spelt(name), name))}${costs.map((name) => head(COSTS[name], name))}
        ${deformed.map((name) => html`<th scope="col" class="number">${name}</th>`)}${published ? html`<th scope="col">Published</th>` : ""}</tr></thead>
      <tbody>${rows.map((row) => html`<tr class=${row.name === at.row ? "chosen" : ""}>
        <th scope="row">${row.network}${row.current === false ? html` <span class="badge" title="made with another configuration">older</span>` : ""}</th>
        <td>${row.recipe ?? ""}${row.seeds > 1 ? html`<span class="interval">${row.seeds} seeds</span>` : ""}</td>
        ${measures.map((name) => html`<td class="number">${figures(row.figures[name])}</td>`)}
        ${costs.map((name) => html`<td class="number">${amount(row.costs[name])}</td>`)}
        ${deformed.map((name) => html`<td class="number">${row.deformed?.[name] ? html`${figure(row.deformed[name].roc_auc)}<span class="interval">${figure(-row.deformed[name].drop)}</span>` : "–"}</td>`)}
        ${published ? html`<td>${(row.published ?? []).map((one) => html`<span class="interval" title=${one.split}>${one.source}: ${figure(one.roc_auc)} / ${figure(one.pr_auc)}</span>`)}</td>` : ""}
      </tr>`)}</tbody></table></div></section>`;
}

function scatter(at, data, act) {
  const measures = measuresOf(data);
  const points = data.rows
    .map((row) => ({ name: called(row, data), cost: row.costs?.[at.cost], ...row.figures[at.measure], old: row.current === false }))
    .filter((point) => point.cost > 0 && typeof point.value === "number");
  const costs = Object.entries(COSTS).filter(([cost]) => data.rows.some((row) => row.costs?.[cost] > 0));
  return html`<section class="card" aria-labelledby="scatter-title">
    <div class="head-row"><h2 id="scatter-title">Score against cost</h2><div class="row">
      ${chooser("Score", at.measure, measures.map((name) => [name, spelt(name)]), (measure) => act.set({ measure }))}
      ${chooser("Cost", at.cost, costs, (cost) => act.set({ cost }))}</div></div>
    ${points.length ? html`<chart-box .draw=${(width) => cloud(width, points, at)}></chart-box>` : html`<p class="faint">None of these results has both.</p>`}
  </section>`;
}

function cloud(width, points, at) {
  const costs = points.map((point) => point.cost);
  const lows = points.map((point) => point.low ?? point.value);
  const highs = points.map((point) => point.high ?? point.value);
  const [low, high] = [Math.min(...lows), Math.max(...highs)];
  const slack = Math.max(0.005, (high - low) * 0.12);
  const x = axis({ low: Math.min(...costs) / 1.7, high: Math.max(...costs) * 1.7, log: true, label: `${COSTS[at.cost]} (log)`, format: amount });
  const y = axis({ low: Math.max(0, low - slack), high: Math.min(1, high + slack), label: spelt(at.measure), format: (value) => String(value) });
  const said = points.map((point) => `${point.name} ${figure(point.value)} at ${amount(point.cost)}`).join("; ");
  const title = `${spelt(at.measure)} against ${COSTS[at.cost].toLowerCase()}: ${said}`;
  const body = ({ x: px, y: py, width: wide }) => {
    const spots = [...points].sort((a, b) => b.value - a.value).map((point) => ({ ...point, text: point.name, x: px(point.cost), y: py(point.value) }));
    const labels = labelPlaces(spots, wide);
    return spots.map((spot, i) => svg`${typeof spot.low === "number" ? svg`<line class="whisker" x1=${spot.x} x2=${spot.x} y1=${py(spot.low)} y2=${py(spot.high)}/>` : ""}
      <circle class=${spot.old ? "point old" : "point"} cx=${spot.x} cy=${spot.y} r="5"><title>${spot.name}: ${figure(spot.value)}, ${amount(spot.cost)}</title></circle>
      <text x=${labels[i][0]} y=${labels[i][1]} text-anchor=${labels[i][2]}>${spot.name}</text>`);
  };
  return chart({ width, height: Math.min(420, Math.max(280, width * 0.5)), x, y, title, body });
}

function curves(at, data, act) {
  return html`<section class="card" aria-labelledby="curve-title">
    <div class="head-row"><h2 id="curve-title">One tag, and its threshold</h2><div class="row">
      ${chooser("Network", at.row, data.rows.map((row) => [row.name, called(row, data)]), (row) => act.curve({ row }))}
      ${chooser("Tag", at.tag, data.tags.map((tag) => [tag, tag]), (tag) => act.curve({ tag }))}</div></div>
    ${at.curveError ? html`<p class="notice">${at.curveError}</p>` : ""}
    ${at.curve ? handle(at, act) : at.curveError ? "" : html`<p class="faint">Reading the curve …</p>`}</section>`;
}

function handle(at, act) {
  const { curve } = at;
  const waiting = curve.row !== at.row || curve.tag !== at.tag; // another one has been asked for
  const [before, now] = [atThreshold(curve, curve.threshold), atThreshold(curve, at.threshold)];
  const flips = Math.abs(now.chosen - before.chosen);
  const unmoved = at.threshold === curve.threshold;
  const exact = curve.roc.thresholds.length > curve.clips; // a long curve comes with some of its points left out
  const change = unmoved
    ? "Move the handle to see what another threshold would change."
    : `${exact ? "" : "About "}${count(flips)} of ${count(curve.clips)} clips flip ${now.chosen > before.chosen ? "to" : "away from"} ‘${at.curve.tag}’.`;
  const row = (label, value, digits) => html`<tr><th scope="row">${label}</th><td class="number">${value(before, digits)}</td><td class="number">${value(now, digits)}</td></tr>`;
  const rate = (key) => (one) => figure(one[key]);
  const whole = (key) => (one) => count(one[key]);
  return html`
    <div class="handle-row"><label for="threshold">Threshold</label>
      <input id="threshold" type="range" min="0" max="1" step="0.005" .value=${String(at.threshold)}  ?disabled=${waiting} aria-describedby="flips" aria-valuetext=${`${figure(at.threshold)}: precision ${figure(now.precision)}, recall ${figure(now.recall)}, F1 ${figure(now.f1)}`}
        @input=${(event) => act.set({ threshold: Number(event.target.value) })}>
      <output for="threshold">${figure(at.threshold)}</output>
      <button type="button" class="plain" ?disabled=${unmoved} @click=${() => act.set({ threshold: curve.threshold })}>Back to ${figure(curve.threshold)}</button></div>
    <p id="flips" role="status">${change}</p>
    <div class="pair">
      <chart-box .draw=${(width) => histogram(width, at)}></chart-box>
      <div class="scroll" tabindex="0" role="region" aria-label="What the threshold changes"><table id="effect"><caption>${curve.row}, ‘${at.curve.tag}’: ${count(curve.positives)} of ${count(curve.clips)} clips carry it</caption>
        <thead><tr><th scope="col"></th><th scope="col" class="number">at ${figure(curve.threshold)}</th><th scope="col" class="number">at ${figure(at.threshold)}</th></tr></thead>
        <tbody>${row("Precision", rate("precision"))}${row("Recall", rate("recall"))}${row("F1", rate("f1"))}${row("Rightly tagged", whole("found"))}${row("Wrongly tagged", whole("wrongly"))}${row("Missed", whole("missed"))}</tbody></table></div>
      <chart-box .draw=${(width) => rocChart(width, at, before, now)}></chart-box>
      <chart-box .draw=${(width) => prChart(width, at, before, now)}></chart-box>
    </div>`;
}

const unit = (label) => axis({ low: 0, high: 1, label, format: (value) => String(value) });
const squarish = (width) => Math.min(360, Math.max(250, width * 0.7));

function rocChart(width, at, before, now) {
  const { roc } = at.curve;
  const title = `ROC curve of ${at.curve.tag}. At the threshold ${figure(at.threshold)}: true positive rate ${figure(now.recall)}, false positive rate ${figure(now.fpr)}`;
  return chart({ width, height: squarish(width), x: unit("False positive rate"), y: unit("True positive rate"), title, body: (place) => svg`
    <line class="chance" x1="0" y1=${place.height} x2=${place.width} y2="0"/><path class="curve" d=${path(roc.false_positive_rate, roc.true_positive_rate, place)}/>
    <circle class="start" cx=${place.x(before.fpr)} cy=${place.y(before.recall ?? 0)} r="5"/><circle class="handle" cx=${place.x(now.fpr)} cy=${place.y(now.recall ?? 0)} r="6"/>` });
}

function prChart(width, at, before, now) {
  const { pr, positives, clips } = at.curve;
  const title = `Precision-recall curve of ${at.curve.tag}. At the threshold ${figure(at.threshold)}: precision ${figure(now.precision)}, recall ${figure(now.recall)}. Chance is ${figure(positives / clips)}`;
  return chart({ width, height: squarish(width), x: unit("Recall"), y: unit("Precision"), title, body: (place) => svg`
    <line class="chance" x1="0" x2=${place.width} y1=${place.y(positives / clips)} y2=${place.y(positives / clips)}/><path class="curve" d=${path(pr.recall, pr.precision, place)}/>
    ${before.precision === null ? "" : svg`<circle class="start" cx=${place.x(before.recall)} cy=${place.y(before.precision)} r="5"/>`}
    ${now.precision === null ? "" : svg`<circle class="handle" cx=${place.x(now.recall)} cy=${place.y(now.precision)} r="6"/>`}` });
}

function histogram(width, at) {
  const { edges, positive, negative } = at.curve.histogram;
  const share = (counts) => {
    const total = counts.reduce((sum, n) => sum + n, 0) || 1;
    return counts.map((n) => n / total);
  };
  const [yes, no] = [share(positive), share(negative)];
  const x = unit("Probability");
  const y = axis({ low: 0, high: Math.max(...yes, ...no) * 1.05, label: "Share of clips", format: (value) => `${Math.round(100 * value)}` });
  const title = `How probable ${at.curve.tag} is to the network, for clips with the tag and without it`;
  return html`<p class="faint"><span class="swatch with"></span>with ‘${at.curve.tag}’ &nbsp; <span class="swatch without"></span>without, per cent of each</p>${chart({ width, height: 230, x, y, title, body: (place) => svg`
    ${[["no", no], ["yes", yes]].map(([kind, shares]) => shares.map((value, i) => svg`<rect class=${kind} x=${place.x(edges[i]) + (kind === "yes" ? (place.x(edges[i + 1]) - place.x(edges[i])) / 2 : 0)} y=${place.y(value)} width=${Math.max(1, (place.x(edges[i + 1]) - place.x(edges[i])) / 2 - 0.5)} height=${Math.max(0, place.height - place.y(value))}/>`))}
    <line class="cut" x1=${place.x(at.threshold)} x2=${place.x(at.threshold)} y1="0" y2=${place.height}/>` })}`;
}

function runs(at, act) {
  const rows = sorted(at.answer.runs, (run) => run[at.runSort[0]], at.runSort[1]);
  const head = (label, name, number) => heading(label, name, at.runSort, (key) => act.sort("runSort", key), number);
  const when = (text) => (text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "–");
  const state = (run) => html`<span class="badge ${run.state === "failed" ? "bad" : ""}">${run.state}</span>${run.pushed ? html` <span class="badge good">pushed</span>` : ""}`;
  return html`<section class="card" aria-labelledby="runs-title"><h2 id="runs-title">Runs</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Runs"><table id="runs">
      <thead><tr>${head("Started", "started", false)}${head("Configuration", "config", false)}${head("Run", "run", false)}${head("State", "state", false)}${head("ROC-AUC", "roc_auc")}${head("PR-AUC", "pr_auc")}</tr></thead>
      <tbody>${rows.map((run) => html`<tr><th scope="row">${when(run.started)}</th><td>${run.config}</td><td><code>${run.run}</code></td><td>${state(run)}</td><td class="number">${figure(run.roc_auc)}</td><td class="number">${figure(run.pr_auc)}</td></tr>`)}</tbody>
    </table></div></section>`;
}
