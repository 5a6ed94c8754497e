// Filters from the columns of an index, and the SQL condition that they are.

import { element, shown } from "/page/elements.js";

/** The condition of all filters and of what was typed; null where there is none. */
export function conditionOf(filters, typed) {
  const conditions = Object.entries(filters).map(([name, filter]) => oneCondition(quotedName(name), filter)).filter(Boolean);
  if (typed.trim()) conditions.push(`(${typed.trim()})`);
  return conditions.length ? conditions.join(" and ") : null;
}

export function filterCount(state) {
  return Object.keys(state.filters).length + (state.where.trim() ? 1 : 0);
}

function oneCondition(name, filter) {
  if (Array.isArray(filter)) return filter.length ? `${name} in (${filter.map(quoted).join(", ")})` : null;
  if (typeof filter?.contains === "string" && filter.contains) return `contains(lower(${name}), ${quoted(filter.contains.toLowerCase())})`;
  const ends = [];
  if (Number.isFinite(filter?.low)) ends.push(`${name} >= ${filter.low}`);
  if (Number.isFinite(filter?.high)) ends.push(`${name} <= ${filter.high}`);
  return ends.join(" and ") || null;
}

function quotedName(name) {
  return `"${name.replaceAll('"', '""')}"`;
}

function quoted(value) {
  return typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value);
}

/** Fields for the columns; `onChange(name, filter)` is told of a filter, or of undefined where it is gone. */
export function filterFields(columns, filters, onChange) {
  const makers = { values: valueField, range: rangeField, text: textField };
  return columns.map((column) =>
    element("fieldset", {}, element("legend", {}, column.name), makers[column.kind](column, filters[column.name], (filter) => onChange(column.name, filter))),
  );
}

function valueField(column, filter, onChange) {
  const chosen = new Set(Array.isArray(filter) ? filter : []);
  const boxes = column.values.map(([value, count]) => {
    const box = element("input", { type: "checkbox", checked: chosen.has(value) });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(value);
      else chosen.delete(value);
      onChange(chosen.size ? [...chosen] : undefined);
    });
    return element("label", {}, box, shown(value), element("span", { class: "count" }, count.toLocaleString("en")));
  });
  return element("div", { class: "values" }, ...boxes);
}

function rangeField(column, filter, onChange) {
  const found = { ...filter };
  const field = (end, word) => {
    const input = element("input", { type: "number", step: "any", placeholder: shown(column[end]), value: shown(filter?.[end]) });
    input.addEventListener("input", () => {
      found[end] = input.value === "" ? undefined : Number(input.value);
      onChange(found.low === undefined && found.high === undefined ? undefined : { ...found });
    });
    return element("label", {}, word, input);
  };
  return element("div", { class: "ends" }, field("low", "from"), field("high", "to"));
}

function textField(column, filter, onChange) {
  const input = element("input", { class: "contains", type: "text", "aria-label": `${column.name} contains`, placeholder: "contains …", value: filter?.contains ?? "" });
  input.addEventListener("input", () => onChange(input.value ? { contains: input.value } : undefined));
  return input;
}
