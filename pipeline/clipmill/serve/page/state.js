// A whole search as one object, and as the part of the address after #, which stays in the browser.

export const EMPTY = { text: "", parts: [], index: "", beside: "", filters: {}, where: "", k: 24 };

/** The search that an address holds; what is not understood there is left out. */
export function fromAddress(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { ...EMPTY, parts: [], filters: {} };
  for (const name of ["text", "index", "beside", "where"]) state[name] = found.get(name) ?? "";
  const k = Number(found.get("k"));
  if (Number.isInteger(k) && k > 0) state.k = k;
  state.parts = list(parsed(found.get("parts"))).filter(isPart).map((part) => (part.short ? { ...part, vector: unpacked(part.short) } : part));
  const filters = parsed(found.get("filters"));
  if (filters && typeof filters === "object" && !Array.isArray(filters)) state.filters = filters;
  return state;
}

/** The address of a search. A picture is in it as its vector, in 16 bits a number. */
export function toAddress(state) {
  const told = new URLSearchParams();
  for (const name of ["text", "index", "beside", "where"]) if (state[name]) told.set(name, state[name]);
  if (state.parts.length) told.set("parts", JSON.stringify(state.parts.map(sent)));
  if (Object.keys(state.filters).length) told.set("filters", JSON.stringify(state.filters));
  if (state.k !== EMPTY.k) told.set("k", String(state.k));
  const text = told.toString();
  return text ? `#${text}` : "#";
}

/** What the service is asked: the text and all other parts, weighted. Null where nothing is asked yet. */
export function queryOf(state) {
  const parts = state.parts.map(({ id, text, vector, image, weight }) => {
    const way = vector ? { vector } : image ? { image } : id !== undefined ? { id } : { text };
    return { ...way, weight };
  });
  if (state.text.trim()) parts.unshift({ text: state.text.trim(), weight: 1 });
  return parts.length ? parts : null;
}

function sent({ id, text, vector, weight, name }) {
  if (vector) return { short: packed(vector), weight, name };
  return id !== undefined ? { id, weight } : { text, weight };
}

function isPart(part) {
  const asks = part && ["id", "text", "short"].some((way) => typeof part[way] === "string");
  return asks && typeof part.weight === "number" && Number.isFinite(part.weight);
}

function parsed(text) {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    return null;
  }
}

function list(value) {
  return Array.isArray(value) ? value : [];
}

/** Numbers of a unit vector as 16-bit integers in base64. */
function packed(vector) {
  const bytes = new Uint8Array(Int16Array.from(vector, (value) => Math.round(Math.max(-1, Math.min(1, value)) * 32767)).buffer);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function unpacked(text) {
  try {
    const raw = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
    return Array.from(new Int16Array(bytes.buffer), (value) => value / 32767);
  } catch {
    return [];
  }
}
