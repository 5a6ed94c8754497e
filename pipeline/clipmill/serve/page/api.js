// Requests to the service. A token, where one is needed, is kept for this tab and sent in a header.

const KEPT = "clipmill-token";

/** A failure that the service told of in a sentence. */
export class Problem extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export function keepToken(token) {
  sessionStorage.setItem(KEPT, token);
}

export function search(body, signal) {
  return asked("/v1/search", { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });
}

export function indices() {
  return asked("/v1/indices");
}

export function columns(index) {
  return asked(`/v1/indices/${encodeURIComponent(index)}/columns`);
}

export function item(id, index) {
  return asked(`/v1/items/${encodeURIComponent(id)}?index=${encodeURIComponent(index)}`);
}

async function asked(path, options = {}) {
  const token = sessionStorage.getItem(KEPT);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer; it may have been stopped.");
  }
  if (response.ok) return response.json();
  const told = await response.json().catch(() => ({}));
  throw new Problem(response.status, told.detail ?? `The service answered ${response.status}.`, Number(response.headers.get("Retry-After")) || 0);
}
