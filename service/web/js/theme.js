// Before anything is drawn: the theme that was chosen here, if one was. A classic script, so that it
// runs in time.
(function () {
  try {
    const chosen = localStorage.getItem("infoprune-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is forbidden: the system's theme holds.
  }
})();
