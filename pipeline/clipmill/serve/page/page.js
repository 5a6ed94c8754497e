// The page: what is typed and chosen becomes a state, the state an address and a search, the answers cards.

import * as api from "/page/api.js";
import { element, picture } from "/page/elements.js";
import { conditionOf, filterCount, filterFields } from "/page/filters.js";
import * as keys from "/page/keys.js";
import { listen as listenForPictures } from "/page/pictures.js";
import { details, showResults, summaryOf } from "/page/results.js";
import { save, toCsv, toHtml } from "/page/save.js";
import { fromAddress, queryOf, toAddress } from "/page/state.js";

const at = (id) => document.getElementById(id);
const TYPING_PAUSE = 150;
let state = fromAddress(location.hash);
let known = [];
let answers = [];
let columnsShown = "";
let running = null;
let waiting = 0;

const acts = {
  byRow: (index) => known.find((one) => one.name === index)?.asks_by_row ?? true,
  more: (result) => addPart({ id: result.id, weight: 1, uri: result.thumbnail }, true),
  less: (result) => addPart({ id: result.id, weight: -0.5, uri: result.thumbnail }, false),
  open: async (result, index) => {
    try {
      const item = await api.item(result.id, index);
      at("detail-title").textContent = item.id;
      at("detail-body").replaceChildren(...details(item));
      at("detail").showModal();
    } catch (error) {
      tell(error);
    }
  },
};

/** One more part of the search; `alone`: in place of all that was asked before. */
function addPart(part, alone) {
  const parts = alone ? [] : state.parts.filter((one) => one.id === undefined || one.id !== part.id);
  change({ parts: [...parts, part], ...(alone ? { text: "" } : {}) });
  at("text").value = state.text;
}

/** Changes the search, its address and its results. What is being typed makes no entries in the history. */
function change(update, { pause = 0, typed = false } = {}) {
  state = { ...state, ...update };
  const address = toAddress(state);
  if (typed) history.replaceState(null, "", address);
  else if (address !== location.hash) history.pushState(null, "", address);
  showParts();
  at("filtered").textContent = filterCount(state) ? `(${filterCount(state)})` : "";
  clearTimeout(waiting);
  waiting = setTimeout(ask, pause);
}

async function ask() {
  running?.abort();
  const query = queryOf(state);
  if (!query) {
    answers = [];
    show();
    return;
  }
  running = new AbortController();
  const where = conditionOf(state.filters, state.where);
  const body = { query, k: state.k, where, include: ["columns", "caption", "thumbnail", ...(state.parts.some((one) => one.image) ? ["query"] : [])] };
  const names = [state.index || known[0]?.name, state.beside].filter(Boolean);
  try {
    const { signal } = running;
    answers = await Promise.all(names.map((index) => api.search({ ...body, index }, signal)));
    at("problem").textContent = "";
    keepVector();
    show();
  } catch (error) {
    tell(error);
  }
}

/** A picture that alone was searched for is its vector from now on, which fits into the address. */
function keepVector() {
  const [part] = state.parts;
  if (state.parts.length !== 1 || !part.image || state.text.trim() || !answers[0]?.query) return;
  state = { ...state, parts: [{ ...part, image: undefined, vector: answers[0].query, weight: Math.abs(part.weight) }] };
  history.replaceState(null, "", toAddress(state));
}

function show() {
  showResults(at("results"), answers, acts);
  keys.reachable(at("results"));
  at("status").textContent = answers.map(summaryOf).join("; ");
  at("after").hidden = !answers.length;
  at("more").hidden = !answers.some((answer) => answer.results.length === state.k);
}

function showParts() {
  at("parts").replaceChildren(
    ...state.parts.map((part, number) => {
      const name = part.name ?? part.text ?? part.id;
      const weight = element("input", { type: "number", step: "0.25", min: "-10", max: "10", value: String(part.weight), "aria-label": `Weight of ${name}` });
      weight.addEventListener("change", () => change({ parts: state.parts.map((one, place) => (place === number ? { ...one, weight: Number(weight.value) || 1 } : one)) }));
      const remove = element("button", { type: "button", "aria-label": `Without ${name}`, onclick: () => change({ parts: state.parts.filter((_, place) => place !== number) }) }, "×");
      return element("li", { class: part.weight < 0 ? "less" : "" }, picture(part.uri, "") ?? "", element("span", { class: "name", title: name }, part.weight < 0 ? `less ${name}` : name), weight, remove);
    }),
  );
}

function tell(error) {
  if (error.name === "AbortError") return;
  if (error.status === 401) {
    at("enter").hidden = false;
    at("token").focus();
  } else if (error.status === 429) {
    clearTimeout(waiting);
    waiting = setTimeout(ask, 1000 * (error.retryAfter || 1));
  }
  at("problem").textContent = error.message;
}

/** What has to be known of the index that is asked before its results are believed. */
function showCaution() {
  const { caution } = known.find((one) => one.name === (state.index || known[0]?.name)) ?? {};
  at("caution").textContent = caution ? `Read with care: ${caution}` : "";
  at("caution").hidden = !caution;
}

async function showColumns() {
  const index = state.index || known[0]?.name;
  if (!index || columnsShown === index || !at("filters").open) return;
  columnsShown = index;
  try {
    const told = await api.columns(index);
    at("columns").replaceChildren(
      ...filterFields(told.columns, state.filters, (name, filter) => {
        const filters = { ...state.filters, [name]: filter };
        if (filter === undefined) delete filters[name];
        change({ filters }, { pause: TYPING_PAUSE });
      }),
    );
  } catch (error) {
    columnsShown = "";
    tell(error);
  }
}

async function showIndices() {
  try {
    known = await api.indices();
  } catch (error) {
    tell(error);
    return;
  }
  at("enter").hidden = true;
  at("problem").textContent = "";
  const option = (one) => element("option", { value: one.name }, `${one.name} (${one.n.toLocaleString("en")} ${one.gallery})`);
  at("index").replaceChildren(...known.map(option));
  at("beside").replaceChildren(element("option", { value: "" }, "nothing"), ...known.map(option));
  at("beside").parentElement.hidden = known.length < 2;
  restore();
}

/** Shows the search that the address holds. */
function restore() {
  state = fromAddress(location.hash);
  const names = known.map((one) => one.name);
  if (!names.includes(state.index)) state.index = "";
  if (!names.includes(state.beside)) state.beside = "";
  at("text").value = state.text;
  at("where").value = state.where;
  at("index").value = state.index || names[0] || "";
  at("beside").value = state.beside;
  columnsShown = "";
  if (filterCount(state)) at("filters").open = true;
  showCaution();
  showColumns();
  change({});
}

function listen() {
  at("search").addEventListener("submit", (event) => event.preventDefault());
  at("text").addEventListener("input", () => change({ text: at("text").value }, { pause: TYPING_PAUSE, typed: true }));
  at("where").addEventListener("input", () => change({ where: at("where").value }, { pause: 2 * TYPING_PAUSE, typed: true }));
  at("index").addEventListener("change", () => {
    change({ index: at("index").value, filters: {} });
    showCaution();
    showColumns();
  });
  at("beside").addEventListener("change", () => change({ beside: at("beside").value }));
  at("filters").addEventListener("toggle", showColumns);
  at("clear").addEventListener("click", () => {
    at("where").value = "";
    columnsShown = "";
    change({ filters: {}, where: "" });
    showColumns();
  });
  at("more").addEventListener("click", () => change({ k: Math.min(state.k * 2, 1000) }));
  at("csv").addEventListener("click", () => save(toCsv(answers), "text/csv", "results.csv"));
  at("html").addEventListener("click", async () => {
    const look = await (await fetch("/page/look.css")).text();
    save(toHtml(state.text || "Search", answers, location.href, look), "text/html", "results.html");
  });
  at("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    api.keepToken(at("token").value.trim());
    showIndices();
  });
  window.addEventListener("popstate", restore);
  listenForPictures(at("box"), at("picture"), (image, name, uri) => addPart({ image, name, uri, weight: 1 }, true), (told) => tell(new Error(told)));
  keys.listen(at("text"), at("results"));
}

listen();
showIndices();
