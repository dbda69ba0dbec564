// Switch between the light, the dark and the system theme.
(() => {
  const button = document.getElementById("theme");
  if (!button) return;
  const kinds = ["auto", "light", "dark"];
  const read = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const keep = (kind) => { try { localStorage.setItem("theme", kind); } catch { /* no storage for files */ } };
  function set(kind) {
    if (kind === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = kind;
    button.textContent = `Theme: ${kind}`;
    button.dataset.kind = kind;
    window.dispatchEvent(new Event("themechange"));
  }
  button.addEventListener("click", () => {
    const next = kinds[(kinds.indexOf(button.dataset.kind) + 1) % kinds.length];
    keep(next);
    set(next);
  });
  set(kinds.includes(read()) ? read() : "auto");
})();
