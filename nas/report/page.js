"use strict";
const { trials, figures, first, columns, fronts, thinned } = JSON.parse(document.getElementById("data").textContent);
const byId = new Map(trials.map((trial, i) => [trial && trial.id, i]));
const narrow = matchMedia("(max-width: 40rem)"), dark = matchMedia("(prefers-color-scheme: dark)");
const coarse = matchMedia("(pointer: coarse)");

const colour = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const plain = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const hover = trial => [`<b>${plain(trial.id)}</b>`, ...trial.columns.map(([label, short]) => `${plain(label)}  ${plain(short)}`)].join("<br>");
const place = name => columns.findIndex(column => column[0] === name);
const finite = value => value !== null && Number.isFinite(value);

function element(tag, text, more = {}) {
  const made = Object.assign(document.createElement(tag), more);
  made.textContent = text;
  return made;
}

/* ---- figures ---- */

function between(figure, x, y, chosen) {
  // the figure of two columns that are no plane of the front's: its points alone
  const made = structuredClone(figure), [at, up] = [place(x), place(y)];
  const points = trials.map((trial, i) => i).filter(i => trials[i] && finite(trials[i].values[at]) && finite(trials[i].values[up]));
  for (const trace of made.data) {
    const kept = trace.meta === "line" ? [] : trace.meta === "front" ? points.filter(i => chosen.has(i)) : points;
    Object.assign(trace, { error_x: null, error_y: null, x: kept.map(i => trials[i].values[at]), y: kept.map(i => trials[i].values[up]), customdata: kept });
  }
  const positive = points.every(i => trials[i].values[at] > 0) && columns[at][2];
  made.layout.xaxis = { ...made.layout.xaxis, title: { text: plain(columns[at][1]) }, type: positive ? "log" : "linear", tickmode: "auto", tickvals: null, tickformat: "" };
  made.layout.yaxis = { ...made.layout.yaxis, title: { text: plain(columns[up][1]) }, tickformat: "" };
  made.layout.shapes = [];
  return made;
}

function within(figure, front, x, bound) {
  // the figure with the front that there is where x is at most a bound
  const made = structuredClone(figure), all = made.data.find(trace => trace.meta === "all");
  const kept = all.customdata.map((i, n) => n).filter(n => front.has(all.customdata[n]));
  for (const trace of made.data) {
    if (trace.meta === "line") Object.assign(trace, { x: [], y: [] });
    if (trace.meta === "front") Object.assign(trace, { error_x: null, error_y: null, x: kept.map(n => all.x[n]), y: kept.map(n => all.y[n]), customdata: kept.map(n => all.customdata[n]) });
  }
  made.layout.shapes = [...made.layout.shapes, { type: "line", xref: "x", yref: "paper", x0: bound, x1: bound, y0: 0, y1: 1, line: { width: 1.5 } }];
  return made;
}

function nondominated(candidates, objectives) {
  const losses = candidates.map(i => objectives.map(([name, sign]) => sign * trials[i].values[place(name)]));
  return candidates.filter((_, a) => !losses.some((other, b) => b !== a && other.every((v, k) => v <= losses[a][k]) && other.some((v, k) => v < losses[a][k])));
}

function drawn(figure, chosen) {
  const [ink, muted, line, accent, paper] = ["ink", "muted", "line", "accent", "paper"].map(colour);
  const { data, layout } = structuredClone(figure);
  for (const trace of data) {
    if (trace.line) trace.line.color = accent;
    for (const bar of [trace.error_x, trace.error_y]) if (bar) bar.color = muted;
    if (!trace.marker) continue;
    trace.marker.color = trace.meta === "front" ? accent : muted;
    if (trace.marker.line) trace.marker.line.color = paper;
    trace.text = trace.customdata.map(i => hover(trials[i]));
    trace.hovertemplate = "%{text}<extra></extra>";
  }
  for (const [n, i] of chosen.entries()) {
    const at = data[0].customdata.indexOf(i);
    if (at >= 0) data.push({
      type: "scatter", mode: "markers", hoverinfo: "skip", x: [data[0].x[at]], y: [data[0].y[at]],
      marker: { size: 19, color: "rgba(0,0,0,0)", symbol: n ? "square" : "circle", line: { width: 1.5, color: ink } },
    });
  }
  for (const axis of [layout.xaxis, layout.yaxis]) Object.assign(axis, { gridcolor: line, fixedrange: coarse.matches });
  for (const shape of layout.shapes) shape.line.color = muted;
  const family = getComputedStyle(document.body).fontFamily;
  layout.font = { color: muted, size: narrow.matches ? 12 : 13, family };
  layout.hoverlabel = { bgcolor: paper, bordercolor: muted, align: "left", font: { color: ink, size: 12.5, family } };
  layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: muted, activecolor: accent };
  layout.dragmode = coarse.matches ? false : "zoom";
  return [data, layout];
}

/* ---- a trial in detail ---- */

function command(text) {
  const row = element("div", "", { className: "copied" }), button = element("button", "copy", { type: "button" });
  const shown = element("pre", text, { className: "command" });
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(shown);
    try { await navigator.clipboard.writeText(text); } catch { document.execCommand("copy"); }
    button.textContent = "copied";
  });
  row.append(shown, button);
  return row;
}

function picture({ width, height, box: [w, h], boxes, lines }) {
  const make = (tag, attributes) => {
    const made = document.createElementNS(document.getElementById("blank").namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const svg = make("svg", { viewBox: `-2 -2 ${width + 64} ${height + 4}`, width: width + 64, height: height + 4, role: "img", "aria-label": "The network's blocks; the table holds the same" });
  for (const d of lines) svg.append(make("path", { d }));
  for (const [x, y, name, shape] of boxes) {
    const short = name.length > 24 ? "…" + name.slice(-23) : name;
    svg.append(make("rect", { x, y, width: w, height: h, rx: 5 }));
    for (const [text, down] of [[short, 17], [shape, 32]]) {
      const words = make("text", { x: x + w / 2, y: y + down });
      words.textContent = text;
      svg.append(words);
    }
  }
  const frame = element("div", "", { className: "picture", tabIndex: 0 });
  frame.append(svg);
  return frame;
}

function blocks(heads, rows) {
  const table = element("table", ""), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const [i, word] of heads.entries()) head.append(element("th", word, { className: i > 2 ? "number" : "" }));
  for (const row of rows) {
    const cells = body.insertRow();
    for (const [i, text] of row.entries()) cells.append(element("td", text, { className: i > 2 ? "number" : "" }));
  }
  const frame = element("div", "", { className: "wide" });
  frame.append(table);
  return frame;
}

function marked(text, other) {
  // the words of a text, those marked that another has not at their place (longest common subsequence)
  const made = element("pre", ""), a = text.split(/(?<=[\s\]\[;])/), b = other.split(/(?<=[\s\]\[;])/);
  if (a.length * b.length > 4e6) return element("pre", text);
  const long = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--) long[i][j] = a[i] === b[j] ? long[i + 1][j + 1] + 1 : Math.max(long[i + 1][j], long[i][j + 1]);
  for (let i = 0, j = 0; i < a.length;) {
    if (j < b.length && a[i] === b[j]) { made.append(a[i++]); j++; }
    else if (j < b.length && long[i][j + 1] >= long[i + 1][j]) j++;
    else made.append(element("mark", a[i++]));
  }
  return made;
}

function described(trial, other) {
  const title = element("h3", trial.id + " "), list = document.createElement("dl");
  title.append(element("span", `trial ${trial.number}${trial.front ? ", on a front" : ""}, evaluated in ${trial.seconds}`));
  const theirs = new Map((other ? other.columns : []).map(([label, short]) => [label, short]));
  for (const [label, short, exact] of trial.columns) {
    const pair = element("div", "", { title: exact }), value = element("dd", "");
    value.append(other && theirs.get(label) !== short ? element("mark", short) : short);
    pair.append(element("dt", label), value);
    list.append(pair);
  }
  const article = document.createElement("article"), text = (mine, his) => other && his ? marked(mine, his) : element("pre", mine);
  article.append(title, list, element("h3", "Take it out, train it fully"), ...trial.commands.map(command));
  if (trial.network) article.append(element("h3", "The network by its blocks"), picture(trial.network.drawing), blocks(trial.network.heads, trial.network.rows));
  trial.derivations.forEach(([task, words], i) => {
    article.append(element("h3", task ? `Derivation for ${task}` : "Derivation"), text(words, other && other.derivations[i] && other.derivations[i][1]));
    if (trial.operators[i]) article.append(element("h3", "As operators"), text(trial.operators[i], other && other.operators[i]));
  });
  return article;
}

/* ---- a front ---- */

for (const section of document.querySelectorAll("[data-front]")) {
  const number = Number(section.dataset.front), plot = section.querySelector(".plot");
  if (!plot) continue;
  const form = section.querySelector("form"), detail = section.querySelector(".detail"), slider = form.elements.most;
  const { objectives, candidates, members } = fronts[number], mine = new Set(members);
  let chosen = -1, held = -1;
  const axes = () => [form.elements.other_x.value || form.x.value, form.elements.other_y.value || form.y.value];

  const bounds = x => [...new Set(trials.filter(trial => trial && finite(trial.values[place(x)])).map(trial => trial.values[place(x)]))].sort((a, b) => a - b);
  const front = (x, bound) => {
    const kept = i => trials[i].values[place(x)] <= bound;
    const asked = objectives.find(([name]) => name === x);
    return new Set(asked && asked[1] > 0 ? members.filter(kept) : nondominated(candidates.filter(kept), objectives));
  };
  const figure = () => {
    const [x, y] = axes(), known = figures[number][`${y} ${x}`], values = bounds(x);
    slider.max = Math.max(0, values.length - 1);
    if (slider.dataset.x !== x) Object.assign(slider, { value: slider.max }).dataset.x = x;
    const whole = slider.value === slider.max, bound = values[Number(slider.value)];
    const now = whole ? mine : front(x, bound);
    const out = section.querySelector(".most output"), ids = section.querySelector(".most .ids");
    out.textContent = whole ? "no further limit" : `${columns[place(x)][1]} at most ${bound.toLocaleString("en", { maximumSignificantDigits: 4 })}: ${now.size} on the front${thinned ? " of those drawn" : ""}`;
    ids.replaceChildren(...(whole ? [] : [...now].slice(0, 30).map(i => element("button", trials[i].id, { type: "button" }))));
    for (const row of section.querySelectorAll("tr[data-id]")) row.classList.toggle("beyond", !now.has(byId.get(row.dataset.id)));
    const base = known || between(Object.values(figures[number])[0], x, y, mine);
    return whole ? base : within(base, now, x, bound);
  };
  const draw = () => {
    const [data, layout] = drawn(figure(), [chosen, held]);
    return Plotly.react(plot, data, layout, { displaylogo: false, showSendToCloud: false, plotlyServerURL: "", responsive: true, displayModeBar: !coarse.matches && "hover", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]] });
  };
  const describe = () => {
    const two = held >= 0 && held !== chosen, hold = element("button", held >= 0 ? "let go" : "hold beside the next", { type: "button", className: "hold" });
    hold.addEventListener("click", () => { held = held >= 0 ? -1 : chosen; describe(); draw(); });
    const shown = two ? [described(trials[held], trials[chosen]), described(trials[chosen], trials[held])] : [described(trials[chosen], null)];
    detail.classList.toggle("two", two);
    detail.replaceChildren(hold, ...shown);
    detail.hidden = false;
  };
  const choose = i => {
    chosen = i;
    describe();
    for (const row of section.querySelectorAll("tr[data-id]")) row.classList.toggle("chosen", row.dataset.id === trials[i].id);
    return draw();
  };
  const begin = number || first[number] === null ? draw() : choose(byId.get(first[number]));
  begin.then(() => plot.on("plotly_click", event => {
    const point = event.points.find(one => one.customdata !== undefined);
    if (point) choose(point.customdata);
  }));
  begin.then(() => plot.on("plotly_relayout", event => {
    const near = "xaxis.range[0]" in event, whole = event["xaxis.autorange"];
    if (plot.layout.xaxis.tickvals && (near || whole)) Plotly.relayout(plot, { "xaxis.tickmode": near ? "auto" : "array", "yaxis.tickformat": near ? "" : figure().layout.yaxis.tickformat });
  }));
  form.addEventListener("change", event => {
    if (event.target.type === "radio") form.elements[`other_${event.target.name}`].value = "";
    draw();
  });
  slider.addEventListener("input", draw);
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  section.addEventListener("click", event => {
    const row = event.target.closest("td button") && event.target.closest("tr[data-id]"), id = event.target.closest(".ids button");
    if (!row && !id) return;
    choose(byId.get(row ? row.dataset.id : id.textContent));
    detail.scrollIntoView({ block: "nearest", behavior: "smooth" });
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  table.tHead.addEventListener("click", event => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.closest("th"), at = heads.indexOf(head), now = head.getAttribute("aria-sort");
    const other = { ascending: "descending", descending: "ascending" };
    const order = now ? other[now] : button.dataset.best;
    for (const one of heads) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const value = row => parseFloat(row.cells[at].dataset.value);
    const sign = order === "ascending" ? 1 : -1;
    body.append(...[...body.rows].sort((a, b) => {
      const [u, v] = [value(a), value(b)];
      return Number.isNaN(u) - Number.isNaN(v) || sign * (u - v) || 0;
    }));
  });
}
