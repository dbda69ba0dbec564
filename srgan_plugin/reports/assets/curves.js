// Curves of runs: smoothing, overlays and reading of values; uPlot draws them.
(() => {
  const root = document.getElementById("curves");
  if (!root) return;
  const data = JSON.parse(document.getElementById("curves-data").textContent);
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const make = (tag, text, properties = {}) =>
    Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text }, properties);
  const state = { smoothing: 0, log: false, hidden: new Set() };
  const HEIGHT = 190;
  let plots = [];

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (run) => style(`--series-${run % 6}`);
  const show = (value) => (value === null || value === undefined ? "–"
    : Math.abs(value) >= 1e4 || (value && Math.abs(value) < 1e-3) ? (+value.toPrecision(3)).toExponential() : +value.toPrecision(4));

  // Return the exponential moving average, with bias correction at the start.
  function smooth(values) {
    const beta = state.smoothing;
    let sum = 0;
    let weight = 0;
    return values.map((value) => {
      if (value === null) return null;
      sum = beta * sum + (1 - beta) * value;
      weight = beta * weight + 1 - beta;
      return sum / weight;
    });
  }

  const nameOf = (series) => [data.runs[series.run], series.label].filter(Boolean).join(", ");

  function summary(chart) {
    return chart.series.map(({ x, y, ...rest }) => {
      const [low, high] = [Math.min(...y), Math.max(...y)];
      return `${nameOf(rest)}: from ${show(y[0])} at iteration ${x[0]} to ${show(y[y.length - 1])} at ${x[x.length - 1]}, between ${show(low)} and ${show(high)}`;
    }).join("; ");
  }

  // Return the line style (0 to 2) of a series, which depends on its label only.
  const kind = (chart, series) => [...new Set(chart.series.map((s) => s.label))].indexOf(series.label) % 3;

  function seriesOf(chart, shown) {
    const lines = shown.flatMap((series) => {
      const dash = [[], [6, 4], [2, 3]][kind(chart, series)];
      const points = { show: series.x.length < 40, size: 5 };
      const base = { stroke: colour(series.run), dash, spanGaps: true };
      const clear = { ...base, label: nameOf(series), width: 1.75, points };
      return state.smoothing ? [{ ...base, label: "", width: 1, alpha: 0.28, points: { show: false } }, clear] : [clear];
    });
    return [{ label: "iteration" }, ...lines];
  }

  function tables(shown) {
    return shown.flatMap((series) => {
      const both = [[series.x, series.y], [series.x, smooth(series.y)]];
      return state.smoothing ? both : [both[0]];
    });
  }

  function axis(more) {
    return { stroke: style("--muted"), font: `12px ${style("--sans")}`, ticks: { show: false },
      grid: { stroke: style("--rule"), width: 1 }, ...more };
  }

  function readOut(figure, plot, chart, shown) {
    const place = plot.cursor.idx;
    const values = shown.map((series, i) => {
      const column = state.smoothing ? 2 * i + 2 : i + 1;
      const row = plot.data[column];
      let at = place ?? plot.data[0].length - 1;
      while (at > 0 && (row[at] === null || row[at] === undefined)) at--;
      return [series, row[at]];
    });
    const at = place === null || place === undefined ? "last" : `at ${plot.data[0][place]}`;
    const output = figure.querySelector("output");
    output.replaceChildren(make("span", state.smoothing ? `${at}, smoothed` : at), ...values.map(([series, value]) => {
      const item = make("span", show(value));
      item.style.color = colour(series.run);
      item.title = nameOf(series);
      const line = make("b", undefined, { className: `line k${kind(chart, series)}` });
      item.prepend(line, make("i", series.label ? ` ${series.label} ` : " "));
      return item;
    }));
  }

  function draw(figure, chart) {
    const shown = chart.series.filter((series) => !state.hidden.has(series.run));
    const box = figure.querySelector(".plot");
    box.replaceChildren();
    if (!shown.length) return null;
    // Decibels are logarithmic already.
    const log = state.log && chart.section !== "Validation" && shown.every((series) => series.y.every((v) => v > 0));
    const update = (plot) => readOut(figure, plot, chart, shown);
    const options = {
      width: Math.max(box.clientWidth, 200), height: HEIGHT, legend: { show: false },
      scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
      cursor: { sync: { key: "iteration" }, y: false, points: { size: 6 }, drag: { x: true, y: false } },
      axes: [axis({ size: 28 }), axis({ size: 58, values: (_, ticks) => ticks.map((v) => (v === null ? "" : String(show(v)))) })],
      series: seriesOf(chart, shown),
      hooks: { setCursor: [update], ready: [update] },
    };
    const columns = tables(shown);
    const joined = uPlot.join(columns.map(([x, y]) => [x, y]));
    return new uPlot(options, joined, box);
  }

  function onKey(event, plot) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !plot) return;
    event.preventDefault();
    const last = plot.data[0].length - 1;
    const at = Math.min(Math.max((plot.cursor.idx ?? (by > 0 ? -1 : last + 1)) + by, 0), last);
    plot.setCursor({ left: plot.valToPos(plot.data[0][at], "x"), top: 10 });
  }

  function figureOf(chart, number) {
    const figure = make("figure", undefined, { tabIndex: 0 });
    const caption = make("figcaption");
    caption.append(make("h4", chart.unit && chart.unit !== "it/s" ? `${chart.title} (${chart.unit})` : chart.title), make("output"));
    figure.setAttribute("aria-label", `${chart.title}. ${summary(chart)}`);
    figure.append(caption, make("div", undefined, { className: "plot" }));
    figure.addEventListener("keydown", (event) => onKey(event, plots[number]));
    return figure;
  }

  function drawAll() {
    plots.forEach((plot) => plot?.destroy());
    plots = data.charts.map((chart, i) => draw(root.querySelectorAll("figure")[i], chart));
  }

  function layOut() {
    const sections = new Map();
    data.charts.forEach((chart, i) => {
      if (!sections.has(chart.section)) {
        const grid = make("div", undefined, { className: "charts" });
        sections.set(chart.section, grid);
        part("charts").append(make("h3", chart.section), grid);
      }
      sections.get(chart.section).append(figureOf(chart, i));
    });
  }

  function runSwitches() {
    part("runs").append(...data.runs.map((name, run) => {
      const label = make("label", undefined, { className: "check" });
      const box = make("input", undefined, { type: "checkbox", checked: true });
      const swatch = make("i", undefined, { className: `swatch s${run % 6}` });
      box.addEventListener("change", () => {
        if (box.checked) state.hidden.delete(run);
        else state.hidden.add(run);
        drawAll();
      });
      label.append(box, swatch, document.createTextNode(` ${name}`));
      return label;
    }));
    part("runs").hidden = data.runs.length < 2;
  }

  function start() {
    runSwitches();
    layOut();
    const means = Math.max(...data.charts.flatMap((chart) => chart.series.map((series) => series.mean)));
    part("curves-note").textContent = "Values are over iterations. Drag across a chart to enlarge a range; when a chart has the focus, the arrow keys show values." +
      (means > 1 ? ` Long curves show means of up to ${means} logged values.` : "");
    part("smoothing").addEventListener("input", (event) => {
      state.smoothing = Number(event.target.value);
      part("smoothing-value").textContent = state.smoothing ? state.smoothing.toFixed(2) : "off";
      drawAll();
    });
    part("smoothing-value").textContent = "off";
    part("log").addEventListener("change", (event) => { state.log = event.target.checked; drawAll(); });
    part("reset").addEventListener("click", drawAll);
    let waiting;
    window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 120); });
    window.addEventListener("themechange", drawAll);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    drawAll();
  }
  start();
})();
