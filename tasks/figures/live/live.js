"use strict";
// The pictures of a report: what is chosen above them is shared, what is chosen in one is its own.

const NS = "http://www.w3.org/2000/svg";
const REPORT = JSON.parse(document.getElementById("report").textContent);
const VARIABLES = new Map(REPORT.variables.map((v) => [v.name, v]));
const ROW = REPORT.rows.dim;
const AXES = REPORT.axes;
const MANY = 12; // rows, beyond which a page begins with their means
const RANKS = ["rank", "row", "column", "final_rank", "component"];
const SHARED = ["layer", "pair", "attention", "step"];
const state = { rows: new Set(REPORT.rows.labels.map((_, i) => i)), at: {}, logx: false, logy: false, chance: false, mean: false };
let block = null;

const words = (name) => name.replaceAll("_", " ");
const short = (dim, label) => (REPORT.short[dim] ?? {})[label] ?? (typeof label === "number" ? String(+label.toPrecision(6)) : label);
const number = (x) => (x === null || Number.isNaN(x) ? "–" : Math.abs(x) >= 1e5 || (x && Math.abs(x) < 1e-3) ? x.toExponential(3) : String(+x.toPrecision(5)));

async function unpack() {
  const bytes = Uint8Array.from(atob(document.getElementById("block").textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  block = new Float32Array(await new Response(stream).arrayBuffer());
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "checked" || name === "selected" || name === "hidden") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Values ------------------------------------------------------------------------------------------

function places(variable, dim) {
  return variable.kept[dim] ?? REPORT.labels[dim].map((_, i) => i);
}

function at(variable, row, where) {
  let index = row;
  variable.dims.forEach((dim, i) => { index = index * variable.shape[i + 1] + where[dim]; });
  return block[variable.offset + index];
}

/** Where a chosen label of a dimension lies among those that a variable has: the nearest one before it. */
function nearest(variable, dim, chosen) {
  const kept = places(variable, dim);
  let found = 0;
  kept.forEach((place, i) => { if (place <= chosen) found = i; });
  return found;
}

/** What a variable would be without structure, by the names that null levels have. */
function nullOf(variable) {
  const base = variable.name.replace(/_score$/, "");
  for (const name of [`null_${variable.name}`, `${variable.name}_null`, `${base}_null`]) {
    const found = VARIABLES.get(name);
    if (found && found !== variable && found.dims.every((dim) => dim === "null" || variable.dims.includes(dim))) return found;
  }
  return null;
}

/** Whether a variable has any value. */
function known(variable) {
  const size = variable.shape.reduce((a, b) => a * b, 1);
  return block.subarray(variable.offset, variable.offset + size).some((value) => !Number.isNaN(value));
}

function chanceAt(level, variable, row, where) {
  if (!level) return NaN;
  const there = Object.fromEntries(level.dims.map((dim) => [dim, dim === "null" ? 0 : nearest(level, dim, places(variable, dim)[where[dim]])]));
  return at(level, row, there);
}

/** Every value of a picture: an entry for each row and label that is shown, means over seeds where they are wanted. */
function points(panel) {
  const { variable, x, color } = panel;
  const level = nullOf(variable), axis = AXES[x];
  const free = [x, color, panel.dash].filter((dim) => dim && dim !== ROW && variable.dims.includes(dim));
  const fixed = Object.fromEntries(variable.dims.filter((dim) => !free.includes(dim)).map((dim) => [dim, nearest(variable, dim, panel.place(dim))]));
  const rows = panel.oneRow ? [panel.row()] : [...state.rows].sort((a, b) => a - b);
  const out = [];
  for (const row of rows) {
    const walk = (rest, where) => {
      if (rest.length) {
        const [dim, ...others] = rest;
        for (let i = 0; i < places(variable, dim).length; i++) walk(others, { ...where, [dim]: i });
        return;
      }
      let value = at(variable, row, where);
      const chance = chanceAt(level, variable, row, where);
      if (state.chance && level) value /= chance;
      if (Number.isNaN(value)) return;
      const label = (dim) => (dim === ROW ? REPORT.rows.labels[row].name : REPORT.labels[dim][places(variable, dim)[where[dim]]]);
      const dash = panel.dash ? label(panel.dash) : "";
      out.push({ row, x: axis ? axis.values[row] : x ? label(x) : 0, z: axis ? axis.lines[row] : color ? label(color) : REPORT.rows.labels[row].name, dash, value, chance });
    };
    walk(free, fixed);
  }
  return panel.averaged ? means(out, axis) : out;
}

/** Means over the rows of one line, or one configuration, with the least and the largest; rows without a value are left out. */
function means(values, axis) {
  const groups = new Map();
  for (const one of values) {
    const key = `${axis ? one.z : REPORT.rows.labels[one.row].level}|${one.x}|${one.dash}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(one);
  }
  const made = [...groups.values()].map((of) => {
    const all = of.map((one) => one.value), level = REPORT.rows.labels[of[0].row].level;
    return { ...of[0], z: axis ? of[0].z : REPORT.levels[level].name, value: all.reduce((a, b) => a + b, 0) / all.length, low: Math.min(...all), high: Math.max(...all), n: all.length };
  });
  // A label that the first row lacks comes late: lines go from label to label in their order.
  return typeof made[0]?.x === "number" ? made.sort((a, b) => a.x - b.x) : made;
}

// Pictures ----------------------------------------------------------------------------------------

function colors(panel, data) {
  if (AXES[panel.x]) {
    const of = AXES[panel.x].colors;
    return { type: "categorical", domain: Object.keys(of), range: Object.values(of), legend: Object.keys(of).length > 1 };
  }
  if (panel.color === ROW || !panel.color) {
    const of = panel.averaged ? REPORT.levels.map((l) => [l.name, l.color]) : REPORT.rows.labels.map((r) => [r.name, REPORT.levels[r.level].color]);
    return { type: "categorical", domain: of.map(([name]) => name), range: of.map(([, color]) => color), legend: false };
  }
  const labels = [...new Set(data.map((one) => one.z))];
  if (labels.every((label) => typeof label === "number")) return { type: "linear", scheme: "viridis", reverse: RANKS.includes(panel.color), legend: true, label: words(panel.color) };
  return { type: "categorical", scheme: "observable10", legend: labels.length <= 12, domain: labels };
}

function lines(panel, data, width) {
  const logy = panel.logy && data.some((one) => one.value > 0);
  const logx = state.logx && typeof data[0]?.x === "number";
  const shown = data.filter((one) => (!logy || one.value > 0) && (!logx || one.x > 0));
  const categorical = typeof data[0]?.x === "string";
  const names = categorical ? [...new Set(shown.map((one) => one.x))] : [];
  const slanted = 7 * Math.max(0, ...names.map((name) => short(panel.x, name).length)) * names.length > width - 90;
  const marks = [Plot.gridY({ strokeOpacity: 0.12 })];
  for (const dash of new Set(shown.map((one) => one.dash))) {
    const of = shown.filter((one) => one.dash === dash);
    if (panel.averaged) marks.push(Plot.areaY(of, { x: "x", y1: "low", y2: "high", fill: "z", fillOpacity: Math.min(0.15, 0.6 / new Set(of.map((one) => one.z)).size), z: "z" }));
    marks.push(Plot.line(of, { x: "x", y: "value", stroke: "z", z: "z", strokeWidth: 1.6, strokeDasharray: dash === "train" ? "5,3" : undefined }));
  }
  marks.push(...groks(panel, shown));
  if (shown.length < 400 || categorical) marks.push(Plot.dot(shown, { x: "x", y: "value", fill: "z", r: 1.8 }));
  const levels = [...new Set(shown.map((one) => one.chance).filter((c) => !Number.isNaN(c)))];
  const drawn = state.chance ? [1] : levels.slice(0, 12);
  if (levels.length && shown.length) {
    marks.push(Plot.ruleY(drawn, { stroke: "#888", strokeDasharray: "3,3", title: () => "what chance gives" }));
    marks.push(Plot.text([Math.max(...drawn)], { y: (level) => level, text: () => "chance", frameAnchor: "right", dy: -7, fill: "#777", fontSize: 11, stroke: "white", strokeWidth: 3 }));
  }
  marks.push(Plot.tip(shown, Plot.pointer({ x: "x", y: "value", title: (one) => hover(panel, one) })));
  return Plot.plot({
    width, height: Math.round(width * 0.56) + (slanted ? 36 : 0), marginLeft: 58, marginBottom: slanted ? 72 : 36, style: { fontSize: "12px", background: "transparent" },
    x: { label: words(panel.x), ...(categorical ? { type: "point", domain: names, tickFormat: (name) => short(panel.x, name), tickRotate: slanted ? -35 : 0 } : logx ? { type: "log" } : {}), ...(panel.zoom && !categorical ? { domain: panel.zoom } : {}) },
    y: { label: state.chance && levels.length ? "times chance" : panel.variable.units === "1" ? null : panel.variable.units, ...(logy ? { type: "log" } : {}), tickFormat: logy ? (value) => (value < 1e-3 ? value.toExponential(0) : String(value)) : undefined, nice: !panel.zoom && !logy, inset: logy ? 6 : 0 },
    color: colors(panel, shown), clip: panel.zoom !== null, marks,
  });
}

/** The steps at which the shown runs grok, as thin lines. */
function groks(panel, shown) {
  const variable = VARIABLES.get("grok_step");
  if (!variable || panel.x !== "step" || panel.color !== ROW || state.mean) return [];
  const rows = [...new Set(shown.map((one) => one.row))].map((row) => ({ step: at(variable, row, {}), z: REPORT.rows.labels[row].name }));
  const some = rows.filter((one) => !Number.isNaN(one.step) && one.step >= 0);
  return [Plot.ruleX(some, { x: "step", stroke: "z", strokeDasharray: "2,3", strokeOpacity: 0.7 })];
}

function heat(panel, data, width) {
  const ys = [...new Set(data.map((one) => one.z))];
  const numeric = ys.every((label) => typeof label === "number");
  const values = data.map((one) => one.value).filter((v) => !panel.logy || v > 0);
  const log = panel.logy && values.length > 0;
  const xs = [...new Set(data.map((one) => one.x))];
  return Plot.plot({
    width, height: Math.max(140, Math.min(Math.round(width * 0.6), 26 * ys.length + 70)), marginLeft: numeric ? 46 : Math.min(190, 8 + 6.4 * Math.max(...ys.map((y) => short(panel.color, y).length))), marginBottom: 36, padding: 0,
    style: { fontSize: "12px", background: "transparent" },
    x: { type: "band", domain: xs, label: words(panel.x), ticks: thin(xs, 8), tickFormat: (x) => short(panel.x, x) },
    y: { type: "band", domain: ys, label: null, ticks: thin(ys, numeric ? 8 : 30), tickFormat: (y) => short(panel.color, y) },
    color: { type: log ? "log" : "linear", scheme: "magma", legend: true, label: state.chance && nullOf(panel.variable) ? "times chance" : null, tickFormat: "~g" },
    marks: [
      Plot.cell(data.filter((one) => !log || one.value > 0), { x: "x", y: "z", fill: "value", inset: -0.3 }),
      Plot.tip(data, Plot.pointer({ x: "x", y: "z", title: (one) => hover(panel, one) })),
    ],
  });
}

const thin = (labels, most) => labels.filter((_, i) => i % Math.ceil(labels.length / most) === 0);

function hover(panel, one) {
  const who = panel.oneRow || panel.color !== ROW ? `${REPORT.rows.labels[one.row].name}\n` : "";
  const band = one.n > 1 ? `\n${number(one.low)} to ${number(one.high)} over ${one.n}` : "";
  const chance = Number.isNaN(one.chance) || state.chance ? "" : `\nchance ${number(one.chance)}`;
  const z = panel.color ? `${panel.color === ROW ? "" : words(panel.color) + " "}${short(panel.color, one.z)}\n` : "";
  const dash = one.dash ? `${words(panel.dash)} ${one.dash}\n` : "";
  return `${who}${z}${dash}${words(panel.x)} ${short(panel.x, one.x)}\n${number(one.value)}${band}${chance}`;
}

class Panel {
  constructor(spec) {
    this.variable = VARIABLES.get(spec.variable);
    this.kind = spec.kind ?? "lines";
    this.title = spec.title;
    this.log = spec.log ?? "";
    this.wanted = [`${spec.x} ${this.kind}`];
    this.own = {};
    this.assign(spec.x, spec.color);
    this.figure = element("figure", { class: "panel" });
    this.figure.dataset.variable = spec.variable;
  }

  /** Choose the axes that a variable can have, those wanted first. */
  assign(x, color) {
    const dims = this.variable.dims;
    const axes = this.kind === "heat" ? [] : Object.keys(AXES);
    this.x = dims.includes(x) || axes.includes(x) ? x : !dims.length && axes.length ? axes[0] : dims.find((dim) => dim === "step") ?? dims.find((dim) => RANKS.includes(dim)) ?? dims[0] ?? ROW;
    const others = [ROW, ...dims].filter((dim) => dim !== this.x);
    this.color = AXES[this.x] ? ROW : others.includes(color) ? color : this.kind === "heat" ? dims.find((dim) => dim !== this.x) ?? ROW : others[0];
    if (this.kind === "heat" && this.color === ROW) this.kind = "lines";
    this.dash = this.kind === "lines" && dims.includes("split") && ![this.x, this.color].includes("split") ? "split" : null;
    this.zoom = null;
  }

  get logy() { return state.logy || this.log === "y"; }
  /** Whether what is shown are means over rows. */
  get averaged() { return this.x in AXES || (state.mean && !this.oneRow && this.color === ROW); }
  get oneRow() { return this.color !== ROW && this.x !== ROW; }
  row() { const chosen = this.own[ROW] ?? 0; return state.rows.has(chosen) || !state.rows.size ? chosen : Math.min(...state.rows); }
  place(dim) { return this.own[dim] ?? state.at[dim] ?? (["step", "split"].includes(dim) ? REPORT.labels[dim].length - 1 : 0); }

  draw() {
    const { variable } = this;
    const data = points(this);
    this.data = data;
    const width = Math.max(300, Math.min(620, this.figure.clientWidth || 560) - 4);
    const where = this.fixed().filter((dim) => SHARED.includes(dim)).map((dim) => short(dim, REPORT.labels[dim][places(variable, dim)[nearest(variable, dim, this.place(dim))]]));
    const name = (this.title && this.wanted.includes(`${this.x} ${this.kind}`) ? this.title : variable.title) + (this.dash ? ": validation solid, training dashed" : "");
    const heading = element("figcaption", {}, element("b", {}, name[0].toUpperCase() + name.slice(1)), where.length ? ` · ${where.map((w, i) => (this.fixed().filter((d) => SHARED.includes(d))[i] === "step" ? `step ${w}` : w)).join(" · ")}` : "");
    let picture;
    if (!data.length) picture = element("p", { class: "none" }, "no values here");
    else picture = this.kind === "heat" ? heat(this, data, width) : lines(this, data, width);
    this.picture = picture;
    if (this.kind === "lines" && data.length) this.zoomable(picture);
    const svg = picture.tagName === "svg" ? picture : picture.querySelector?.("svg:last-of-type");
    svg?.setAttribute("role", "img");
    svg?.setAttribute("aria-label", `${name}, ${data.length} values`);
    this.figure.replaceChildren(heading, this.choices(), picture, this.below());
  }

  fixed() { return this.variable.dims.filter((dim) => ![this.x, this.color, this.dash].includes(dim)); }

  /** What is chosen in this picture alone. */
  choices() {
    const menu = element("div", { class: "choices" });
    const dims = [ROW, ...this.variable.dims];
    const select = (label, options, chosen, act) => {
      const made = element("select", { onchange: (event) => { act(event.target.value); this.draw(); } });
      for (const [value, text] of options) made.append(element("option", { value, selected: String(value) === String(chosen) }, text));
      menu.append(element("label", {}, `${label} `, made));
    };
    const along = [...this.variable.dims, ...Object.keys(AXES)];
    if (along.length > 1) {
      select("along", along.map((dim) => [dim, words(dim)]), this.x, (dim) => this.assign(dim, this.color === dim ? this.x : this.color));
      select(this.kind === "heat" ? "down" : "colour", dims.filter((dim) => dim !== this.x && !(this.kind === "heat" && dim === ROW) && (!AXES[this.x] || dim === ROW)).map((dim) => [dim, words(dim)]), this.color, (dim) => this.assign(this.x, dim));
      if (this.variable.dims.length > 1) select("as", [["lines", "lines"], ["heat", "heat map"]], this.kind, (kind) => { this.kind = kind; this.assign(this.x, this.color); });
    }
    select("values", [["", "linear"], ["y", "logarithmic"]], this.log, (log) => { this.log = log; });
    for (const dim of this.fixed()) {
      if (SHARED.includes(dim) && dim in state.at) continue;
      if (places(this.variable, dim).length < 2) continue;
      select(words(dim), places(this.variable, dim).map((place) => [place, short(dim, REPORT.labels[dim][place])]), this.place(dim), (place) => { this.own[dim] = +place; });
    }
    if (this.oneRow && REPORT.rows.labels.length > 1) select(ROW, REPORT.rows.labels.map((row, i) => [i, row.name]), this.row(), (row) => { this.own[ROW] = +row; });
    return menu;
  }

  below() {
    const { variable } = this;
    const about = variable.about ? `${variable.about}. ` : "";
    const kept = Object.entries(variable.kept).map(([dim, of]) => `${of.length} of ${REPORT.labels[dim].length} ${words(dim)}s shown`).join(", ");
    const table = element("details", { ontoggle: (event) => { if (event.target.open && event.target.children.length < 2) event.target.append(this.table()); } }, element("summary", {}, "table"));
    const code = element("details", {}, element("summary", {}, "code"), element("pre", {}, this.code()));
    const button = (text, act) => element("button", { type: "button", onclick: act }, text);
    return element("div", { class: "below" }, element("small", {}, `${about}${kept}`), element("nav", {}, button("CSV", () => this.csv()), button("SVG", () => this.svg()), button("PNG", () => this.png()), table, code));
  }

  /** Three lines of Python that draw what is shown, of one split where there are two. */
  code() {
    const { variable } = this, quoted = (label) => JSON.stringify(label), place = (dim) => nearest(variable, dim, this.place(dim));
    const fixed = [...this.fixed(), ...(this.dash ? [this.dash] : [])].filter((dim) => dim !== ROW);
    const chosen = fixed.map((dim) => `${dim}=${quoted(REPORT.labels[dim][places(variable, dim)[place(dim)]])}`);
    if (this.oneRow) chosen.push(`${ROW}=${quoted(REPORT.rows.labels[this.row()].id)}`);
    const open = `values = specdyn.open("${REPORT.url}")["${variable.group || "/"}"].to_dataset()["${variable.name}"]`;
    return `import specdyn\n${open}${chosen.length ? `.sel(${chosen.join(", ")})` : ""}\nvalues.${this.drawing()}`;
  }

  /** What draws values in xarray, which has no axes of words. */
  drawing() {
    const named = (dim) => dim !== ROW && typeof REPORT.labels[dim][0] === "string";
    if (this.kind === "heat") return `${named(this.color) ? `drop_vars("${this.color}").` : ""}plot(x="${this.x}", y="${this.color}")`;
    if (AXES[this.x]) return `plot.scatter(x="${this.x}")`;
    if (this.x === ROW) return 'to_series().plot(style="o")';
    if (named(this.x)) return `to_series().unstack("${this.x}").T.plot(style="o-")`;
    return `plot.line(x="${this.x}"${this.color === this.x ? "" : `, hue="${this.color}"`})`;
  }

  rowsOf() {
    return this.data.map((one) => [this.averaged ? one.z : REPORT.rows.labels[one.row].name, ...(this.color && this.color !== ROW ? [one.z] : []), ...(this.dash ? [one.dash] : []), one.x, one.value]);
  }

  heads() { return [ROW, ...(this.color && this.color !== ROW ? [this.color] : []), ...(this.dash ? [this.dash] : []), this.x, this.variable.name]; }

  table() {
    const most = 400, body = this.rowsOf();
    const cells = (of, tag) => of.map((cell) => element(tag, {}, typeof cell === "number" ? number(cell) : String(cell)));
    const made = element("table", {}, element("tr", {}, ...cells(this.heads().map(words), "th")));
    for (const one of body.slice(0, most)) made.append(element("tr", {}, ...cells(one, "td")));
    return element("div", { class: "wide" }, made, body.length > most ? element("small", {}, `the first ${most} of ${body.length}; CSV has all`) : "");
  }

  csv() {
    const quote = (cell) => (typeof cell === "string" ? `"${cell.replaceAll('"', '""')}"` : String(cell));
    const text = [this.heads(), ...this.rowsOf()].map((of) => of.map(quote).join(",")).join("\n");
    save(`${this.variable.name}.csv`, new Blob([text + "\n"], { type: "text/csv" }));
  }

  /** The picture as one SVG that stands by itself. */
  source() {
    const all = this.picture.tagName === "svg" ? [this.picture] : [...this.picture.querySelectorAll("svg")];
    const svg = all[all.length - 1].cloneNode(true);
    svg.setAttribute("xmlns", NS);
    svg.setAttribute("font-family", "system-ui, sans-serif");
    svg.querySelectorAll("[aria-label=tip]").forEach((tip) => tip.remove());
    const back = document.createElementNS(NS, "rect");
    for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: "white" })) back.setAttribute(name, value);
    svg.prepend(back);
    return svg;
  }

  svg() { save(`${this.variable.name}.svg`, new Blob([new XMLSerializer().serializeToString(this.source())], { type: "image/svg+xml" })); }

  png() {
    const svg = this.source(), image = new Image(), scale = 3;
    image.onload = () => {
      const canvas = element("canvas");
      canvas.width = scale * svg.getAttribute("width");
      canvas.height = scale * svg.getAttribute("height");
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(`${this.variable.name}.png`, blob));
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
  }

  /** Drag along the axis to zoom in, double-click to see all again. */
  zoomable(picture) {
    const svg = picture.tagName === "svg" ? picture : [...picture.querySelectorAll("svg")].pop();
    const scale = picture.scale?.("x");
    if (!scale?.invert) return;
    let start = null;
    const local = (event) => ((event.clientX - svg.getBoundingClientRect().left) * svg.viewBox.baseVal.width) / svg.getBoundingClientRect().width;
    // Before the tip hears of it, which lets nobody else.
    svg.addEventListener("pointerdown", (event) => { start = local(event); event.preventDefault(); }, true);
    svg.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const ends = [start, local(event)].sort((a, b) => a - b);
      start = null;
      if (ends[1] - ends[0] > 12) { this.zoom = ends.map(scale.invert); this.draw(); }
    });
    svg.addEventListener("dblclick", () => { this.zoom = null; this.draw(); });
    svg.style.cursor = "crosshair";
  }
}

function save(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The page ----------------------------------------------------------------------------------------

const panels = [];
let waiting = 0;

function redraw() {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => { for (const panel of panels) if (panel.seen) panel.draw(); else panel.stale = true; });
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const panel = panels.find((one) => one.figure === entry.target);
    panel.seen = entry.isIntersecting;
    if (panel.seen && panel.stale) { panel.stale = false; panel.draw(); }
  }
}, { rootMargin: "300px" });

function add(spec, first = false) {
  if (!VARIABLES.has(spec.variable)) return;
  const panel = new Panel(spec);
  // Of the pictures that a page begins with, none is empty, and no two are the same.
  const same = (one) => ["variable", "x", "color", "kind"].every((what) => one[what] === panel[what]);
  if (!first && (!known(panel.variable) || panels.some(same))) return;
  panel.stale = true;
  panels.push(panel);
  const grid = document.getElementById("pictures");
  if (first) grid.prepend(panel.figure); else grid.append(panel.figure);
  watcher.observe(panel.figure);
  return panel;
}

function shared() {
  const bar = document.getElementById("chosen");
  const used = new Set(REPORT.variables.flatMap((variable) => variable.dims));
  for (const dim of SHARED.filter((dim) => dim !== "step" && used.has(dim) && REPORT.labels[dim].length > 1)) {
    state.at[dim] = 0;
    const select = element("select", { id: `choose-${dim}`, onchange: (event) => { state.at[dim] = +event.target.value; redraw(); } });
    REPORT.labels[dim].forEach((label, i) => select.append(element("option", { value: i, title: label }, short(dim, label))));
    bar.append(element("label", {}, `${words(dim)} `, select));
  }
  if (used.has("step") && REPORT.labels.step.length > 1) {
    const last = REPORT.labels.step.length - 1, shown = element("output", {}, String(REPORT.labels.step[last]));
    state.at.step = last;
    const slider = element("input", { type: "range", id: "choose-step", min: 0, max: last, value: last, oninput: (event) => { state.at.step = +event.target.value; shown.value = REPORT.labels.step[state.at.step]; redraw(); } });
    bar.append(element("label", {}, `${REPORT.unit} `, slider, " ", shown));
  }
  for (const [key, text, wanted] of [["logx", "log x", true], ["logy", "log y", true], ["chance", "times chance", REPORT.variables.some(nullOf)], ["mean", `mean over ${ROW === "run" ? "seeds" : `${ROW}s`}`, REPORT.levels.length < REPORT.rows.labels.length]]) {
    if (wanted) bar.append(element("label", {}, element("input", { type: "checkbox", id: `choose-${key}`, checked: state[key], onchange: (event) => { state[key] = event.target.checked; redraw(); } }), ` ${text}`));
  }
}

/** What is shown: rows, or the configurations of many rows. */
function legend() {
  const box = document.getElementById("rows");
  const levels = REPORT.levels.map((level, i) => ({ ...level, id: "", rows: [...state.rows].filter((row) => REPORT.rows.labels[row].level === i) }));
  const each = REPORT.rows.labels.map((row, i) => ({ name: row.name, id: row.id, color: REPORT.levels[row.level].color, rows: [i] }));
  const shown = state.mean ? levels : each;
  const choose = (one, on) => one.rows.forEach((row) => { if (on) state.rows.add(row); else state.rows.delete(row); });
  for (const one of shown) {
    const check = element("input", { type: "checkbox", checked: true, "aria-label": one.name, onchange: (event) => { choose(one, event.target.checked); redraw(); } });
    const count = one.rows.length > 1 ? ` (${one.rows.length})` : "";
    box.append(element("label", { title: one.id }, check, element("i", { style: `background:${one.color}` }), one.name + count));
  }
  if (shown.length > 3) {
    const all = (on) => { box.querySelectorAll("input").forEach((check, i) => { check.checked = on; choose(shown[i], on); }); redraw(); };
    box.append(element("button", { type: "button", onclick: () => all(true) }, "all"), element("button", { type: "button", onclick: () => all(false) }, "none"));
  }
}

function everything() {
  const select = document.getElementById("variable");
  const groups = new Map();
  for (const variable of REPORT.variables) {
    const group = variable.group || "results";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(variable);
  }
  for (const [group, of] of groups) {
    const box = element("optgroup", { label: group });
    for (const variable of of.sort((a, b) => a.name.localeCompare(b.name))) box.append(element("option", { value: variable.name }, `${variable.name} – ${variable.title}`));
    select.append(box);
  }
  document.getElementById("add").addEventListener("click", () => { add({ variable: select.value }, true).figure.scrollIntoView({ block: "center" }); });
}

async function main() {
  try {
    await unpack();
  } catch (error) {
    document.getElementById("pictures").textContent = `This browser cannot show the pictures (${error.message}); one of 2023 or later can.`;
    return;
  }
  state.mean = REPORT.rows.labels.length > MANY && REPORT.levels.length < REPORT.rows.labels.length;
  shared();
  legend();
  everything();
  document.getElementById("pictures").replaceChildren();
  REPORT.pictures.forEach((spec) => add(spec));
  window.addEventListener("resize", redraw);
  window.addEventListener("beforeprint", () => panels.forEach((panel) => panel.draw()));
  document.body.dataset.ready = "yes";
}

main();
