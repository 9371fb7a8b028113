// Light or dark, as the reader chose last time. Runs before the page is painted, so that it does not flash.
try {
  const chosen = localStorage.getItem("watchkeeper-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage may be forbidden; then the system's choice holds
}
