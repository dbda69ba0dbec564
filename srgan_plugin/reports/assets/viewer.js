// The image viewer: two methods with a divider between them, and all methods under a magnifier.
(() => {
  const root = document.getElementById("viewer");
  if (!root) return;
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const MAP = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66],
    [245, 125, 21], [250, 193, 39], [252, 255, 164]]; // colour map "inferno" for errors
  const LENS = 168; // CSS pixels
  const methods = data.methods;
  for (const entry of data.images) {
    for (const row of Object.values(entry.scores)) {
      for (const name of Object.keys(row)) row[name] ??= Infinity; // null in JSON: the PSNR of equal images
    }
  }
  const compared = methods.filter((name) => name !== data.reference && name !== "LR");
  const state = {
    order: data.images.map((_, i) => i), at: 0,
    left: compared[0] ?? methods[0], right: compared[1] ? compared[compared.length - 1] : data.reference ?? methods[0],
    split: 50, smooth: false, error: false, range: 64, zoom: 4, point: [0.5, 0.5],
    pinned: false, alone: false,
  };
  const image = () => data.images[state.order[state.at]];
  const make = (tag, text, properties = {}) =>
    Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text }, properties);

  // --- images -------------------------------------------------------------------------------
  const decoded = new Map();
  function decode(entry, method) {
    const source = entry.sources[method];
    if (source === undefined) return Promise.resolve(null);
    if (!decoded.has(source)) {
      if (decoded.size > 60) decoded.delete(decoded.keys().next().value);
      const element = new Image();
      element.src = source;
      decoded.set(source, element.decode().then(() => element));
    }
    return decoded.get(source);
  }

  function pixels(element, width, height) {
    const canvas = make("canvas", undefined, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingEnabled = false;
    context.drawImage(element, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  }

  function colour(share) {
    const place = Math.min(share, 1) * (MAP.length - 1);
    const low = Math.min(Math.floor(place), MAP.length - 2);
    return MAP[low].map((v, i) => v + (MAP[low + 1][i] - v) * (place - low));
  }

  // Draw the mean absolute difference of the channels; `state.range` levels and more are white.
  function drawError(canvas, element, reference) {
    const { naturalWidth: width, naturalHeight: height } = reference;
    const out = pixels(element, width, height);
    const truth = pixels(reference, width, height).data;
    const table = Array.from({ length: 766 }, (_, sum) => colour(sum / 3 / state.range));
    for (let i = 0; i < truth.length; i += 4) {
      const a = out.data;
      const sum = Math.abs(a[i] - truth[i]) + Math.abs(a[i + 1] - truth[i + 1]) +
        Math.abs(a[i + 2] - truth[i + 2]);
      [a[i], a[i + 1], a[i + 2]] = table[sum];
    }
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").putImageData(out, 0, 0);
  }

  function drawWhole(canvas, element) {
    Object.assign(canvas, { width: element.naturalWidth, height: element.naturalHeight });
    canvas.getContext("2d").drawImage(element, 0, 0);
  }

  let turn = 0;
  async function drawStage() {
    const current = ++turn;
    const entry = image();
    const other = data.reference ?? state.left;
    const [left, right, reference] = await Promise.all(
      [state.left, state.right, other].map((name) => decode(entry, name)));
    if (current !== turn) return;
    for (const [side, element] of [["left", left], ["right", right]]) {
      const canvas = part(`${side}-image`);
      const odd = entry.odd.includes(state[side]);
      const error = state.error && reference && element && !odd && !entry.odd.includes(other);
      if (error) drawError(canvas, element, reference);
      else if (element) drawWhole(canvas, element);
      else Object.assign(canvas, { width: entry.width, height: entry.height });
      const more = !element ? ": no such image" : odd ? ": of another size" : "";
      const what = `${error ? "Error of " : ""}${state[side]}${more}`;
      canvas.setAttribute("aria-label", `${what}, ${entry.name}`);
      part(`${side}-tag`).textContent = what;
    }
    root.dataset.shown = `${entry.name}|${state.left}|${state.right}`;
  }

  // An image pixel covers a whole number of device pixels, so that all squares have the same size. An
  // image that does not fit is shown smaller and smooth, because squares would alias.
  function layOut() {
    const { width, height } = image();
    const stage = part("stage");
    const ratio = window.devicePixelRatio || 1;
    const room = Math.min(root.clientWidth, (window.innerHeight * 0.72 * width) / height);
    const times = Math.floor((Math.min(room, Math.max(width * 2, 480)) * ratio) / width);
    stage.style.width = `${times ? (width * times) / ratio : room}px`;
    stage.style.aspectRatio = `${width} / ${height}`;
    part("split").style.width = stage.style.width;
    stage.classList.toggle("smooth", state.smooth || !times);
  }

  function drawSplit() {
    const split = state.alone ? 100 : state.split;
    part("right-image").style.clipPath = `inset(0 0 0 ${split}%)`;
    part("divider").style.left = `${split}%`;
    part("split").value = state.split;
  }

  // --- magnifier ----------------------------------------------------------------------------
  function lensArea() {
    const { width, height } = image();
    const side = Math.min(LENS / state.zoom, width, height);
    const place = (share, size) => Math.min(Math.max(share * size - side / 2, 0), size - side);
    return { side, x: place(state.point[0], width), y: place(state.point[1], height) };
  }

  async function drawLenses() {
    const entry = image();
    const { side, x, y } = lensArea();
    const frame = part("frame").style;
    frame.left = `${(x / entry.width) * 100}%`;
    frame.top = `${(y / entry.height) * 100}%`;
    frame.width = `${(side / entry.width) * 100}%`;
    frame.height = `${(side / entry.height) * 100}%`;
    part("zoom-value").textContent = `×${state.zoom}`;
    for (const method of methods) decode(entry, method); // start decoding all of them
    for (const lens of part("lenses").children) {
      const element = await decode(entry, lens.method);
      lens.hidden = !element;
      if (!element || entry !== image()) continue;
      const size = Math.round(LENS * (window.devicePixelRatio || 1));
      const canvas = lens.firstChild;
      Object.assign(canvas, { width: size, height: size });
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = state.smooth;
      const [k, l] = [element.naturalWidth / entry.width, element.naturalHeight / entry.height];
      context.drawImage(element, x * k, y * l, side * k, side * l, 0, 0, size, size);
      canvas.setAttribute("aria-label", `${lens.method}, magnified`);
    }
  }

  function makeLenses() {
    part("lenses").replaceChildren(...methods.map((method) => {
      const lens = make("li", undefined, { method });
      lens.append(make("canvas", undefined, { role: "img" }), make("span", method));
      return lens;
    }));
  }

  // --- metrics and order --------------------------------------------------------------------
  const digits = (name) => (/^SSIM|LPIPS|DISTS/.test(name) ? 4 : 2);
  const lowerIsBetter = (name) => /NIQE|LPIPS|DISTS/.test(name);
  const score = (entry, method, measure) => entry.scores[method]?.[measure];
  const show = (value, measure) => (value === undefined ? "–"
    : Number.isFinite(value) ? value.toFixed(digits(measure)) : "∞");
  // Return the images for which every method has the metric: means over them are comparable.
  function meanOver(measure) {
    const has = (m) => data.images.some((entry) => score(entry, m, measure) !== undefined);
    const needed = methods.filter(has);
    return data.images.filter((entry) => needed.every((m) => score(entry, m, measure) !== undefined));
  }
  function mean(method, measure) {
    const values = meanOver(measure).map((entry) => score(entry, method, measure)).filter((v) => v !== undefined);
    return values.length ? values.reduce((a, b) => a + b) / values.length : undefined;
  }

  function sortBy([measure, method]) {
    const sign = lowerIsBetter(measure) ? -1 : 1;
    const value = (i) => score(data.images[i], method, measure);
    const known = state.order.filter((i) => value(i) !== undefined);
    known.sort((a, b) => sign * (value(a) - value(b)) || a - b); // two infinite values give NaN, then the index decides
    const rest = data.images.map((_, i) => i).filter((i) => !known.includes(i));
    state.order = [...known, ...rest];
    makeStrip(measure, method);
    goTo(0);
  }

  function makeStrip(measure, method) {
    part("strip").replaceChildren(...state.order.map((index, place) => {
      const entry = data.images[index];
      const button = make("button", undefined, { type: "button" });
      const thumb = make("img", undefined, { alt: "", loading: "lazy", decoding: "async" });
      thumb.src = entry.sources[method] ?? entry.sources[methods.find((m) => entry.sources[m])];
      const value = measure ? `${show(score(entry, method, measure), measure)}` : "";
      button.append(thumb, make("span", entry.name), make("small", value));
      button.addEventListener("click", () => goTo(place));
      const item = make("li");
      item.append(button);
      return item;
    }));
  }

  function cells(kind, texts) {
    const row = make("tr");
    row.append(...texts.map((text, i) => make(kind === "th" || i === 0 ? "th" : "td", text,
      kind === "th" ? { scope: "col" } : i === 0 ? { scope: "row" } : {})));
    return row;
  }

  function drawScores() {
    const table = part("scores");
    const entry = image();
    const names = data.metrics;
    const head = make("thead");
    head.append(cells("th", ["method", ...names, ...(data.images.length > 1 ? names.map((n) => `mean ${n}`) : [])]));
    const body = make("tbody");
    for (const method of methods.filter((m) => entry.scores[m])) {
      const means = data.images.length > 1 ? names.map((n) => show(mean(method, n), n)) : [];
      body.append(cells("td", [method, ...names.map((n) => show(score(entry, method, n), n)), ...means]));
    }
    const counts = new Set(names.map((name) => meanOver(name).length));
    const over = Math.min(...counts) < data.images.length
      ? `; means over ${[...counts].join(" or ")} of ${data.images.length} images, those that all methods have` : "";
    table.replaceChildren(make("caption", `Metrics of ${entry.name}${over}`), head, body);
    table.parentElement.hidden = !names.length || !body.children.length;
  }

  // --- perception against distortion --------------------------------------------------------
  const svg = (tag, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  function ticks(low, high, count) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw);
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
  }

  function drawTradeoff() {
    const measured = compared.filter((m) => Number.isFinite(mean(m, "NIQE")) && Number.isFinite(mean(m, "PSNR")));
    part("tradeoff").hidden = !measured.length;
    if (!measured.length) return;
    const width = Math.min(root.clientWidth, 640);
    const height = Math.round(width * 0.62);
    const box = { left: 44, right: 18, top: 12, bottom: 42 };
    const all = data.images.flatMap((e) => measured.map((m) => [score(e, m, "PSNR"), score(e, m, "NIQE")]))
      .filter((p) => p.every(Number.isFinite));
    const hr = mean(data.reference, "NIQE");
    const ys = [...all.map((p) => p[1]), ...(Number.isFinite(hr) ? [hr] : [])];
    const span = (values) => {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const pad = (high - low) * 0.08 || 0.5;
      return [low - pad, high + pad];
    };
    const [x0, x1] = span(all.map((p) => p[0]));
    const [y0, y1] = span(ys);
    const X = (v) => box.left + ((v - x0) / (x1 - x0)) * (width - box.left - box.right);
    const Y = (v) => height - box.bottom - ((v - y0) / (y1 - y0)) * (height - box.top - box.bottom);
    const words = measured.map((m) => `${m}: PSNR ${show(mean(m, "PSNR"), "PSNR")} dB, NIQE ${show(mean(m, "NIQE"), "NIQE")}`);
    const plot = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words.join("; ") });
    for (const v of ticks(x0, x1, 6)) {
      plot.append(svg("line", { x1: X(v), x2: X(v), y1: box.top, y2: height - box.bottom, class: "grid" }),
        svg("text", { x: X(v), y: height - box.bottom + 16, "text-anchor": "middle" }, +v.toFixed(6)));
    }
    for (const v of ticks(y0, y1, 5)) {
      plot.append(svg("line", { x1: box.left, x2: width - box.right, y1: Y(v), y2: Y(v), class: "grid" }),
        svg("text", { x: box.left - 6, y: Y(v) + 4, "text-anchor": "end" }, +v.toFixed(6)));
    }
    plot.append(svg("text", { x: width - box.right, y: height - 8, "text-anchor": "end" }, "PSNR (dB), better →"),
      svg("text", { x: box.left, y: height - 8 }, "↓ NIQE, better downwards"));
    if (Number.isFinite(hr)) {
      plot.append(svg("line", { x1: box.left, x2: width - box.right, y1: Y(hr), y2: Y(hr), class: "hr" }),
        svg("text", { x: width - box.right - 4, y: Y(hr) - 5, "text-anchor": "end", class: "label" }, data.reference));
    }
    const labels = []; // positions of labels drawn so far
    measured.forEach((method) => {
      const group = svg("g", { class: `series s${methods.indexOf(method) % 6}` });
      for (const entry of data.images) {
        const [x, y] = [score(entry, method, "PSNR"), score(entry, method, "NIQE")];
        if (![x, y].every(Number.isFinite)) continue;
        const dot = svg("circle", { cx: X(x), cy: Y(y), r: 3.5, class: entry === image() ? "now" : "one" });
        dot.append(svg("title", {}, `${method}, ${entry.name}: ${x.toFixed(2)} dB, NIQE ${y.toFixed(2)}`));
        group.append(dot);
      }
      const [x, y] = [X(mean(method, "PSNR")), Y(mean(method, "NIQE"))];
      const flip = x > width - 110;
      let lift = y - 8;
      while (labels.some(([a, b]) => Math.abs(a - x) < 90 && Math.abs(b - lift) < 13)) lift -= 14;
      labels.push([x, lift]);
      group.append(svg("rect", { x: x - 5.5, y: y - 5.5, width: 11, height: 11, transform: `rotate(45 ${x} ${y})`, class: "mean" }),
        svg("text", { x: x + (flip ? -12 : 12), y: lift, "text-anchor": flip ? "end" : "start", class: "label" }, method));
      plot.append(group);
    });
    part("plot").replaceChildren(plot);
  }

  // --- everything together ------------------------------------------------------------------
  function change() {
    for (const side of ["left", "right"]) part(side).value = state[side];
    for (const name of ["smooth", "error"]) part(name).checked = state[name];
    part("pin").checked = state.pinned;
    part("zoom").value = state.zoom;
    part("range-label").hidden = !state.error;
    part("count").textContent = `${state.at + 1} of ${data.images.length}`;
    [...part("strip").children].forEach((item, i) => {
      if (i === state.at) item.firstChild.setAttribute("aria-current", "true");
      else item.firstChild.removeAttribute("aria-current");
    });
    layOut();
    drawSplit();
    drawStage();
    drawLenses();
    drawScores();
    drawTradeoff();
  }

  function goTo(place) {
    state.at = place;
    if (!state.pinned) state.point = image().detail;
    change();
  }

  function step(by) {
    goTo((state.at + by + data.images.length) % data.images.length);
    const strip = part("strip");
    const item = strip.children[state.at];
    strip.scrollLeft = item.offsetLeft - strip.offsetLeft - strip.clientWidth / 2 + item.clientWidth / 2;
  }

  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  function movePoint(x, y) {
    state.point = [within(state.point[0] + x, 0, 1), within(state.point[1] + y, 0, 1)];
    drawLenses();
  }
  function moveSplit(to) {
    state.split = within(to, 0, 100);
    drawSplit();
  }
  const toggle = (name) => { state[name] = !state[name]; change(); };
  const swap = () => { [state.left, state.right] = [state.right, state.left]; change(); };
  const zoomTo = (value) => { state.zoom = within(value, 2, 16); change(); };

  const KEYS = {
    ArrowLeft: () => moveSplit(state.split - 2), ArrowRight: () => moveSplit(state.split + 2),
    ArrowUp: () => step(-1), ArrowDown: () => step(1),
    "+": () => zoomTo(state.zoom + 1), "=": () => zoomTo(state.zoom + 1), "-": () => zoomTo(state.zoom - 1),
    x: swap, n: () => toggle("smooth"), e: () => toggle("error"), p: () => toggle("pinned"),
    " ": () => { state.alone = true; drawSplit(); },
  };
  const SHIFTED = {
    ArrowLeft: () => movePoint(-0.02, 0), ArrowRight: () => movePoint(0.02, 0),
    ArrowUp: () => movePoint(0, -0.02), ArrowDown: () => movePoint(0, 0.02),
  };

  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = event.target;
    if (at.matches("select, input, summary, .scroll") || (at.matches("button") && event.key === " ")) return;
    const number = /^Digit([1-9])$/.exec(event.code);
    const method = number && methods[number[1] - 1];
    const action = method
      ? () => { state[event.shiftKey ? "left" : "right"] = method; change(); }
      : (event.shiftKey && SHIFTED[event.key]) || KEYS[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  function onPointer(event) {
    const box = part("stage").getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (event.buttons & 1) moveSplit(x * 100);
    if (!state.pinned) {
      state.point = [within(x, 0, 1), within(y, 0, 1)];
      drawLenses();
    }
  }

  function options(select, entries, action) {
    select.replaceChildren(...entries.map(([text, value]) => make("option", text, { value })));
    select.addEventListener("change", () => { action(select.value); });
  }

  function start() {
    part("note").textContent = data.note;
    part("warnings").append(...data.warnings.map((text) => make("li", text)));
    part("warnings").hidden = !data.warnings.length;
    for (const side of ["left", "right"]) {
      options(part(side), methods.map((m) => [m, m]), (value) => { state[side] = value; change(); });
    }
    options(part("range"), [16, 32, 64, 128, 255].map((n) => [String(n), n]), (value) => {
      state.range = Number(value);
      change();
    });
    part("range").value = state.range;
    const orders = data.metrics.flatMap((measure) => methods
      .filter((m) => data.images.some((e) => score(e, m, measure) !== undefined))
      .map((m) => [`${measure}, ${m}`, JSON.stringify([measure, m])]));
    options(part("sort"), orders, (value) => { sortBy(JSON.parse(value)); });
    part("sort").parentElement.hidden = !orders.length;
    const first = orders.map(([, value]) => value)
      .find((value) => value === JSON.stringify([data.metrics[0], state.right])) ?? orders[0]?.[1];
    for (const name of ["smooth", "error"]) part(name).addEventListener("change", () => toggle(name));
    part("pin").addEventListener("change", () => toggle("pinned"));
    part("swap").addEventListener("click", swap);
    part("split").addEventListener("input", (event) => moveSplit(Number(event.target.value)));
    part("zoom").addEventListener("input", (event) => zoomTo(Number(event.target.value)));
    root.addEventListener("keydown", onKey);
    root.addEventListener("keyup", (event) => {
      if (event.key === " " && state.alone) { state.alone = false; drawSplit(); }
    });
    const stage = part("stage");
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      onPointer(event);
    });
    stage.addEventListener("pointermove", onPointer);
    window.addEventListener("resize", () => { layOut(); drawTradeoff(); });
    makeLenses();
    if (first) {
      part("sort").value = first;
      sortBy(JSON.parse(first));
    } else {
      makeStrip();
      goTo(0);
    }
  }
  start();
})();
