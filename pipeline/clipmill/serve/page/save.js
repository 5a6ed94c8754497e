// A search and its results as a file: CSV for tables, HTML for people.

import { nameOf } from "/page/results.js";

export function toCsv(answers) {
  const names = [...new Set(answers.flatMap((answer) => answer.results.flatMap((result) => Object.keys(result.columns ?? {}))))];
  const head = ["index", "version", "rank", "score", "row", "id", "caption", ...names.filter((name) => name !== "caption")];
  const lines = answers.flatMap((answer) =>
    answer.results.map((result) => {
      const fixed = { ...result.columns, index: answer.index, version: answer.version, rank: result.rank, score: result.score, row: result.row, id: result.id, caption: result.caption };
      return head.map((name) => cell(fixed[name])).join(",");
    }),
  );
  return `${[head.map(cell).join(","), ...lines].join("\r\n")}\r\n`;
}

/** A text that a spreadsheet would take for a formula is kept a text. */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** A page of its own; `look` is the style sheet of all pages. */
export function toHtml(title, answers, address, look) {
  const sections = answers.map((answer) => `<h2>${escaped(nameOf(answer))}</h2><ol class="cards">${answer.results.map(entry).join("")}</ol>`);
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(title)}</title><style>${look}</style><body style="padding:1.5rem"><h1>${escaped(title)}</h1><p>${escaped(address)}</p>${sections.join("")}</html>`;
}

function entry(result) {
  const image = result.thumbnail ? `<img alt="" src="${escaped(result.thumbnail)}">` : "";
  const pairs = Object.entries(result.columns ?? {}).map(([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(String(value))}</dd></div>`);
  const line = `<p class="line"><span>${result.rank}</span><span class="score">${result.score.toFixed(4)}</span></p>`;
  const words = `<p class="caption">${escaped(result.caption ?? "")}</p><p class="id">${escaped(result.id)}</p>`;
  return `<li class="card"><div class="frame">${image}</div><div class="what">${line}${words}<dl>${pairs.join("")}</dl></div></li>`;
}

function escaped(text) {
  const signs = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (sign) => signs[sign]);
}

/** Hands a file to the browser to be saved. */
export function save(text, kind, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
