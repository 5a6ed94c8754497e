// The keyboard: / to the search box, arrows between cards, and one letter on a card for what can be done with it.

const STEPS = { ArrowRight: 1, ArrowLeft: -1 };
const LETTERS = { Enter: "open", m: "more", l: "less" };

export function listen(box, results) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select, textarea, dialog *");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      box.focus();
      box.select();
    } else if (event.key === "ArrowDown" && event.target === box) {
      event.preventDefault();
      results.querySelector(".card")?.focus();
    }
  });
  results.addEventListener("keydown", (event) => onCard(event, box, results));
}

/** One card can be reached with Tab; arrows lead from it to the others. */
export function reachable(results) {
  const first = results.querySelector(".card");
  if (first) first.tabIndex = 0;
}

function onCard(event, box, results) {
  const card = event.target.closest(".card");
  if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
  const act = event.target === card ? LETTERS[event.key.length === 1 ? event.key.toLowerCase() : event.key] : undefined;
  if (act) {
    event.preventDefault();
    card.acts[act]();
    return;
  }
  const cards = [...results.querySelectorAll(".card")];
  const next = nextCard(cards, card, event.key);
  if (next === undefined) return;
  event.preventDefault();
  if (next === null) box.focus();
  else {
    for (const one of cards) one.tabIndex = one === next ? 0 : -1;
    next.focus();
  }
}

/** The card that a key leads to; null: back to the search box; undefined: the key leads nowhere. */
function nextCard(cards, card, key) {
  const at = cards.indexOf(card);
  if (key in STEPS) return cards[at + STEPS[key]] ?? card;
  if (key === "Home") return cards[0];
  if (key === "End") return cards.at(-1);
  if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
  const here = card.getBoundingClientRect();
  const inColumn = cards.filter((one) => Math.abs(one.getBoundingClientRect().left - here.left) < here.width / 2);
  const step = inColumn.indexOf(card) + (key === "ArrowDown" ? 1 : -1);
  return step < 0 ? null : (inColumn[step] ?? card);
}
