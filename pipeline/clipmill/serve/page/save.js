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

export function toHtml(title, answers, address) {
  const sections = answers.map((answer) => `<h2>${escaped(nameOf(answer))}</h2><ol>${answer.results.map(entry).join("")}</ol>`);
  const style = "body{font:15px/1.4 system-ui,sans-serif;margin:2rem}ol{display:grid;grid-template-columns:repeat(auto-fill,minmax(180px,1fr));gap:1rem;padding:0;list-style:none}li{border:1px solid #ddd;border-radius:6px;padding:.6rem;overflow-wrap:anywhere}img{max-width:100%}dl{font-size:.85rem;margin:.4rem 0 0}dt{color:#666;float:left;margin-right:.4rem}";
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(title)}</title><style>${style}</style><h1>${escaped(title)}</h1><p>${escaped(address)}</p>${sections.join("")}</html>`;
}

function entry(result) {
  const image = result.thumbnail ? `<img alt="" src="${escaped(result.thumbnail)}">` : "";
  const pairs = Object.entries(result.columns ?? {}).map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(String(value))}</dd>`);
  return `<li>${image}<p>${result.rank}. ${result.score.toFixed(4)} ${escaped(result.id)}</p><p>${escaped(result.caption ?? "")}</p><dl>${pairs.join("")}</dl></li>`;
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
