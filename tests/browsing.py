"""What is looked for in a page by a real browser."""

import shutil
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}
OVERLAPS = """() => [...document.querySelectorAll("svg.plot")].flatMap((plot) => {
  const texts = [...plot.querySelectorAll("text")].filter((one) => one.textContent.trim());
  const boxes = texts.map((one) => ({ says: one.textContent, at: one.getBoundingClientRect() }));
  const across = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0.5;
  const down = (a, b) => Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 0.5;
  const name = plot.getAttribute("aria-label");
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => across(a.at, b.at) && down(a.at, b.at))
    .map((b) => `${name}: ${a.says} / ${b.says}`));
})"""
"""Every two labels of a plot whose boxes touch, in words."""
CUT = """() => [...document.querySelectorAll("svg.plot")].flatMap((plot) => {
  const outer = plot.parentElement.getBoundingClientRect();
  return [...plot.querySelectorAll("text")].map((one) => ({ says: one.textContent, at: one.getBoundingClientRect() }))
    .filter(({ at }) => at.width && (at.left < outer.left - 1 || at.right > document.documentElement.clientWidth + 1))
    .map(({ says }) => `${plot.getAttribute("aria-label")}: ${says}`);
})"""
"""Every label of a plot that reaches out of its column to the left, or out of the page to the right."""
FITS = "document.documentElement.scrollWidth <= innerWidth"
"""Whether nothing is wider than the window."""


def until(page: Any, condition: str, milliseconds: int = 5000) -> None:
    """Waits for a condition in JavaScript: playwright's own way to wait evaluates text, which a page's policy may forbid."""
    for _ in range(milliseconds // 50):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not within {milliseconds} ms: {condition}")
