// What every page can do beside showing: switch between light and dark, and remember the reader's name.

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

function read(name) {
  try {
    return localStorage.getItem(`watchkeeper-${name}`);
  } catch {
    return null; // storage may be forbidden
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(`watchkeeper-${name}`, value);
  } catch {
    // then it lasts for this page only
  }
}

function tell() {
  document.dispatchEvent(new CustomEvent("themechange"));
}

system.addEventListener("change", tell);
const button = document.querySelector("[data-theme-toggle]");
button.hidden = false;
button.addEventListener("click", () => {
  const now = root.dataset.theme ?? (system.matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  keep("theme", root.dataset.theme);
  tell();
});

for (const field of document.querySelectorAll("[data-remember]")) {
  field.value ||= read(field.dataset.remember) ?? "";
  field.form.addEventListener("submit", () => keep(field.dataset.remember, field.value));
}
