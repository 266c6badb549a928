// Before the first paint: the theme that was chosen in this browser. Without a choice the system's holds.
(function () {
  "use strict";
  try {
    const chosen = localStorage.getItem("vaylix-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch (_refused) {
    // A browser that keeps nothing for pages follows the system.
  }
})();
