// Making elements. Text is only ever set as text, so nothing in a caption can be markup.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else if (value !== undefined && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** An image from a data: address of the service, and from nowhere else. */
export function picture(uri, alt) {
  return /^data:image\/(jpeg|png|webp|gif);base64,/.test(uri ?? "") ? element("img", { src: uri, alt, decoding: "async" }) : null;
}

export function shown(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Math.round(value * 1e4) / 1e4);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
