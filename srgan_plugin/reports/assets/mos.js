"use strict";
// The rating page. `study` holds codes only: which method made an image is not known to this script.
(() => {
  const LABELS = ["bad", "poor", "fair", "good", "excellent"]; // ITU-T P.910, five grades of quality
  const PAUSE = 300; // ms of plain surround, so that no two images are compared by their flicker
  const $ = (id) => document.getElementById(id);
  const study = JSON.parse($("study").textContent);
  const scenes = new Map(study.items);
  const image = $("image"), stage = $("stage");
  let session = null; // what is saved: see `fresh`
  let position = 0; // of the image on show: among the examples, or in `session.order`
  let since = 0; // when it was shown; 0 while none is
  let request = 0; // of the latest image asked for

  // --- Order -------------------------------------------------------------------------------------

  // mulberry32, a small generator with a seed.
  function generator(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  // At random; what is shown twice comes once early and once late. The same scene follows itself
  // only where nothing else is left.
  function draw(seed) {
    const random = generator(seed), twice = new Set(study.repeats);
    const drawn = study.items.map(([code]) => [random() * (twice.has(code) ? 0.5 : 1), code]);
    for (const code of study.repeats) drawn.push([0.6 + random() * 0.4, code]);
    const order = drawn.sort((a, b) => a[0] - b[0]).map(([, code]) => code);
    for (let i = 1; i < order.length; i++) {
      const last = scenes.get(order[i - 1]);
      const other = order.findIndex((code, j) => j >= i && scenes.get(code) !== last);
      if (other > i) order.splice(i, 0, ...order.splice(other, 1));
    }
    return order;
  }

  function fresh(rater) {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0];
    return {
      format: study.format, version: study.version, study: study.id, rater, seed,
      started: new Date().toISOString(), finished: null, calibrated: 0,
      order: draw(seed), ratings: [], key: study.key,
    };
  }

  // --- Saving ------------------------------------------------------------------------------------

  const slot = (rater) => `srgan_plugin.mos/${study.id}/${rater}`;

  function save() {
    try {
      localStorage.setItem(slot(session.rater), JSON.stringify(session));
    } catch {
      problem("This browser does not keep your scores: use “Save a file” before you close the page.");
    }
  }

  function stored(rater) {
    try {
      const found = JSON.parse(localStorage.getItem(slot(rater)));
      return found && !misfit(found) ? found : null;
    } catch {
      return null;
    }
  }

  // Why a saved session cannot be continued here; "" where it can.
  function misfit(saved) {
    if (!saved || saved.format !== study.format) return "This is not a file of saved scores.";
    if (saved.study !== study.id) return "This file belongs to another study.";
    const wanted = [...scenes.keys(), ...study.repeats].sort().join();
    const fits = Array.isArray(saved.order) && [...saved.order].sort().join() === wanted
      && Array.isArray(saved.ratings) && saved.ratings.length <= saved.order.length
      && saved.ratings.every((r) => r && [1, 2, 3, 4, 5].includes(r.rating))
      && typeof saved.rater === "string" && saved.rater && Number.isInteger(saved.calibrated);
    return fits ? "" : "This file is damaged.";
  }

  function download() {
    const link = document.createElement("a");
    const text = JSON.stringify(session, null, 1);
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const name = session.rater.replace(/[^\p{L}\p{N}_-]+/gu, "_");
    link.download = `ratings-${study.id.slice(0, 6)}-${name}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  // --- Views -------------------------------------------------------------------------------------

  function view(name) {
    for (const id of ["start", "ready", "rate", "end"]) $(id).hidden = id !== name;
    problem("");
    document.body.dataset.view = name;
  }

  function problem(text) {
    $("problem").textContent = text;
    $("problem").hidden = !text;
  }

  const rating = () => session.calibrated >= study.calibration.length;

  function enter(saved) {
    session = saved;
    save();
    proceed();
  }

  // To where the session stands: an example, the pause before the images, an image, or the end.
  function proceed() {
    const done = session.ratings.length, total = session.order.length;
    if (!rating()) return show(session.calibrated);
    if (done === total) return view("end");
    $("ready-title").textContent = done ? `Welcome back, ${session.rater}` : "Now the images";
    $("ready-text").textContent = done
      ? `You have rated ${done} of ${total} images.`
      : `The examples are over. ${total} images follow; use all scores from 1 to 5 as they fit. `
        + "Some images come twice.";
    $("again").hidden = !study.calibration.length;
    view("ready");
    $("begin").focus();
  }

  // --- An image ----------------------------------------------------------------------------------

  async function show(index) {
    const mine = ++request, examples = !rating();
    position = index;
    since = 0;
    if (document.body.dataset.view !== "rate") view("rate");
    const [code, wanted] = examples ? study.calibration[index] : [session.order[index], 0];
    const total = examples ? study.calibration.length : session.order.length;
    $("place").textContent = `${examples ? "Example" : "Image"} ${index + 1} of ${total}`;
    $("bar").max = total;
    $("bar").value = index;
    $("back").disabled = index === 0;
    $("hint").hidden = !examples;
    $("hint").textContent = examples
      ? `Example: an image like this one gets ${wanted}, ${LABELS[wanted - 1]}. Press ${wanted}.` : "";
    const before = examples ? null : session.ratings[index]?.rating;
    for (const button of $("scores").children) {
      const score = Number(button.dataset.score);
      button.disabled = examples && score !== wanted;
      button.setAttribute("aria-pressed", String(score === before));
    }
    image.hidden = true;
    const bytes = Uint8Array.from(atob($(`image-${code}`).textContent), (c) => c.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
    const next = new Image();
    next.src = url;
    try {
      await Promise.all([next.decode(), new Promise((resolve) => setTimeout(resolve, PAUSE))]);
      if (mine !== request) return;
      image.src = url;
      await image.decode();
    } catch {
      return problem("An image of this page is damaged: ask for the file again.");
    } finally {
      URL.revokeObjectURL(url);
    }
    image.hidden = false;
    stage.scrollTo(0, 0);
    place();
    since = performance.now();
  }

  // So many device pixels to a side show one pixel of the image.
  const magnification = () => Math.max(1, Math.floor(devicePixelRatio));

  // In the middle, at a CSS pixel that is a whole device pixel, too: a browser rounds others.
  function place() {
    const ratio = devicePixelRatio, box = stage.getBoundingClientRect();
    // A hundredth more: browsers cut lengths to a 64th of a pixel.
    const length = (pixels) => (pixels * magnification() + 0.01) / ratio;
    const width = length(image.naturalWidth), height = length(image.naturalHeight);
    const start = (edge, room, length) => {
      const middle = Math.ceil(edge + Math.max(0, (room - length) / 2));
      const off = (at) => Math.abs(at * ratio - Math.round(at * ratio));
      const near = Array.from({ length: 20 }, (_, i) => middle + i);
      return (near.find((at) => off(at) < 1e-3) ?? middle) - edge;
    };
    image.style.width = `${width}px`;
    image.style.height = `${height}px`;
    image.style.left = `${start(box.left, stage.clientWidth, width)}px`;
    image.style.top = `${start(box.top, stage.clientHeight, height)}px`;
  }

  function give(score) {
    if (!since || document.body.dataset.view !== "rate") return;
    if (!rating()) {
      if (score !== study.calibration[position][1]) return;
      session.calibrated = position + 1;
      save();
      return rating() ? proceed() : show(session.calibrated);
    }
    const seconds = Math.round(performance.now() - since) / 1000;
    session.ratings[position] = { rating: score, seconds, magnification: magnification() };
    const complete = session.ratings.length === session.order.length;
    if (complete) session.finished = new Date().toISOString();
    save();
    if (position + 1 < session.order.length) return show(position + 1);
    since = 0;
    view("end");
  }

  function back() {
    if (document.body.dataset.view !== "rate" || position === 0) return;
    if (!rating()) session.calibrated = position - 1;
    show(position - 1);
  }

  // --- Controls ----------------------------------------------------------------------------------

  LABELS.forEach((label, index) => {
    const button = document.createElement("button");
    button.dataset.score = index + 1;
    button.append(Object.assign(document.createElement("b"), { textContent: index + 1 }));
    button.append(Object.assign(document.createElement("span"), { textContent: label }));
    button.addEventListener("click", () => give(index + 1));
    $("scores").append(button);
  });

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("input")) return;
    if (/^[1-5]$/.test(event.key)) give(Number(event.key));
    if (event.key === "Backspace") back();
  });
  addEventListener("resize", () => image.hidden || place());
  $("back").addEventListener("click", back);
  $("begin").addEventListener("click", () => show(session.ratings.length));
  $("reopen").addEventListener("click", () => show(session.order.length - 1));
  $("again").addEventListener("click", () => {
    session.calibrated = 0;
    proceed();
  });
  for (const button of document.querySelectorAll(".save")) button.addEventListener("click", download);

  $("who").addEventListener("submit", (event) => {
    event.preventDefault();
    const rater = $("rater").value.trim();
    if (!rater) return;
    const found = stored(rater);
    if (!found) return enter(fresh(rater));
    $("known").hidden = false;
    $("known").firstElementChild.textContent =
      `${rater} has rated ${found.ratings.length} of ${found.order.length} images in this browser. `
      + "If that was not you, give another name.";
    $("resume").onclick = () => enter(found);
    $("resume").focus();
  });
  $("rater").addEventListener("input", () => ($("known").hidden = true));
  $("file").addEventListener("change", async (event) => {
    let saved = null;
    try {
      saved = JSON.parse(await event.target.files[0].text());
    } catch { /* said below */ }
    const wrong = misfit(saved);
    if (wrong) return problem(wrong);
    enter({ ...saved, key: study.key });
  });

  $("count").textContent = study.items.length + study.repeats.length;
  view("start");
  $("rater").focus();
})();
