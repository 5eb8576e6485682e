// Draws the panels of a saved view; circuitsvis' bundle is unpacked once for all of them.

const own = { AttentionRows };

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  return window.CircuitsVis;
}

// circuitsvis' small pictures of heads react to the mouse only: make them buttons.
function reachable(mount) {
  for (const name of mount.querySelectorAll("h4")) {
    const picture = name.parentElement.parentElement;
    if (picture.getAttribute("role") === "button") continue;
    picture.setAttribute("role", "button");
    picture.setAttribute("tabindex", "0");
    picture.setAttribute("aria-label", `show head ${name.textContent}`);
    picture.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      picture.click();
    });
  }
  for (const canvas of mount.querySelectorAll("canvas:not([aria-label])")) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "attention pattern; its strongest links are in the table above it");
  }
}

async function drawAll() {
  const panels = JSON.parse(document.getElementById("panels").textContent);
  const packed = document.getElementById("circuitsvis");
  const theirs = packed ? await unpack(packed.textContent) : null;
  for (const { id, component, props } of panels) {
    const mount = document.getElementById(id);
    if (own[component]) {
      own[component](mount, props);
      continue;
    }
    new MutationObserver(() => reachable(mount)).observe(mount, { childList: true, subtree: true });
    theirs.render(id, theirs[component], props);
  }
  document.body.dataset.state = "ready";
}

drawAll().catch((error) => {
  const said = document.createElement("p");
  said.className = "failed";
  said.textContent = `This page could not be drawn (${error.message}); open it in a current browser.`;
  document.querySelector("main").prepend(said);
});
