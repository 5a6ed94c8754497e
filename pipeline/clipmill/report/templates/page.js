// Makes the page answer to hands. All that it shows stands in the page without it; it asks for nothing.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  const make = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const redraws = [];
  for (const one of all("[data-with-script]")) one.hidden = false;

  // Small pictures: squares of one sheet.
  const { sheet } = data;
  const places = new Map((sheet ? sheet.images : []).map((image, number) => [image, number]));
  const source = new Image();
  const ready = sheet ? new Promise((done) => { source.onload = done; source.src = sheet.picture; }) : new Promise(() => {});

  function tile(image) {
    const made = make("canvas", { width: sheet.side, height: sheet.side, className: "tiny" });
    made.setAttribute("aria-hidden", "true");
    const number = places.get(image), { side, across } = sheet;
    const [left, top] = [(number % across) * side, Math.floor(number / across) * side];
    ready.then(() => made.getContext("2d").drawImage(source, left, top, side, side, 0, 0, side, side));
    return made;
  }

  // A picture by itself, large; arrows go on to its neighbours.
  const inside = make("div"), says = make("p"), close = make("button", { textContent: "Close", autofocus: true });
  const large = make("dialog", { className: "large" }, inside, says, close);
  large.setAttribute("aria-label", "Picture");
  document.body.append(large);
  close.onclick = () => large.close();
  large.onclick = (event) => { if (event.target === large) large.close(); };
  const pictures = all(".shot img, .card img, .pic img");
  let open = 0;
  function enlarge(number) {
    open = (number + pictures.length) % pictures.length;
    const one = pictures[open], around = one.closest(".example, .pair, .card, tr");
    const text = around && around.querySelector("q, b, .pair > div, dl, .text");
    inside.replaceChildren(make("img", { src: one.src, alt: one.alt }));
    says.textContent = [text && text.textContent, one.closest(".shot, .card, .pic").title].filter(Boolean).join(" · ");
    if (!large.open) large.showModal();
  }
  pictures.forEach((one, number) => {
    one.tabIndex = 0;
    one.setAttribute("role", "button");
    one.onclick = () => enlarge(number);
    one.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge(number);
    };
  });
  large.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) enlarge(open + step);
  };

  // Queries: sorted by a click on a heading, narrowed by the form or by a bar.
  const table = document.querySelector("table.sieved");
  if (table) {
    const form = document.querySelector("form.sieve"), only = form.querySelector(".only"), told = form.querySelector("output");
    const body = table.tBodies[0], rows = [...body.rows];
    let narrowed = null;
    for (const row of rows) {
      const image = Number(row.dataset.image);
      if (row.dataset.image && places.has(image)) row.cells[1].prepend(tile(image));
    }
    const cell = (row, number) => {
      const text = row.cells[number].textContent.trim(), value = Number(row.dataset.rank);
      return number === 2 ? value : text.toLowerCase();
    };
    const fits = (row) => {
      if (!narrowed) return true;
      if (narrowed.label !== undefined) return row.querySelector("[data-label]").textContent === narrowed.label;
      return all("[data-slice]", row)[data.columns.indexOf(narrowed.column)]?.textContent === narrowed.slice;
    };
    const sieve = () => {
      const words = form.text.value.toLowerCase().split(/\s+/).filter(Boolean), beyond = Number(form.beyond.value);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        const kept = (!form.task.value || row.dataset.task === form.task.value) && Number(row.dataset.rank) > beyond
          && words.every((word) => text.includes(word)) && fits(row);
        row.hidden = !kept;
        shown += kept;
      }
      only.hidden = !narrowed;
      only.textContent = !narrowed ? "" : narrowed.label !== undefined ? `label ${narrowed.label}` : `${narrowed.column} ${narrowed.slice}`;
      told.textContent = `${shown} of ${rows.length}`;
    };
    form.onsubmit = (event) => event.preventDefault();
    form.oninput = sieve;
    form.onreset = () => { narrowed = null; setTimeout(sieve); };
    [...table.tHead.rows[0].cells].forEach((heading, number) => {
      const button = make("button", { textContent: heading.textContent, type: "button" });
      heading.replaceChildren(button);
      button.onclick = () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const before = (a, b) => { const [x, y] = [cell(a, number), cell(b, number)]; return x < y ? -1 : x > y ? 1 : 0; };
        body.append(...[...body.rows].sort((a, b) => (down ? before(b, a) : before(a, b))));
      };
    });
    for (const link of all('a[href="#queries"][data-task]')) {
      link.onclick = () => {
        const { task, beyond, label, column, slice } = link.dataset;
        form.task.value = task;
        form.beyond.value = beyond || "0";
        form.text.value = "";
        narrowed = label !== undefined ? { label } : column !== undefined ? { column, slice } : null;
        sieve();
      };
    }
    sieve();
  }

  // The map.
  const sky = document.querySelector(".sky");
  if (sky && data.map) {
    const { map } = data, canvas = sky.querySelector("canvas"), here = sky.querySelector(".here");
    const choice = document.querySelector('select[name="colour"]'), legend = document.querySelector(".legend");
    const HUES = 8, MARGIN = 8, REACH = 14;
    const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const known = (values) => values.filter((value) => value !== null);
    let size = 0;
    const at = (number) => [MARGIN + map.x[number] * (size - 2 * MARGIN), MARGIN + map.y[number] * (size - 2 * MARGIN)];

    function colours() {
      const chosen = map.colours[choice.value];
      if (!chosen) return { of: () => style("--one"), entries: [] };
      if (!chosen.names.length) {
        const low = Math.min(...known(chosen.values)), high = Math.max(...known(chosen.values));
        const mix = (value) => `color-mix(in oklab, ${style("--one")} ${Math.round((100 * (value - low)) / (high - low || 1))}%, ${style("--two")})`;
        return { of: (number) => (chosen.values[number] === null ? style("--rule") : mix(chosen.values[number])),
          entries: [[mix(low), low.toFixed(3)], [mix((low + high) / 2), ((low + high) / 2).toFixed(3)], [mix(high), high.toFixed(3)]] };
      }
      const counts = chosen.names.map(() => 0);
      for (const value of known(chosen.values)) counts[value] += 1;
      const order = counts.map((_, number) => number).sort((a, b) => counts[b] - counts[a]);
      const hue = (value) => (order.indexOf(value) < HUES ? style(`--hue${order.indexOf(value) + 1}`) : style("--strong-rule"));
      const hues = chosen.names.map((_, number) => hue(number));
      const entries = order.slice(0, HUES).map((value) => [hues[value], `${chosen.names[value]}: ${counts[value]}`]);
      if (order.length > HUES) entries.push([style("--strong-rule"), `${order.length - HUES} others`]);
      return { of: (number) => (chosen.values[number] === null ? style("--rule") : hues[chosen.values[number]]), entries };
    }

    function draw() {
      size = Math.min(sky.clientWidth, 640);
      const ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d"), found = colours();
      canvas.width = canvas.height = size * ratio;
      canvas.style.width = canvas.style.height = `${size}px`;
      pen.scale(ratio, ratio);
      map.images.forEach((_, number) => {
        const [x, y] = at(number);
        pen.fillStyle = found.of(number);
        pen.beginPath();
        pen.arc(x, y, map.images.length > 500 ? 2.5 : 4, 0, 7);
        pen.fill();
      });
      legend.replaceChildren(...found.entries.map(([colour, text]) => {
        const swatch = make("i");
        swatch.style.background = colour;
        return make("li", {}, swatch, text);
      }));
    }

    function show(event) {
      const box = canvas.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let nearest = -1, least = REACH;
      map.images.forEach((_, number) => {
        const [left, top] = at(number), far = Math.hypot(left - x, top - y);
        if (far < least) [nearest, least] = [number, far];
      });
      here.hidden = nearest < 0;
      if (nearest < 0) return;
      const chosen = map.colours[choice.value], value = chosen && chosen.values[nearest], image = map.images[nearest];
      const told = value === null || value === undefined ? "" : `${chosen.title}: ${chosen.names.length ? chosen.names[value] : value.toFixed(3)}`;
      const shown = places.has(image) ? [tile(image)] : [];
      here.replaceChildren(...shown, make("b", { textContent: map.ids[nearest] }), make("span", { textContent: told }));
      const [left, top] = at(nearest), past = left > size / 2;
      Object.assign(here.style, { top: `${top}px`, left: past ? "auto" : `${left + 14}px`, right: past ? `${sky.clientWidth - left + 14}px` : "auto" });
    }
    canvas.onpointermove = canvas.onpointerdown = show;
    canvas.onpointerleave = () => { here.hidden = true; };
    choice.onchange = draw;
    redraws.push(draw);
  }
  const redraw = () => redraws.forEach((one) => one());
  for (const name of ["resize", "beforeprint", "afterprint"]) addEventListener(name, redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  redraw();
})();
