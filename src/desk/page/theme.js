// Runs before the first paint, so that a page that was set to dark does not flash.
(() => {
  const chosen = localStorage.getItem("feedback-desk.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
