// Runs in the report's frame, which has no origin: it can reach neither the page nor its key. It gets the
// report from the page that shows it, and becomes it; scripts in a report do not run (CSP).
addEventListener("message", (event) => {
  if (event.source !== parent || typeof event.data?.html !== "string") return;
  const read = new DOMParser().parseFromString(event.data.html, "text/html");
  for (const link of read.querySelectorAll("a[href]")) {
    if (!(link.getAttribute("href") ?? "").startsWith("#")) link.removeAttribute("href");
  }
  for (const each of read.querySelectorAll(".scroll")) each.setAttribute("tabindex", "0");
  document.documentElement.replaceWith(document.adoptNode(read.documentElement));
});
