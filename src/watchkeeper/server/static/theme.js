// Light or dark: what the system says, unless the reader chose. Runs before the page is painted.
(() => {
  const root = document.documentElement;
  const key = "watchkeeper-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const read = (name) => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // storage may be forbidden
    }
  };
  const keep = (name, value) => {
    try {
      localStorage.setItem(name, value);
    } catch {
      // then it lasts for this page only
    }
  };
  const chosen = read(key);
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const now = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
  const tell = () => document.dispatchEvent(new CustomEvent("themechange", { detail: now() }));
  system.addEventListener("change", tell);

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-theme-toggle]");
    if (button) {
      button.hidden = false;
      button.addEventListener("click", () => {
        root.dataset.theme = now() === "dark" ? "light" : "dark";
        keep(key, root.dataset.theme);
        tell();
      });
    }
    for (const field of document.querySelectorAll("[data-remember]")) {
      const name = `watchkeeper-${field.dataset.remember}`;
      field.value ||= read(name) ?? "";
      field.form.addEventListener("submit", () => keep(name, field.value));
    }
  });
})();
