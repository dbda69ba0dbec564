"use strict";
// The rating page. `study` has codes only; this script never decodes which method made an image.
(() => {
  const LABELS = ["bad", "poor", "fair", "good", "excellent"]; // ITU-T P.910, five grades of quality
  const PAUSE = 300; // ms of plain grey between images, so that differences do not show as flicker
  const $ = (id) => document.getElementById(id);
  const study = JSON.parse($("study").textContent);
  const scenes = new Map(study.items);
  const image = $("image"), stage = $("stage");
  let session = null; // state that is saved; `newSession` has its fields
  let position = 0; // index of the current image, in the examples or in `session.order`
  let since = 0; // time at which it was shown; 0 while no image is shown
  let request = 0; // number of the latest call of `show`

  // --- Order -------------------------------------------------------------------------------------

  // Return the seeded random number generator mulberry32.
  function generator(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  // Return a random order of the codes. Repeated versions come once early and once late. A scene
  // follows itself only if no other scene remains.
  function randomOrder(seed) {
    const random = generator(seed), repeated = new Set(study.repeats);
    const keyed = study.items.map(([code]) => [random() * (repeated.has(code) ? 0.5 : 1), code]);
    for (const code of study.repeats) keyed.push([0.6 + random() * 0.4, code]);
    const order = keyed.sort((a, b) => a[0] - b[0]).map(([, code]) => code);
    for (let i = 1; i < order.length; i++) {
      const last = scenes.get(order[i - 1]);
      const other = order.findIndex((code, j) => j >= i && scenes.get(code) !== last);
      if (other > i) order.splice(i, 0, ...order.splice(other, 1));
    }
    return order;
  }

  function newSession(rater) {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0];
    return {
      format: study.format, version: study.version, study: study.id, rater, seed,
      started: new Date().toISOString(), finished: null, calibrated: 0,
      order: randomOrder(seed), ratings: [], key: study.key,
    };
  }

  // --- Saving ------------------------------------------------------------------------------------

  const storageKey = (rater) => `srgan_plugin.mos/${study.id}/${rater}`;

  function save() {
    try {
      localStorage.setItem(storageKey(session.rater), JSON.stringify(session));
    } catch {
      problem("This browser cannot store your scores: use “Save a file” before you close the page.");
    }
  }

  function stored(rater) {
    try {
      const found = JSON.parse(localStorage.getItem(storageKey(rater)));
      return found && !whyNotResumable(found) ? found : null;
    } catch {
      return null;
    }
  }

  // Return why a saved session cannot be resumed here; "" if it can.
  function whyNotResumable(saved) {
    if (!saved || saved.format !== study.format) return "This is not a file of saved scores.";
    if (saved.study !== study.id) return "This file belongs to another study.";
    const expected = [...scenes.keys(), ...study.repeats].sort().join();
    const fits = Array.isArray(saved.order) && [...saved.order].sort().join() === expected
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

  const isCalibrated = () => session.calibrated >= study.calibration.length;

  function enter(saved) {
    session = saved;
    save();
    proceed();
  }

  // Show the next step of the session: an example, the pause before the images, or the end.
  function proceed() {
    const done = session.ratings.length, total = session.order.length;
    if (!isCalibrated()) return show(session.calibrated);
    if (done === total) return view("end");
    $("ready-title").textContent = done ? `Welcome back, ${session.rater}` : "Now the images";
    $("ready-text").textContent = done
      ? `You have rated ${done} of ${total} images.`
      : `The examples are over. ${total} images follow; use all scores from 1 to 5 as they fit. `
        + "Some images are shown twice.";
    $("again").hidden = !study.calibration.length;
    view("ready");
    $("begin").focus();
  }

  // --- An image ----------------------------------------------------------------------------------

  async function show(index) {
    const current = ++request, examples = !isCalibrated();
    position = index;
    since = 0;
    if (document.body.dataset.view !== "rate") view("rate");
    const [code, expected] = examples ? study.calibration[index] : [session.order[index], 0];
    const total = examples ? study.calibration.length : session.order.length;
    $("place").textContent = `${examples ? "Example" : "Image"} ${index + 1} of ${total}`;
    $("bar").max = total;
    $("bar").value = index;
    $("back").disabled = index === 0;
    $("hint").hidden = !examples;
    $("hint").textContent = examples
      ? `Example: an image like this one gets ${expected}, ${LABELS[expected - 1]}. Press ${expected}.` : "";
    const given = examples ? null : session.ratings[index]?.rating;
    for (const button of $("scores").children) {
      const score = Number(button.dataset.score);
      button.disabled = examples && score !== expected;
      button.setAttribute("aria-pressed", String(score === given));
    }
    image.hidden = true;
    const bytes = Uint8Array.from(atob($(`image-${code}`).textContent), (c) => c.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
    const next = new Image();
    next.src = url;
    try {
      await Promise.all([next.decode(), new Promise((resolve) => setTimeout(resolve, PAUSE))]);
      if (current !== request) return;
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

  // Width in device pixels at which an image pixel is shown.
  const magnification = () => Math.max(1, Math.floor(devicePixelRatio));

  // Centre the image at a position that is a whole number of CSS and of device pixels, because browsers
  // round others.
  function place() {
    const ratio = devicePixelRatio, box = stage.getBoundingClientRect();
    // Browsers truncate lengths to 1/64 pixel, so a hundredth is added.
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
    if (!isCalibrated()) {
      if (score !== study.calibration[position][1]) return;
      session.calibrated = position + 1;
      save();
      return isCalibrated() ? proceed() : show(session.calibrated);
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
    if (!isCalibrated()) session.calibrated = position - 1;
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
    if (!found) return enter(newSession(rater));
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
    } catch { /* reported below */ }
    const reason = whyNotResumable(saved);
    if (reason) return problem(reason);
    enter({ ...saved, key: study.key });
  });

  $("count").textContent = study.items.length + study.repeats.length;
  view("start");
  $("rater").focus();
})();
