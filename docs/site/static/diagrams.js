// Draws the diagrams of a page. Their colors fit a light background in both modes of the site.
mermaid.initialize({ startOnLoad: false, theme: "neutral", securityLevel: "strict" });
document.addEventListener("DOMContentLoaded", () => mermaid.run({ querySelector: ".mermaid" }));
