// Answers as grids of cards; of two, what moved from one to the other.

import { element, picture, shown } from "/page/elements.js";

const MOST_COLUMNS = 4;

/** Shows answers in `place`. `acts` are called with a result and its index: `more`, `less`, `open`; `byRow` says whether an index can be
    asked with a row of its own. */
export function showResults(place, answers, acts) {
  const two = answers.length > 1;
  place.classList.toggle("two", two);
  place.replaceChildren(
    ...answers.map((answer, at) => {
      const other = two ? ranksOf(answers[1 - at]) : null;
      const cards = answer.results.map((result) => card(result, answer, other, at, acts));
      const title = two ? element("h2", {}, nameOf(answer)) : null;
      return element("section", { "aria-label": `Results of ${nameOf(answer)}` }, title ?? "", element("ol", { class: "cards" }, ...cards));
    }),
  );
}

export function nameOf(answer) {
  return answer.version ? `${answer.index}, version ${answer.version}` : answer.index;
}

/** What an answer promises, in a sentence. */
export function summaryOf(answer) {
  const rows = answer.rows_selected === null ? `${answer.n.toLocaleString("en")} ${answer.gallery}` : `${answer.rows_selected.toLocaleString("en")} of ${answer.n.toLocaleString("en")} ${answer.gallery}`;
  const found = `${answer.results.length} of ${rows} in ${Math.round(answer.milliseconds.total)} ms`;
  if (answer.exact) return `${nameOf(answer)}: ${found}, all compared exactly`;
  const { value, k, measured_with, applies } = answer.recall;
  const promise = `${(value * 100).toFixed(1)}% of the best ${k} found, measured with ${measured_with}`;
  return `${nameOf(answer)}: ${found}; ${promise}${applies ? "" : " and not with such queries"}`;
}

function ranksOf(answer) {
  return new Map(answer.results.map((result) => [result.id, result.rank]));
}

function card(result, answer, other, side, acts) {
  const label = result.caption ?? result.id;
  const image = picture(result.thumbnail, label);
  const frame = element("div", { class: "frame" }, image ?? element("span", { class: "none" }, `no picture: ${result.no_thumbnail ?? ""}`));
  const act = (name, words) => element("button", { type: "button", "data-act": name, "aria-label": `${words} ${label}`, onclick: () => acts[name](result, answer.index) }, words);
  const made = element(
    "li",
    { class: "card", tabIndex: -1, "data-id": result.id, "data-side": String(side) },
    frame,
    element(
      "div",
      { class: "what" },
      element("p", { class: "line" }, element("span", {}, String(result.rank)), other ? moved(result, other, side) : "", element("span", { class: "score" }, result.score.toFixed(4))),
      result.caption ? element("p", { class: "caption" }, result.caption) : "",
      element("p", { class: "id" }, result.id),
      columnsOf(result),
    ),
    acts.byRow(answer.index) ? element("div", { class: "acts" }, act("more", "More like this"), act("less", "Less")) : "",
  );
  frame.addEventListener("click", () => acts.open(result, answer.index));
  const byRow = (act) => () => acts.byRow(answer.index) && act(result, answer.index);
  made.acts = { more: byRow(acts.more), less: byRow(acts.less), open: () => acts.open(result, answer.index) };
  return made;
}

function columnsOf(result) {
  const pairs = Object.entries(result.columns ?? {}).filter(([name, value]) => value !== null && name !== "caption" && name !== "caption_index");
  return element("dl", {}, ...pairs.slice(0, MOST_COLUMNS).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, said(name, value, result.columns)))));
}

/** The time of a picture of a video as people write it; other values as they are. */
function said(name, value, columns) {
  if (name !== "timestamp" || !("frame" in columns)) return shown(value);
  const [hours, minutes, seconds] = [value / 3600, (value / 60) % 60, value % 60].map(Math.floor);
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${two(minutes)}:${two(seconds)}`;
}

/** On the second side: how far a result moved from its rank on the first. On the first: whether it is still there. */
function moved(result, other, side) {
  const rank = other.get(result.id);
  if (rank === undefined) return element("span", { class: "moved new" }, side ? "new" : "gone");
  const up = side ? rank - result.rank : 0;
  if (!side) return element("span", { class: "moved same" }, rank === result.rank ? "same" : `now ${rank}`);
  if (!up) return element("span", { class: "moved same" }, "same");
  return element("span", { class: `moved ${up > 0 ? "up" : "down"}` }, `${up > 0 ? "up" : "down"} ${Math.abs(up)}`);
}

/** The whole of one row, for the dialog. */
export function details(item) {
  const pairs = Object.entries({ id: item.id, row: item.row, version: item.version, ...item.columns }).filter(([, value]) => value !== null);
  return [
    picture(item.thumbnail, item.captions[0] ?? item.id) ?? element("p", { class: "none" }, `no picture: ${item.no_thumbnail}`),
    item.captions.length ? element("ul", {}, ...item.captions.map((caption) => element("li", {}, caption))) : "",
    element("dl", {}, ...pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, said(name, value, item.columns))))),
  ].filter(Boolean);
}
